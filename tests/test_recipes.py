"""Every recipe trains, at reduced size: its own settings and data sets' naming, a tiny prior, network and pictures."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny import TINY_UNET, tiny_prior

from difflid.cli import main
from difflid.data.real_pairs import PairSet
from difflid.data.shards import write_shards
from difflid.dehazer import Dehazer
from difflid.zoo import embedded_models

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))
LOOP = {"images": 4, "batch": 4, "device": '"cpu"', "workers": 0, "compile": "false", "bfloat16": "false"}
NETWORK = {"widths": [8, 8], "encoder_blocks": [1, 0], "decoder_blocks": [1, 1], "heads": [0, 2], "guide_width": 4}
SIDE = (24, 32)

# Hazy and clear file of a scene, as the data sets name them.
NAMES: dict[str, Callable[[int], tuple[str, str]]] = {
    "folder": lambda scene: (f"hazy/{scene}.png", f"clear/{scene}.png"),
    "its": lambda scene: (f"hazy/{scene}_1_0.90179.png", f"clear/{scene}.png"),
    "ots": lambda scene: (f"hazy/part1/{scene:04}_{'0.8_0.08' if scene % 2 else '1_0.2'}.jpg", f"clear/{scene:04}.jpg"),
    "haze4k": lambda scene: (f"haze/{scene}_0.97_1.94.png", f"gt/{scene}.png"),
    "nh-haze": lambda scene: (f"{scene:02}_hazy.png", f"{scene:02}_GT.png"),
    "dense-haze": lambda scene: (f"hazy/{scene:02}_hazy.png", f"GT/{scene:02}_GT.png"),
}
SCENES = {"its": (1, 2, 1349, 1350, 1399), "haze4k": (1, 2900, 2901), "ots": (2, 51, 100, 8970)}


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIDE, 3), np.uint8)).save(path)


def data_set(folder: Path, rule: str) -> Path:
    for scene in SCENES.get(rule, (1, 45, 46, 50)):
        for name in NAMES[rule](scene):
            picture(folder / name, scene)
    return folder


def reduced(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings that put tiny things in the place of large ones; everything else stays as the recipe has it."""
    changes: dict[str, Any] = {f"loop.{key}": value for key, value in LOOP.items()}
    changes["loop.run"] = json.dumps(str(folder / "run"))
    if "photos" in recipe:
        for index in range(40):
            picture(folder / "photos" / f"{index}.png", index)
        changes["photos"] = json.dumps(str(folder / "photos"))
    if "unet" in recipe:
        return changes | {"guide_size": 16} | {f"unet.{key}": json.dumps(value) for key, value in TINY_UNET.items()}
    tiny_prior().save(folder / "prior")
    if "prior" not in recipe:
        return changes | {"guide_size": 16, "start": json.dumps(str(folder / "prior")), "up_path": '""'}
    changes |= {"prior": json.dumps(str(folder / "prior")), "crop": 16, "start": '""', "validation_photos": 1}
    coarse = not recipe.get("network", {}).get("widths", True)  # without levels
    changes |= {f"network.{key}": [] if coarse and isinstance(value, list) else value for key, value in NETWORK.items()}
    for table in ("train_pairs", "validation_pairs"):
        for name, pairs in recipe.get(table, {}).items():
            path = data_set(folder / name, pairs.get("rule", "folder"))
            changes[f"{table}.{name}.path"] = json.dumps(str(path))
    if "wholes" in recipe:
        changes |= {"wholes": 4, "loop.images": 8}
    if "shards" in recipe:
        write_shards(PairSet(str(folder / "ots"), "ots", ("0100..9999",)).pairs(), folder / "shards")
        changes["shards"] = json.dumps(str(folder / "shards"))
    if "latent_cache" in recipe:
        changes["latent_cache"] = json.dumps(str(folder / "latents"))
    if "repeats" in recipe:
        changes["repeats"] = json.dumps([str(RECIPES[0].parent.parent / path) for path in recipe["repeats"]])
    if "depth" in recipe:
        changes["depth"] = json.dumps(str(folder / "photos"))
    return changes


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_at_reduced_size(path: Path, tmp_path: Path) -> None:
    recipe = tomllib.loads(path.read_text())
    overrides = [f"--set={key}={value}" for key, value in reduced(recipe, tmp_path).items()]
    verb = ["prior", "train"] if "guide_size" in recipe else ["train"]
    result = CliRunner().invoke(main, [*verb, str(path), *overrides])
    assert result.exit_code == 0, result.output
    stats = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert set(recipe.get("validation_pairs", {})) <= set(stats[-1])
    if verb == ["train"]:
        assert Dehazer.from_pretrained(tmp_path / "run" / "result")(torch.rand(3, 20, 20)).shape == (3, 20, 20)


def test_a_recipe_starts_from_what_is_there() -> None:
    starts = [start for path in RECIPES if (start := tomllib.loads(path.read_text()).get("start"))]
    folders = [start for start in starts if start not in embedded_models()]
    assert len(starts) > len(folders) > 0
    assert all((RECIPES[0].parent.parent / folder).is_dir() or folder.startswith("runs/") for folder in folders)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_hardware_and_time(path: Path) -> None:
    said = " ".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert "CPU cores" in said or "A100" in said
    assert "hours" in said or "minutes" in said
