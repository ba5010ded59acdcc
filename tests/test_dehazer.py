import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_NETWORK, tiny_dehazer, tiny_prior

from difflid.dehazer import Dehazer, DehazerConfig
from difflid.errors import ModelError
from difflid.network import DiffLI2D

SIZES = [(1, 1), (1, 50), (50, 1), (2, 3), (64, 64), (67, 129)]


@pytest.fixture(scope="module")
def dehazer() -> Dehazer:
    return tiny_dehazer()


@pytest.mark.parametrize("size", SIZES)
def test_every_size_comes_back_as_it_came(dehazer: Dehazer, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    result = dehazer.restore(image, dehazer.encode(image))
    assert result.clear.shape == image.shape
    assert result.transmission.shape == (2, 1, *size)
    assert 0 <= result.clear.min() <= result.clear.max() <= 1
    assert result.haze_score.shape == (2,)


@pytest.mark.parametrize("tile", [8, 24, 50, None])
@pytest.mark.parametrize("size", [(67, 129), (200, 90)])
def test_tiles_equal_the_whole_picture(dehazer: Dehazer, size: tuple[int, int], tile: int | None) -> None:
    image = torch.rand(1, 3, *size)
    condition = dehazer.encode(image)
    whole = dehazer.restore(image, condition, tile=0)
    tiled = dehazer.restore(image, condition, tile=tile)
    torch.testing.assert_close(tiled.clear, whole.clear, atol=1e-5, rtol=0)
    torch.testing.assert_close(tiled.transmission, whole.transmission, atol=1e-5, rtol=0)


def test_alone_or_in_a_batch_is_the_same(dehazer: Dehazer) -> None:
    batch = torch.rand(3, 3, 40, 56)
    together = dehazer.restore(batch, dehazer.encode(batch)).clear
    for index, image in enumerate(batch.split(1)):
        alone = dehazer.restore(image, dehazer.encode(image)).clear
        torch.testing.assert_close(alone, together[index : index + 1], atol=1e-5, rtol=0)


def test_two_runs_are_identical(dehazer: Dehazer) -> None:
    image = torch.rand(1, 3, 40, 56)
    first, second = (dehazer.restore(image, dehazer.encode(image)).clear for _ in range(2))
    assert torch.equal(first, second)


def test_strength_zero_is_the_picture_itself(dehazer: Dehazer) -> None:
    image = torch.rand(1, 3, 20, 30)
    assert torch.equal(dehazer.restore(image, dehazer.encode(image), strength=0).clear, image)


@pytest.mark.parametrize("settings", [{"strength": 2.1}, {"strength": -1.5}, {"strength": float("nan")}, {"tile": -1}])
def test_illegal_settings_are_refused(dehazer: Dehazer, settings: dict[str, float]) -> None:
    image = torch.rand(1, 3, 20, 30)
    with pytest.raises(ValueError, match="got"):
        dehazer.restore(image, dehazer.encode(image), **settings)  # type: ignore[arg-type]


def test_the_same_kind_comes_back(dehazer: Dehazer, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    result = dehazer(array)
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    picture = dehazer(Image.fromarray(array))
    assert np.array_equal(np.asarray(picture), result)
    Image.fromarray(array).save(tmp_path / "photo.png")
    assert np.array_equal(np.asarray(dehazer(tmp_path / "photo.png")), result)
    encoded = dehazer((tmp_path / "photo.png").read_bytes())
    assert isinstance(encoded, bytes)
    assert dehazer(torch.from_numpy(array).permute(2, 0, 1)).shape == (3, 20, 30)


def test_a_saved_model_is_the_same_model(dehazer: Dehazer, tmp_path: Path) -> None:
    dehazer.save_pretrained(tmp_path)
    first = Dehazer.from_pretrained(tmp_path)
    first.save_pretrained(tmp_path / "again")
    second = Dehazer.from_pretrained(tmp_path / "again")
    assert first.config == second.config == dehazer.config
    image = torch.rand(1, 3, 24, 24)
    results = [model.restore(image, model.encode(image)).clear for model in (dehazer, first, second)]
    assert torch.equal(results[1], results[2])
    torch.testing.assert_close(results[0], results[1], atol=5e-3, rtol=0)  # float16 weights


def test_no_such_model() -> None:
    with pytest.raises(ModelError, match="no model 'no-such-model'"):
        Dehazer.from_pretrained("no-such-model")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "prior/config.json", "prior/model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_folder_is_refused(dehazer: Dehazer, tmp_path: Path, file: str, damage: str) -> None:
    dehazer.save_pretrained(tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="is not a"):
        Dehazer.from_pretrained(tmp_path)


def test_weights_of_another_network_are_refused(dehazer: Dehazer, tmp_path: Path) -> None:
    dehazer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["guide_width"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="do not fit its config"):
        Dehazer.from_pretrained(tmp_path)


def test_a_prior_the_network_was_not_built_for_is_refused() -> None:
    from dataclasses import replace

    config = replace(TINY_NETWORK, latent_channels=16)
    with pytest.raises(ModelError, match="8 channels at 1/2, DiffLI2D was built for 16"):
        Dehazer(tiny_prior(), DiffLI2D(config), DehazerConfig(config))
