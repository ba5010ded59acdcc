import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_UNET

from difflid.errors import ConfigError
from difflid.prior import UNetPrior, UNetPriorConfig
from difflid.training.config import read_config
from difflid.training.journal import Sheet
from difflid.training.restoration import RestorationTrainingConfig

SCRIPT = Path(__file__).parents[1] / "scripts" / "ablate.py"
RECIPE = """
prior = "{0}/prior"
photos = "{0}/photos"
wholes = 4
validation_photos = 1
[network]
widths = []
encoder_blocks = []
decoder_blocks = []
heads = []
guide_width = 4
guide_middle = 1
guide_zoom = 2
guide_reviews = 1
[loop]
run = "{0}/run"
images = 4
batch = 4
workers = 0
bfloat16 = false
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    unet = TINY_UNET | {"sample_size": 32}
    UNetPrior(UNetPriorConfig(guide_size=32, unet=unet)).save(tmp_path / "prior")
    (tmp_path / "photos").mkdir()
    for index in range(40):
        pixels = np.random.default_rng(index).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(tmp_path))
    return tmp_path / "recipe.toml"


def ablate(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_rows_are_trained_once_and_compared(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["both", "none", "all levels of the prior", "levels, plain residual"]
    command = [recipe, "--runs", recipe.parent / "runs", "--seeds", "0", "1", "--rows", *rows]
    ablate(monkeypatch, *command)
    table = capsys.readouterr().out
    assert [line.split(" | ")[0].lstrip("| ") for line in table.splitlines()[2:]] == rows
    journals = sorted(recipe.parent.glob("runs/*/stats.jsonl"))
    assert len(journals) == 2 * len(rows)
    before = [journal.stat().st_mtime_ns for journal in journals]
    ablate(monkeypatch, *command)
    assert capsys.readouterr().out == table
    assert [journal.stat().st_mtime_ns for journal in journals] == before
    with pytest.raises(ConfigError, match="physics"):
        ablate(monkeypatch, *command, "--set", "physics=0.5")


def test_every_row_learns(recipe: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    for row, change in script["ROWS"].items():
        config = read_config(RestorationTrainingConfig, recipe, change.settings)
        training = script["Ablated"](config, change)
        training.loss(training.model, training.batches(4)[0]).backward()
        slopes = [weight.grad.abs().max() for weight in training.model.parameters() if weight.grad is not None]
        assert max(slopes) > 0, row


def test_rows_of_one_seed_begin_with_the_same_network(recipe: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    config = read_config(RestorationTrainingConfig, recipe)
    stems = []
    for row in ("both", "random weights", "none"):
        torch.manual_seed(3)
        model = script["Ablated"](config, script["ROWS"][row]).model
        stems.append(model.guide.stem.weight)
        latents = model.guide.latents.weight
    assert torch.equal(stems[0], stems[1])
    assert torch.equal(stems[0], stems[2])
    assert latents.abs().max() == 0


def test_without_depth_is_trained_but_not_validated(recipe: Path) -> None:
    (recipe.parent / "depth").mkdir()
    for index in range(40):
        Image.new("L", (4, 4), index).save(recipe.parent / "depth" / f"{index}.png")
    script = runpy.run_path(str(SCRIPT))
    config = read_config(RestorationTrainingConfig, recipe, [f"depth={recipe.parent}/depth"])
    deep, flat = (script["Ablated"](config, script["ROWS"][row]) for row in ("both", "ramps for depth"))
    assert all(photo.depth is not None for photo in deep._train + deep._validation + flat._validation)
    assert all(photo.depth is None for photo in flat._train)


def dehazer_of(recipe: Path, row: str, *, gate: float = 0.0):
    """The network of a row whose levels have not learnt: random, and so are the gates about their start."""
    script = runpy.run_path(str(SCRIPT))
    config = read_config(RestorationTrainingConfig, recipe, script["ROWS"][row].settings)
    torch.manual_seed(3)
    training = script["Ablated"](config, script["ROWS"][row])
    generator = torch.Generator().manual_seed(0)
    for name, weight in training.model.named_parameters():
        if name in ("head.weight", "coarse_residual.weight") or name.endswith("second.weight"):
            torch.nn.init.normal_(weight, std=0.1, generator=generator)
        elif ".gate.weight" in name and ".blocks." in name:
            torch.nn.init.normal_(weight, std=gate)
    return training, training._dehazer(training.model)


def test_pooling_changes_nothing_before_its_gates_have_learnt(recipe: Path) -> None:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    levels, pooling, learnt = (
        dehazer.restore(image, dehazer.encode(image)).clear
        for _, dehazer in (
            dehazer_of(recipe, "levels"),
            dehazer_of(recipe, "levels that pool"),
            dehazer_of(recipe, "levels that pool", gate=3.0),
        )
    )
    torch.testing.assert_close(pooling, levels)
    assert (learnt - levels).abs().max() > 0.01


def test_what_pools_sees_other_things_in_tiles(recipe: Path) -> None:
    hazy = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    hazy[..., 128:] *= 0.2
    for row, alike in (("levels", True), ("levels that pool", False)):
        training, dehazer = dehazer_of(recipe, row, gate=3.0)
        whole = dehazer.restore(hazy, dehazer.encode(hazy), tile=0).clear
        assert (training._mean_psnr(dehazer, [(hazy, whole)], Sheet(), 128) > 50) == alike


def test_a_plain_residual_adds_what_it_sees_and_nothing_else(recipe: Path) -> None:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    _, dehazer = dehazer_of(recipe, "levels, plain residual")
    restored = dehazer.restore(image, dehazer.encode(image))
    assert (restored.clear - image).abs().max() > 0.02
    with torch.no_grad():
        for layer in (dehazer.network.head, dehazer.network.coarse_residual):
            layer.weight.zero_()
    torch.testing.assert_close(dehazer.restore(image, dehazer.encode(image)).clear, image)


def test_tiles_and_what_only_some_rows_measure_stand_in_the_table(recipe: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    config = read_config(RestorationTrainingConfig, recipe, script["ROWS"]["levels"].settings)
    training = script["Ablated"](config, script["ROWS"]["levels"])
    scores = training.validate(training.model, Sheet())
    assert scores["in_tiles"] == pytest.approx(scores["synthetic"], abs=0.01)
    lines = script["table"]({"both": [{"synthetic": 1.0}] * 2, "levels": [{"synthetic": 2.0, "in_tiles": 3.0}] * 2})
    assert lines.splitlines()[2:] == ["| both | 1.00 | - |", "| levels | 2.00 (+1.00 ± 0.00) | 3.00 |"]
