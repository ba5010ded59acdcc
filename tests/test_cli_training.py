import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from difflid.cli import main

RECIPE = str(Path(__file__).parent.parent / "recipes" / "tiny-cpu.toml")


def photos(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def test_a_dry_run_prints_the_resolved_configuration() -> None:
    result = CliRunner().invoke(main, ["train", RECIPE, "--set", "loop.batch=4", "--dry-run"])
    assert result.exit_code == 0
    assert json.loads(result.output)["loop"]["batch"] == 4


def test_an_unknown_setting_is_an_error() -> None:
    result = CliRunner().invoke(main, ["train", RECIPE, "--set", "loop.bach=3", "--dry-run"])
    assert result.exit_code == 1
    assert "did you mean loop.batch" in result.output


def test_synthesize_writes_the_same_pairs_twice(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    for name in ("a", "b"):
        arguments = ["synthesize", str(source), "-o", str(tmp_path / name), "--count", "2"]
        result = CliRunner().invoke(main, [*arguments, "--sheet", str(tmp_path / f"{name}.jpg")])
        assert result.exit_code == 0, result.output
    hazy = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert [str(path) for path in hazy[:2]] == ["clear/0_0.png", "clear/0_1.png"]
    assert len(hazy) == 8
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in hazy)
    with Image.open(tmp_path / "a.jpg") as sheet:
        assert sheet.size == (3 * 2 * 266, 2 * 200)


def test_synthesize_names_a_missing_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["synthesize", str(tmp_path / "none"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "none" in result.output
