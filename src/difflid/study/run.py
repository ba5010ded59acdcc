"""The study of a prior: decoders, probes and maps at every time-step of a grid."""

import hashlib
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difflid.data.dataset import load_photos
from difflid.data.photos import load_squares, photo_files, split_photos
from difflid.errors import ConfigError, DataError
from difflid.metrics import psnr, ssim
from difflid.prior import Prior, UNetPrior
from difflid.prior.latents import TIMESTEPS
from difflid.study.decoders import Decoder, decode, train_decoder
from difflid.study.findings import Estimate, Pictures, PrincipalMap, Study, StudyConfig, Timestep
from difflid.study.probes import answers, latent_features, pixel_features
from difflid.study.samples import VEILS, HazySamples, clear_guides, encode, hazy_samples, veiled_guides

__all__ = ["about", "principal_map", "study_prior"]

LEAST_VALIDATION = 10  # held-out photographs: two in each fold
SHOWN = 3  # photographs in the report

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """What the prior is shown at every time-step."""

    train: Tensor  # (M, 3, S, S) uint8, clear
    held_out: Tensor  # (1 + veils, N, 3, S, S), clear and under each veil
    samples: HazySamples


def study_prior(
    prior: Prior, photos: Path, depth: Path | None = None, config: StudyConfig | None = None
) -> tuple[Study, Pictures]:
    """Find out what the latents of a prior tell, at every time-step.

    Args:
        prior: any; random weights are compared with only if it is a ``UNetPrior``.
        photos: folder of clear photographs, split by name; everything reported is of the held-out ones.
        depth: folder of their depth maps (same stems, 255 far); without it haze grows upwards.
        config: what is looked at.

    Raises:
        ConfigError: the time-steps are none.
        DataError: there are too few photographs, or one cannot be read.
    """
    config = config or StudyConfig()
    _check_timesteps(config.timesteps)
    material = _material(prior, photos, depth, config)
    random_prior = _with_random_weights(prior, config.seed)
    pixels = answers(material.samples, pixel_features(material.samples.guides, prior.spec.grid), seed=config.seed)
    timesteps, decoded = [], []
    for timestep in config.timesteps:
        found, drawn = _look(prior, random_prior, timestep, material, config)
        timesteps.append(found)
        decoded.append(drawn)
    means = tuple(round(value, 4) for value in material.samples.transmission.mean(dim=(1, 2)).tolist())
    counts = len(material.train), material.held_out.shape[1]
    study = Study(prior.spec, config, *counts, pixels, tuple(timesteps), means)
    return study, Pictures(_shown(material.held_out), torch.stack(decoded))


def about(folder: Path, name: str) -> dict[str, Any]:
    """Say what is studied, with what: the prior in a folder, under a name for readers."""
    with (folder / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    versions = {package: version(package) for package in ("difflid", "torch", "diffusers", "numpy")}
    return {"prior": name, "sha256": digest, "versions": versions | {"python": platform.python_version()}}


def _check_timesteps(timesteps: Sequence[int]) -> None:
    if not timesteps or len(set(timesteps)) < len(timesteps) or not all(0 <= each < TIMESTEPS for each in timesteps):
        raise ConfigError(f"expected different time-steps from 0 to {TIMESTEPS - 1}, got {list(timesteps)}")


def _material(prior: Prior, photos: Path, depth: Path | None, config: StudyConfig) -> Material:
    train_files, validation_files = split_photos(photo_files(photos))
    if len(validation_files) < LEAST_VALIDATION or not train_files:
        raise DataError(
            f"{photos}: expected at least {LEAST_VALIDATION} photographs in the held-out part, one in 32, got "
            f"{len(validation_files)} of {len(train_files) + len(validation_files)}; give a folder with more"
        )
    size, seed = prior.spec.guide_size, config.seed
    train = load_squares(_some(train_files, config.train_photos, seed), size)
    held_out = load_photos(_some(validation_files, config.validation_photos, seed), depth)
    veiled = [veiled_guides(held_out, size, density) for density in VEILS.values()]
    samples = hazy_samples(held_out, prior.spec, versions=config.versions, seed=seed)
    _log.info("%d photographs to train on, %d held out, %d hazy versions", len(train), len(held_out), len(samples[0]))
    return Material(train, torch.stack([clear_guides(held_out, size), *veiled]), samples)


def _some(files: Sequence[Path], most: int, seed: int) -> list[Path]:
    chosen = np.random.default_rng(seed).permutation(len(files))[:most]
    return [files[index] for index in sorted(chosen)]


def _with_random_weights(prior: Prior, seed: int) -> UNetPrior | None:
    if not isinstance(prior, UNetPrior):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNetPrior(prior.config)


def _look(
    prior: Prior, random_prior: Prior | None, timestep: int, material: Material, config: StudyConfig
) -> tuple[Timestep, Tensor]:
    """Study one time-step; also give the pictures drawn of the photographs shown."""
    decoder = _decoder(prior, timestep, material.train, config)
    decoded = torch.stack([decode(decoder, encode(prior, guides, timestep)) for guides in material.held_out])
    clear = material.held_out[0]
    pooled = latent_features(encode(prior, material.samples.guides, timestep))
    scores = answers(material.samples, pooled, seed=config.seed)
    random_scores = None
    if random_prior:
        features = latent_features(encode(random_prior, material.samples.guides, timestep))
        random_scores = answers(material.samples, features, seed=config.seed)
    found = Timestep(
        timestep,
        _estimate(_l1(decoded[0], clear)),
        {name: _estimate(psnr(*pair)) for name, pair in _compared(decoded, material.held_out).items()},
        {name: _estimate(ssim(*pair)) for name, pair in _compared(decoded, material.held_out).items()},
        _haze_difference(decoded, material.held_out),
        scores,
        random_scores,
        principal_map(pooled.picture, material.samples.transmission.mean(dim=(1, 2))),
    )
    told = ", ".join(f"{question} {Estimate.of(folds)}" for question, folds in scores.items())
    _log.info("time-step %d: held-out L1 %s; R^2 of %s", timestep, found.decoder_l1, told)
    return found, _shown(decoded)


def _decoder(prior: Prior, timestep: int, pictures: Tensor, config: StudyConfig) -> Decoder:
    latents = encode(prior, pictures, timestep)
    _log.info("time-step %d: latents read, training its decoder for %d steps", timestep, config.steps)
    return train_decoder(latents, pictures, prior.spec, steps=config.steps, seed=config.seed).decoder


def _compared(decoded: Tensor, inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Pair what was drawn with what it may resemble."""
    pairs = {"r(clear), clear": (decoded[0], inputs[0])}
    for index, veil in enumerate(VEILS, 1):
        pairs[f"r({veil}), clear"] = (decoded[index], inputs[0])
        pairs[f"r({veil}), hazy"] = (decoded[index], inputs[index])
    return pairs


def _haze_difference(decoded: Tensor, inputs: Tensor) -> dict[str, Estimate]:
    """Give the haze that is seen in the pictures drawn, as a share of the haze that is there."""
    return {
        veil: _estimate(_l1(decoded[index], decoded[0]) / _l1(inputs[index], inputs[0]).clamp(min=1e-6))
        for index, veil in enumerate(VEILS, 1)
    }


def _l1(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean(dim=(1, 2, 3))


def _estimate(values: Tensor) -> Estimate:
    return Estimate.of(values.tolist())


def _shown(pictures: Tensor) -> Tensor:
    """Choose photographs from all over the folder: ``(1 + veils, N, ...)`` to ``(P, 1 + veils, ...)``."""
    count = pictures.shape[1]
    return pictures[:, [count * (2 * i + 1) // (2 * SHOWN) for i in range(SHOWN)]].transpose(0, 1)


def principal_map(features: Tensor, transmission: Tensor) -> PrincipalMap:
    """Project standardised features ``(N, D)`` on their first two principal components.

    The sign of a component is such that it falls with the transmission: haze lies to the right and up.
    """
    spread, mean = torch.std_mean(features, dim=0, correction=0)
    left, values, _ = torch.linalg.svd((features - mean) / (spread + 1e-8), full_matrices=False)
    points = left[:, :2] / left[:, :2].std(dim=0, correction=0)
    centred = transmission.double() - transmission.double().mean()
    correlation = (points * centred[:, None]).mean(dim=0) / centred.std(correction=0)
    points = points * torch.where(correlation > 0, -1, 1)
    shares = values.square() / values.square().sum()
    rounded = tuple((round(x, 3), round(y, 3)) for x, y in points.tolist())
    return PrincipalMap(rounded, tuple(shares[:2].tolist()), tuple((-correlation.abs()).tolist()))
