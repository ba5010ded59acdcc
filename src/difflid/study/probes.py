"""Linear probes: how well latents tell a hazy picture's haze and its scene, against other features of it.

A probe is a ridge regression, scored by R^2 on photographs it was not fitted on: folds are over photographs, and the
penalty is chosen on folds inside the training part (nested cross-validation). Four things are asked: the mean
transmission and the mean airlight of a picture, of features of the whole picture; the transmission of a latent cell,
and the clear scene behind the haze in it (luma of its quarters), of the features of that cell.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from difflid.study.samples import HazySamples, luma_quarters

__all__ = ["FOLDS", "QUESTIONS", "Features", "Question", "answers", "latent_features", "pixel_features", "probe"]

Question = Literal["transmission", "airlight", "cell_transmission", "cell_content"]
QUESTIONS: Mapping[Question, str] = {
    "transmission": "mean transmission of the picture",
    "airlight": "airlight of the picture",
    "cell_transmission": "transmission of a cell",
    "cell_content": "clear scene in a cell",
}
PENALTIES = torch.logspace(-3, 5, 17, dtype=torch.float64)
FOLDS = 5
CELLS = 16  # of each picture, drawn once


class Features(NamedTuple):
    """Features of N pictures, and of every cell of each."""

    picture: Tensor  # (N, D)
    cells: Tensor  # (N, D', G, G)


def latent_features(latents: Tensor) -> Features:
    """Mean and spread of every channel for the picture; the vector of each cell."""
    return Features(_mean_and_spread(latents), latents)


def pixel_features(guides: Tensor, grid: int) -> Features:
    """Plain statistics of the pixels of pictures ``(N, 3, S, S)``.

    For the picture: per colour mean, spread, quantiles; the same of the dark channel and the saturation; gradients. For
    a cell: mean, spread, least and greatest of the same maps in it, luma of its quarters, and the means of the picture.
    """
    maps = _maps(guides)  # (N, 5, S, S)
    gradients = [guides.diff(dim=dim).abs().mean(dim=(2, 3)) for dim in (2, 3)]
    quantiles = torch.quantile(maps.flatten(2), torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99]), dim=2)  # (5, N, 5)
    picture = torch.cat([_mean_and_spread(maps), quantiles.transpose(0, 1).flatten(1), *gradients], dim=1)
    mean = F.adaptive_avg_pool2d(maps, grid)
    spread = (F.adaptive_avg_pool2d(maps.square(), grid) - mean.square()).clamp(min=0).sqrt()
    ends = [F.adaptive_max_pool2d(maps, grid), -F.adaptive_max_pool2d(-maps, grid)]
    whole = maps.mean(dim=(2, 3), keepdim=True).expand_as(mean)
    return Features(picture, torch.cat([mean, spread, *ends, luma_quarters(guides, grid), whole], dim=1))


def _maps(guides: Tensor) -> Tensor:
    darkest, brightest = guides.amin(dim=1, keepdim=True), guides.amax(dim=1, keepdim=True)
    dark_channel = -F.max_pool2d(-darkest, 5, stride=1, padding=2)
    return torch.cat((guides, dark_channel, 1 - darkest / brightest.clamp(min=1e-3)), dim=1)


def _mean_and_spread(maps: Tensor) -> Tensor:
    spread, mean = torch.std_mean(maps.double().flatten(2), dim=2, correction=0)
    return torch.cat((mean, spread), dim=1)


def answers(samples: HazySamples, features: Features, *, seed: int) -> dict[Question, list[float]]:
    """Probe the features for everything that is asked: R^2 of each fold."""
    groups, transmission, content = samples.groups, samples.transmission[:, None], samples.content
    cells = _draw_cells(transmission, seed)
    cell_features, cell_groups = _at(features.cells, cells), groups.repeat_interleave(cells.shape[1])
    return {
        "transmission": probe(features.picture, transmission.mean(dim=(2, 3)), groups),
        "airlight": probe(features.picture, samples.airlight.mean(dim=1, keepdim=True), groups),
        "cell_transmission": probe(cell_features, _at(transmission, cells), cell_groups),
        "cell_content": probe(cell_features, _at(content, cells), cell_groups),
    }


def _draw_cells(maps: Tensor, seed: int) -> Tensor:
    """Choose some cells of each picture, ``(N, K)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(maps), maps[0, 0].numel(), generator=generator).argsort(dim=1)[:, :CELLS]


def _at(maps: Tensor, cells: Tensor) -> Tensor:
    """Read ``(N, D, G, G)`` at cells ``(N, K)``: ``(N K, D)``."""
    return maps.flatten(2).transpose(1, 2).take_along_dim(cells[..., None], dim=1).flatten(0, 1)


def probe(features: Tensor, target: Tensor, groups: Tensor) -> list[float]:
    """R^2 on each fold of photographs that the regression was not fitted on; 1 is perfect, 0 is the mean.

    Args:
        features: ``(N, D)``.
        target: ``(N, K)``.
        groups: ``(N,)``, the photograph of each row; one photograph is never on both sides of a fold.
    """
    x, y, fold_of = features.double(), target.double(), groups % FOLDS
    scores = []
    for fold in range(FOLDS):
        train, test = fold_of != fold, fold_of == fold
        best = _scores_of_penalties(x[train], y[train], fold_of[train]).argmax()
        scores.append(_fit_and_score(x, y, train, test, PENALTIES[best : best + 1]).item())
    return scores


def _scores_of_penalties(x: Tensor, y: Tensor, fold_of: Tensor) -> Tensor:
    folds = [int(fold) for fold in fold_of.unique()]
    return torch.stack([_fit_and_score(x, y, fold_of != fold, fold_of == fold, PENALTIES) for fold in folds]).mean(0)


def _fit_and_score(x: Tensor, y: Tensor, train: Tensor, test: Tensor, penalties: Tensor) -> Tensor:
    """R^2 for every penalty, the mean being that of the training part."""
    mean = y[train].mean(dim=0)
    predictions = _fit_predict(x[train], y[train] - mean, x[test], penalties)  # (P, N, K)
    wanted = y[test] - mean
    return 1 - (predictions - wanted).square().sum(dim=(1, 2)) / wanted.square().sum()


def _fit_predict(train: Tensor, target: Tensor, test: Tensor, penalties: Tensor) -> Tensor:
    """Ridge regression on standardised features, for every penalty, by one eigendecomposition of the smaller side."""
    spread, mean = torch.std_mean(train, dim=0, correction=0)
    x, z = (train - mean) / (spread + 1e-8), (test - mean) / (spread + 1e-8)
    if len(x) > x.shape[1]:
        values, vectors = torch.linalg.eigh(x.T @ x)
        rotated, projected = z @ vectors, vectors.T @ (x.T @ target)
    else:
        values, vectors = torch.linalg.eigh(x @ x.T)
        rotated, projected = (z @ x.T) @ vectors, vectors.T @ target
    shrunk = [projected / (values.clamp(min=0) + penalty)[:, None] for penalty in penalties]
    return torch.stack([rotated @ each for each in shrunk])
