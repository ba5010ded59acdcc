import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from guided_unet import GuidedUNet, Shape
from test_training import no_file_larger_than

from difflid.cli.prior import prior
from difflid.errors import ConfigError, DataError, ModelError
from difflid.prior import UNetPrior

OPTIONS = ["--guide-size", "16", "--schedule", "cosine", "--qkv-order", "legacy", "--head-channels", "32"]
RECIPE = """
photos = "photos"
guide_size = 16
[unet]
sample_size = 16
[loop]
run = "runs/x"
images = 32
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(prior, [str(argument) for argument in arguments])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    torch.save(GuidedUNet(Shape()).state_dict(), path)
    return path


def test_convert_writes_a_prior_and_says_what_it_is(tmp_path: Path, checkpoint: Path) -> None:
    result = run("convert", checkpoint, tmp_path / "out", *OPTIONS)
    assert result.exit_code == 0, result.output
    assert "64 x 8 x 8 per time-step" in result.output
    assert UNetPrior.load(tmp_path / "out").config.schedule == "cosine"
    sizes = [(tmp_path / "out" / "model.safetensors").stat().st_size]
    run("convert", checkpoint, tmp_path / "wide", *OPTIONS, "--dtype", "float32")
    sizes.append((tmp_path / "wide" / "model.safetensors").stat().st_size)
    assert 1.8 < sizes[1] / sizes[0] < 2


def test_convert_never_overwrites(tmp_path: Path, checkpoint: Path) -> None:
    result = run("convert", checkpoint, tmp_path, *OPTIONS)
    assert isinstance(result.exception, DataError)
    assert "exists already" in str(result.exception)


def test_convert_asks_for_what_it_cannot_know(tmp_path: Path, checkpoint: Path) -> None:
    result = run("convert", checkpoint, tmp_path / "out")
    assert isinstance(result.exception, ModelError)
    assert "give guide_size, schedule" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_import_and_show(tmp_path: Path) -> None:
    unet = UNet2DModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "model")
    result = run("import", tmp_path / "model", tmp_path / "out", "--guide-size", 24)
    assert result.exit_code == 0, result.output
    shown = run("show", tmp_path / "out").output
    assert shown == result.output
    assert "24 x 24 pixels" in shown
    assert "linear, betas 0.0001 to 0.02" in shown


def test_a_full_disk_is_said_and_leaves_no_half_prior(tmp_path: Path, checkpoint: Path) -> None:
    with no_file_larger_than(4000):
        result = run("convert", checkpoint, tmp_path / "out", *OPTIONS)
    assert isinstance(result.exception, DataError)
    assert f"cannot write {tmp_path / 'out'}: " in str(result.exception)
    assert not list((tmp_path / "out").iterdir())
    assert run("convert", checkpoint, tmp_path / "out", *OPTIONS).exit_code == 0


def test_show_refuses_what_is_no_prior(tmp_path: Path) -> None:
    assert isinstance(run("show", tmp_path).exception, ModelError)


def test_train_prints_the_resolved_configuration(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    result = run("train", tmp_path / "recipe.toml", "--set", "loop.batch=4", "--set", "guide_size=32", "--dry-run")
    assert result.exit_code == 0, result.output
    config = json.loads(result.output)
    assert (config["guide_size"], config["loop"]["batch"], config["loop"]["rate"]) == (32, 4, 4e-4)


def test_train_refuses_an_unknown_key(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    result = run("train", tmp_path / "recipe.toml", "--set", "loop.bach=4", "--dry-run")
    assert isinstance(result.exception, ConfigError)
    assert "did you mean loop.batch" in str(result.exception)


def test_help_is_light() -> None:
    code = "import sys, difflid.cli.prior; sys.exit(bool({'torch', 'numpy', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
