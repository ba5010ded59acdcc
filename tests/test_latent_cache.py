"""Latents on disk: the same as computed ones up to float16, and never taken for those of something else."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import no_file_larger_than
from tiny import tiny_prior

from difflid.data.real_pairs import PairSet
from difflid.errors import ConfigError, TrainingError
from difflid.prior import UNetPrior
from difflid.training.config import LoopConfig
from difflid.training.latent_cache import LatentCache
from difflid.training.restoration import NetworkRecipe, RestorationTrainingConfig, train_restoration

TIMESTEPS = (0, 500)


@pytest.fixture
def guides() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_latents_are_the_computed_ones_up_to_float16(guides: torch.Tensor, tmp_path: Path) -> None:
    prior = tiny_prior()
    computed = prior.encode(guides, TIMESTEPS)
    first = LatentCache(tmp_path, prior, TIMESTEPS).encode(guides)
    assert first.shape == computed.shape
    assert first.dtype == torch.float32
    torch.testing.assert_close(first, computed, rtol=1e-3, atol=1e-3)
    assert not torch.equal(first, computed)
    assert len(files(tmp_path)) == len(guides)


def test_what_is_known_is_not_computed(guides: torch.Tensor, tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, tiny_prior(), TIMESTEPS)
    first = cache.encode(guides[:2])
    for path in tmp_path.rglob("*.safetensors"):
        os.utime(path, (0, 0))
    again = cache.encode(guides.flip(0))
    torch.testing.assert_close(again[:, 1:].flip(1), first, rtol=0, atol=0)
    assert sorted(path.stat().st_mtime > 0 for path in tmp_path.rglob("*.safetensors")) == [False, False, True]


def test_another_prior_time_step_or_guide_is_another_file(guides: torch.Tensor, tmp_path: Path) -> None:
    noisy = UNetPrior(replace(tiny_prior().config, noise_seed=1))
    noisy.load_state_dict(tiny_prior().state_dict())
    for prior, timesteps in (
        (tiny_prior(), (0, 500)),
        (tiny_prior(), (0, 200)),
        (tiny_prior(1), (0, 500)),
        (noisy, (0, 500)),
    ):
        latents = LatentCache(tmp_path, prior, timesteps).encode(guides[:1])
        torch.testing.assert_close(latents, prior.encode(guides[:1], timesteps), rtol=1e-3, atol=1e-3)
    LatentCache(tmp_path, tiny_prior(), TIMESTEPS).encode(guides[:1].flip(-1))
    assert len(files(tmp_path)) == 5


def test_a_damaged_file_is_said_and_replaced(
    guides: torch.Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = LatentCache(tmp_path, tiny_prior(), TIMESTEPS)
    first = cache.encode(guides[:1])
    ((name, content),) = files(tmp_path).items()
    (tmp_path / name).write_bytes(content[:40])
    assert torch.equal(cache.encode(guides[:1]), first)
    assert f"{tmp_path / name} cannot be read" in caplog.text
    assert files(tmp_path) == {name: content}


def test_a_full_disk_is_said(guides: torch.Tensor, tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, tiny_prior(), TIMESTEPS)
    with no_file_larger_than(100), pytest.raises(TrainingError, match=r"cannot write .*\.safetensors.*Make room"):
        cache.encode(guides[:1])
    assert not files(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> RestorationTrainingConfig:
    rng = np.random.default_rng(0)
    for folder in ("hazy", "clear"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    tiny_prior().save(tmp_path / "prior")
    loop = LoopConfig(str(tmp_path / "plain"), images=8, batch=4, workers=0, bfloat16=False)
    return RestorationTrainingConfig(
        str(tmp_path / "prior"),
        loop,
        train_pairs={"x": PairSet(str(tmp_path))},
        network=NetworkRecipe((8, 8), (1, 0), (1, 1), (0, 2), guide_width=4, guide_middle=1),
        crop=16,
    )


def test_a_training_from_the_cache_is_the_training(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    train_restoration(config)
    runs = ("empty", "filled")
    for run in runs:
        loop = replace(config.loop, run=str(tmp_path / run))
        train_restoration(replace(config, loop=loop, latent_cache=str(tmp_path / "latents")))
    assert 3 <= len(files(tmp_path / "latents")) <= 6  # each pair as it is and mirrored
    plain, empty, filled = (weights(tmp_path / run) for run in ("plain", *runs))
    assert torch.equal(empty, filled)
    assert 0 < (empty - plain).abs().mean() < 1e-5  # float16; a step moves a weight by up to 4e-4


def weights(run: Path) -> torch.Tensor:
    model = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    return torch.cat([value.flatten() for value in model.values()])


@pytest.mark.parametrize("change", [{"frame": 0.5}, {"photos": "photos"}])
def test_what_never_comes_again_is_not_kept(config: RestorationTrainingConfig, change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="latent_cache is for pictures that come again"):
        replace(config, latent_cache="latents", **change)
