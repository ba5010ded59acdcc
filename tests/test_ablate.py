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


def test_every_row_is_trained_once_and_compared(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [recipe, "--runs", recipe.parent / "runs", "--seeds", "0", "1"]
    ablate(monkeypatch, *command)
    table = capsys.readouterr().out
    rows = runpy.run_path(str(SCRIPT))["ROWS"]
    assert [line.split(" | ")[0].lstrip("| ") for line in table.splitlines()[2:]] == list(rows)
    journals = sorted(recipe.parent.glob("runs/*/stats.jsonl"))
    assert len(journals) == 2 * len(rows)
    before = [journal.stat().st_mtime_ns for journal in journals]
    ablate(monkeypatch, *command)
    assert capsys.readouterr().out == table
    assert [journal.stat().st_mtime_ns for journal in journals] == before
    with pytest.raises(ConfigError, match="physics"):
        ablate(monkeypatch, *command, "--set", "physics=0.5")


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
