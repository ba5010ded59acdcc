"""Linear probes: how well latents tell the haze of a picture, against random weights and plain pixel statistics.

A probe is a ridge regression from features of the hazy guide to a property of its haze. It is scored by R^2 on
photographs it was not fitted on: folds are over photographs, and the penalty is chosen on folds inside the training
part (nested cross-validation).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from difflid.data.dataset import Photo
from difflid.data.synthesis import draw_haze, render, resample
from difflid.prior import Prior

__all__ = ["HazySample", "Score", "hazy_samples", "latent_features", "pixel_features", "probe"]

Array = NDArray[np.float64]
PENALTIES = np.logspace(-3, 5, 17)
FOLDS = 5


@dataclass(frozen=True)
class HazySample:
    """A hazy guide and what is known of its haze."""

    group: int  # index of the photograph
    guide: Tensor  # (3, S, S) in [0, 1]
    transmission: NDArray[np.float32]  # (G, G), mean per latent cell
    airlight: NDArray[np.float32]  # (3,)


class Score(NamedTuple):
    """Mean and standard error over the outer folds."""

    mean: float
    error: float


def hazy_samples(photos: Sequence[Photo], prior: Prior, *, versions: int, seed: int = 0) -> list[HazySample]:
    """Render ``versions`` hazy guides of every photograph, as the prior sees them."""
    size, grid = prior.spec.guide_size, prior.spec.grid
    samples = []
    for group, photo in enumerate(photos):
        clear = np.asarray(photo.clear.resize((size, size)), np.float32) / np.float32(255)
        for version in range(versions):
            haze = draw_haze(photo.depth, np.random.default_rng((seed, group, version)), clear_share=0.1)
            hazy, transmission = render(clear, haze)
            guide = torch.from_numpy(hazy.clip(0, 1).transpose(2, 0, 1).copy())
            samples.append(HazySample(group, guide, resample(transmission, (grid, grid)), haze.airlight))
    return samples


def latent_features(samples: Sequence[HazySample], prior: Prior, timestep: int) -> Array:
    """Mean and standard deviation over the grid of every latent channel: ``(N, 2 C)``."""
    guides = torch.stack([sample.guide for sample in samples])
    latents = torch.cat([prior.encode(part, (timestep,))[0] for part in guides.split(64)])  # (N, C, G, G)
    return _mean_and_spread(latents)


def pixel_features(samples: Sequence[HazySample]) -> Array:
    """Plain statistics of the guide: per colour mean, spread, quantiles; dark channel; saturation; gradients."""
    guides = torch.stack([sample.guide for sample in samples])  # (N, 3, S, S)
    darkest, brightest = guides.amin(dim=1, keepdim=True), guides.amax(dim=1, keepdim=True)
    dark_channel = -F.max_pool2d(-darkest, 5, stride=1, padding=2)
    saturation = 1 - darkest / brightest.clamp(min=1e-3)
    gradients = torch.cat((guides.diff(dim=2).abs().mean(dim=(2, 3)), guides.diff(dim=3).abs().mean(dim=(2, 3))), dim=1)
    maps = torch.cat((guides, dark_channel, saturation), dim=1)
    quantiles = torch.quantile(maps.flatten(2), torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99]), dim=2)  # (5, N, 5)
    return np.hstack(
        [_mean_and_spread(maps), quantiles.permute(1, 0, 2).flatten(1).double().numpy(), gradients.numpy()]
    )


def _mean_and_spread(maps: Tensor) -> Array:
    flat = maps.double().flatten(2)
    return np.asarray(torch.cat((flat.mean(dim=2), flat.std(dim=2)), dim=1))


def probe(features: Array, target: Array, groups: Sequence[int]) -> Score:
    """R^2 of a ridge regression on photographs it was not fitted on; 1 is perfect, 0 is the mean.

    Args:
        features: ``(N, D)``.
        target: ``(N,)``.
        groups: the photograph of each sample; one photograph is never on both sides of a fold.
    """
    fold_of = np.asarray(groups) % FOLDS
    scores = []
    for fold in range(FOLDS):
        train, test = fold_of != fold, fold_of == fold
        penalty = _best_penalty(features[train], target[train], fold_of[train])
        scores.append(_r2(_fit_predict(features[train], target[train], features[test], [penalty])[0], target[test]))
    return Score(float(np.mean(scores)), float(np.std(scores, ddof=1) / np.sqrt(FOLDS)))


def _best_penalty(features: Array, target: Array, fold_of: NDArray[np.int_]) -> float:
    scores = np.zeros(len(PENALTIES))
    for fold in np.unique(fold_of):
        train, test = fold_of != fold, fold_of == fold
        predictions = _fit_predict(features[train], target[train], features[test], PENALTIES)
        scores += [_r2(prediction, target[test]) for prediction in predictions]
    return float(PENALTIES[scores.argmax()])


def _fit_predict(train: Array, target: Array, test: Array, penalties: Sequence[float] | Array) -> list[Array]:
    """Ridge regression on standardised features, for every penalty, by one singular value decomposition."""
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-8
    left, values, right = np.linalg.svd((train - mean) / spread, full_matrices=False)
    projected = left.T @ (target - target.mean())
    rotated = ((test - mean) / spread) @ right.T
    return [rotated @ (values / (values**2 + penalty) * projected) + target.mean() for penalty in penalties]


def _r2(prediction: Array, target: Array) -> float:
    return float(1 - np.square(prediction - target).sum() / np.square(target - target.mean()).sum())
