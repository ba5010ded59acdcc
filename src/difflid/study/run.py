"""The study of a prior: decoders, probes and maps at every time-step of a grid."""

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

from difflid.data.dataset import load_photos, refuse_other_depth
from difflid.data.photos import load_squares, photo_files, split_photos
from difflid.errors import ConfigError
from difflid.files import sha256
from difflid.prior import Prior, UNetPrior
from difflid.prior.latents import TIMESTEPS
from difflid.study.decoders import Decoder, train_decoder
from difflid.study.estimates import Estimate
from difflid.study.findings import Scores, Study, StudyConfig, Timestep
from difflid.study.maps import principal_map
from difflid.study.probes import Features, answers, latent_features, pixel_features
from difflid.study.samples import VEILS, HazySamples, clear_guides, encode, hazy_samples, veiled_guides
from difflid.study.views import Pictures, compare_views, draw, shown

__all__ = ["about", "study_prior"]

LEAST_VALIDATION = 10  # held-out photographs: two in each fold

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
        ConfigError: the time-steps are not ascending integers from 0 to 999.
        DataError: there are too few photographs, one cannot be read, or there is no such folder of depth maps, or
            none in it of a held-out photograph.
    """
    config = config or StudyConfig()
    _check_timesteps(config.timesteps)
    material = _material(prior, photos, depth, config)
    random_prior = _with_random_weights(prior, config.seed)
    pixels = answers(material.samples, pixel_features(material.samples.guides, prior.spec.grid), seed=config.seed)
    looks = [_look(prior, random_prior, timestep, material, config) for timestep in config.timesteps]
    means = tuple(round(value, 4) for value in material.samples.transmission.mean(dim=(1, 2)).tolist())
    counts = len(material.train), material.held_out.shape[1]
    study = Study(prior.spec, config, *counts, pixels, tuple(found for found, _ in looks), means)
    return study, Pictures(shown(material.held_out), torch.stack([drawn for _, drawn in looks]))


def about(folder: Path, name: str) -> dict[str, Any]:
    """Say what is studied, with what: the prior in a folder, under a name for readers."""
    digest = sha256(folder / "model.safetensors")
    versions = {package: version(package) for package in ("difflid", "torch", "diffusers", "numpy")}
    return {"prior": name, "sha256": digest, "versions": versions | {"python": platform.python_version()}}


def _check_timesteps(timesteps: Sequence[int]) -> None:
    ascending = list(timesteps) == sorted(set(timesteps))
    if not timesteps or not ascending or timesteps[0] < 0 or timesteps[-1] >= TIMESTEPS:
        raise ConfigError(f"expected ascending time-steps from 0 to {TIMESTEPS - 1}, got {list(timesteps)}")


def _material(prior: Prior, photos: Path, depth: Path | None, config: StudyConfig) -> Material:
    train_files, validation_files = split_photos(photo_files(photos), held_out=LEAST_VALIDATION)
    refuse_other_depth(validation_files, depth)
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
    return UNetPrior.untrained(prior.config, seed) if isinstance(prior, UNetPrior) else None


def _look(
    prior: Prior, random_prior: Prior | None, timestep: int, material: Material, config: StudyConfig
) -> tuple[Timestep, Tensor]:
    """Study one time-step; also give the pictures that are shown of it."""
    decoder = _decoder(prior, timestep, material.train, config)
    drawn = draw(decoder, prior, material.held_out, timestep)
    features, scores = _probed(prior, timestep, material.samples, config.seed)
    found = Timestep(
        timestep,
        compare_views(drawn, material.held_out),
        scores,
        _probed(random_prior, timestep, material.samples, config.seed)[1] if random_prior else None,
        principal_map(features.picture, material.samples.transmission.mean(dim=(1, 2))),
    )
    told = ", ".join(f"{question} {Estimate.of(folds)}" for question, folds in scores.items())
    _log.info("time-step %d: held-out L1 %s; R^2 of %s", timestep, found.views.l1, told)
    return found, shown(drawn)


def _decoder(prior: Prior, timestep: int, pictures: Tensor, config: StudyConfig) -> Decoder:
    latents = encode(prior, pictures, timestep)
    _log.info("time-step %d: latents read, training its decoder for %d steps", timestep, config.steps)
    return train_decoder(latents, pictures, prior.spec, steps=config.steps, seed=config.seed).decoder


def _probed(prior: Prior, timestep: int, samples: HazySamples, seed: int) -> tuple[Features, Scores]:
    features = latent_features(encode(prior, samples.guides, timestep))
    return features, answers(samples, features, seed=seed)
