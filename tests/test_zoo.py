import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from tiny import tiny_dehazer

from difflid.dehazer import Dehazer
from difflid.errors import ModelError
from difflid.zoo import DEFAULT, embedded_models, find_model, find_prior

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub without a connection, and what was downloaded from it before: one model."""
    repository = tmp_path / "models--someone--tiny"
    tiny_dehazer().save_pretrained(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_the_default_is_embedded() -> None:
    assert DEFAULT in embedded_models()
    assert find_model() == find_model(DEFAULT)


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_a_model_of_the_hub(hub: Path, revision: str | None) -> None:
    assert hub in find_model("someone/tiny", revision=revision).parents
    image = torch.rand(1, 3, 20, 24)
    loaded, saved = Dehazer.from_pretrained("someone/tiny", revision=revision), tiny_dehazer()
    torch.testing.assert_close(
        loaded.restore(image, loaded.encode(image)).clear,
        saved.restore(image, saved.encode(image)).clear,
        atol=0.02,
        rtol=0,
    )


@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_give_is_said() -> None:
    with pytest.raises(ModelError, match="someone/else is not a folder, and the hub cannot be reached"):
        find_model("someone/else")
    with pytest.raises(ModelError, match="cannot upload the model to someone/tiny"):
        tiny_dehazer().push_to_hub("someone/tiny")


@pytest.mark.parametrize("name", ["no-such-model", "a/b/c", "/no/such/folder"])
def test_an_unknown_model_is_an_error(name: str) -> None:
    with pytest.raises(ModelError, match="no model"):
        find_model(name)


def test_the_prior_of_embedded_models_lies_beside_them_and_that_of_others_within(tmp_path: Path) -> None:
    folders = [find_model(name) for name in embedded_models()]
    (shared,) = {find_prior(folder) for folder in folders}
    assert (shared / "model.safetensors").is_file()
    assert find_prior(Path(os.path.relpath(folders[0]))) == shared
    Dehazer.from_pretrained().save_pretrained(tmp_path / "mine")
    assert find_prior(tmp_path / "mine") == tmp_path / "mine" / "prior"
    assert Dehazer.from_pretrained(tmp_path / "mine").prior.spec == Dehazer.from_pretrained(DEFAULT).prior.spec


def test_the_variant_for_smoke_lies_outside_the_package_and_sees_smoke_everywhere() -> None:
    folder = Path(__file__).parents[1] / "weights" / "difflid-dense-haze"
    assert folder.name not in embedded_models()
    hazy = 0.6 + 0.05 * torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    smoke = Dehazer.from_pretrained(folder)
    seen = smoke.restore(hazy, smoke.encode(hazy))
    assert seen.transmission.mean() < 0.5
    assert seen.clear.std() > 2 * hazy.std()
