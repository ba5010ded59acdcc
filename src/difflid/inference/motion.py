"""How far the picture as a whole has moved from one frame to the next: a pan, a tilt, a shake.

The displacement that explains the change of brightness best in the sense of least squares (Lucas, Kanade 1981), found
on the coarse first. What moves otherwise than the rest counts little (weights of Cauchy).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from difflid.haze import luma

__all__ = ["Shift", "displacement", "moved"]

Shift = Sequence[float]  # down and to the right, in pixels

_CELLS = (32, 16, 8, 4)  # pixels per cell, from coarse to fine
_ROUNDS = 3  # of refinement, on every size
_LEAST = 6  # cells along the shorter side that tell something
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
        target = F.avg_pool2d(other, cell)
        for _ in range(_ROUNDS):
            shift = shift + _step(F.avg_pool2d(moved(one, shift.tolist()), cell), target) * cell
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
    down, right = shift
    if not (down or right):
        return picture
    height, width = picture.shape[2:]
    rows = torch.arange(height, device=picture.device) - down
    columns = torch.arange(width, device=picture.device) - right
    return _at(_at(picture, rows, 2), columns, 3)


def _at(picture: Tensor, places: Tensor, dim: int) -> Tensor:
    """Read rows or columns at ``places``, interpolated linearly."""
    places = places.clamp(0, picture.shape[dim] - 1)
    first = places.floor().long()
    share = places - first
    start = picture.index_select(dim, first)
    if not share.any():
        return start
    shape = (-1, 1) if dim == 2 else (-1,)
    following = picture.index_select(dim, (first + 1).clamp(max=picture.shape[dim] - 1))
    return start.lerp(following, share.view(shape).to(picture.dtype))
