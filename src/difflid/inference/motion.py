"""How far the picture as a whole has moved from one frame to the next: a pan, a tilt, a shake.

The displacement that explains the change of brightness best in the sense of least squares (Lucas, Kanade 1981), found
on the coarse first. What moves otherwise than the rest counts little (weights of Cauchy).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from difflid.haze import luma

__all__ = ["Shift", "displacement", "in_sight", "moved"]

Shift = Sequence[float]  # down and to the right, in pixels

_CELLS = (32, 16, 8, 4)  # pixels per cell, from coarse to fine
_ROUNDS = 3  # of refinement, on every size
_LEAST = 6  # cells along the shorter side that tell something
_LOBES = 6  # of the sinc: between pixels, 97 % is left of what has 0.8 times the highest frequency
_STEEP = 2  # a pixel lags behind what comes into sight by at most half a pixel
_WHOLE = 0.06  # pixels from whole ones that are taken for an error of measurement


def displacement(before: Tensor, after: Tensor) -> Shift:
    """Find how far ``after`` shows the scene moved from ``before``, both RGB ``(1, 3, H, W)``."""
    shift = torch.zeros(2, device=before.device)
    height, width = before.shape[2:]
    levels = [cell for cell in _CELLS if min(height, width) // cell >= _LEAST]
    if not levels:
        return 0.0, 0.0
    one, other = luma(before.float()), luma(after.float())
    for cell in levels:
        fine = cell // _CELLS[-1]
        start, target = F.avg_pool2d(one, fine), F.avg_pool2d(other, cell)
        for _ in range(_ROUNDS):
            now = F.avg_pool2d(moved(start, (shift / fine).tolist()), _CELLS[-1])
            shift = shift + _step(now, target) * cell
    down, right = (round(x) if abs(x - round(x)) < _WHOLE else x for x in shift.tolist())
    return down, right


def _step(before: Tensor, after: Tensor) -> Tensor:
    """Solve for the small displacement, in cells, that turns one picture ``(1, 1, h, w)`` into the other."""
    inner = (..., slice(1, -1), slice(1, -1))
    down = (before[..., 2:, 1:-1] - before[..., :-2, 1:-1]) / 2
    right = (before[..., 1:-1, 2:] - before[..., 1:-1, :-2]) / 2
    change = (before - after)[inner].flatten()
    weight = 1 / (1 + (change / (2 * change.abs().median() + 1e-6)).square())
    slopes = torch.stack((down.flatten(), right.flatten()), dim=1)
    matrix = slopes.T @ (weight[:, None] * slopes) + 1e-9 * torch.eye(2, device=slopes.device)
    return torch.linalg.solve(matrix, slopes.T @ (weight * change)).clamp(-1, 1)


def moved(picture: Tensor, shift: Shift) -> Tensor:
    """Move a picture ``(1, C, H, W)``; what comes in at the border repeats what was there."""
    for dim, distance in zip((2, 3), shift, strict=True):
        picture = _along(picture, dim, distance) if distance else picture
    return picture


def in_sight(picture: Tensor, shift: Shift) -> Tensor:
    """Say how much of each pixel was in sight before the move, ``(H, W)`` in [0, 1]; one row or column is all there is.

    Less than in proportion to what a pixel lacks: it would not keep up with what comes in slowly.
    """
    down, right = (
        _known(size, distance, picture.device) for size, distance in zip(picture.shape[2:], shift, strict=True)
    )
    return down[:, None] * right


def _known(size: int, distance: float, device: torch.device) -> Tensor:
    if size == 1:
        return torch.ones(1, device=device)
    places = torch.arange(size, device=device) - distance
    return (1 - _STEEP * (places - places.clamp(0, size - 1)).abs()).clamp(min=0)


def _along(picture: Tensor, dim: int, distance: float) -> Tensor:
    """Move rows or columns; what lies between them is interpolated by a windowed sinc (Lanczos 1956)."""
    whole, size = math.floor(distance), picture.shape[dim]
    weights = _weights(distance - whole)
    places = torch.arange(size + len(weights) - 1, device=picture.device) - whole - len(weights) // 2
    near = picture.index_select(dim, places.clamp(0, size - 1))
    first, *others = weights
    if not others:
        return near
    between = near.narrow(dim, 0, size) * first
    for start, weight in enumerate(others, start=1):
        between.add_(near.narrow(dim, start, size), alpha=weight)
    return between


def _weights(rest: float) -> list[float]:
    """Weigh the neighbours of what lies ``rest`` of a pixel before a pixel, in their order."""
    if not rest:
        return [1.0]
    away = _LOBES - rest - torch.arange(2 * _LOBES, dtype=torch.float64)
    weights = torch.sinc(away) * torch.sinc(away / _LOBES)
    return (weights / weights.sum()).tolist()
