"""Maps of hazy pictures by their latents: principal components, and whether haze is among them."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PrincipalMap", "principal_map"]


@dataclass(frozen=True)
class PrincipalMap:
    """The first two principal components of the pooled latents of hazy pictures."""

    points: tuple[tuple[float, float], ...]  # of each picture, in standard deviations
    explained: tuple[float, ...]  # share of the variance, of each component
    correlation: tuple[float, ...]  # with the mean transmission, of each component


def principal_map(features: Tensor, transmission: Tensor) -> PrincipalMap:
    """Project standardised features ``(N, D)`` on their first two principal components.

    The sign of a component is such that it falls with the transmission ``(N,)``: haze lies to the right and up.
    """
    spread, mean = torch.std_mean(features.double(), dim=0, correction=0)
    left, values, _ = torch.linalg.svd((features - mean) / (spread + 1e-8), full_matrices=False)
    points = left[:, :2] / left[:, :2].std(dim=0, correction=0)
    centred = transmission.double() - transmission.double().mean()
    correlation = (points * centred[:, None]).mean(dim=0) / centred.std(correction=0)
    points = points * torch.where(correlation > 0, -1, 1)
    shares = values.square() / values.square().sum()
    rounded = tuple((round(x, 3), round(y, 3)) for x, y in points.tolist())
    return PrincipalMap(rounded, tuple(shares[:2].tolist()), tuple((-correlation.abs()).tolist()))
