"""What of a frame is noise, as the frames before tell: to remove haze multiplies noise by 1 / t, and it would flicker.

Each frame is compared with the last quiet one, moved as the camera has moved. Where they differ by no more than noise
does, the quiet frame goes on and takes in a share of the new one (a recursive average, of time constant `smoothing`);
where they differ by more, something has happened and the new frame counts, the more they differ the fuller:

    quiet = frame - (1 - share) (frame - last),    share = 1 - THRESHOLD R / D, within [least, 1],

with D the mean square of the difference around a place and R the same of the noise. What is taken for noise so
wrongly is never larger than noise: there are no ghosts that could be seen. Three looks are taken at the difference, and
the largest share holds: pixel by pixel, which finds fine detail that moves; in cells of some pixels, which find
edges and objects; and in regions of many cells, which find changes of brightness.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from difflid.inference.motion import displacement, moved

__all__ = ["Noise"]

_CELLS = 180  # along the shorter side
_REGION = 15  # cells along the side of a region
_QUIET = 0.2  # share of the cells that is taken for free of motion: what differs least
_NOTHING = 1e-9  # mean square of a difference that is none
_MOST = 8 / 255  # standard deviation of the noise of a pixel that is believed
_UNSEEN = 0.2 / 255  # change of brightness that nobody sees
_THRESHOLDS = 1.6, 3.0, 2.0  # times R: of pixels, cells, regions


class Noise:
    """The noise of the frames of one scene, given in the order of time."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def forget(self) -> None:
        """Begin with another scene."""
        self._last = None

    def without(self, frame: Tensor, least: float) -> Tensor:
        """Give the next frame ``(1, 3, H, W)`` without what is noise; ``least`` of it counts everywhere."""
        if self._last is None or self._last.shape != frame.shape:
            quiet = frame
        else:
            shift = displacement(self._last, frame)
            change = frame - moved(self._last, shift)
            quiet = frame - _noise(change, least, pixels=all(float(x).is_integer() for x in shift))
        self._last = quiet
        return quiet


def _noise(change: Tensor, least: float, *, pixels: bool) -> Tensor:
    """Say what of a change is noise; of single pixels, too, where nothing was interpolated."""
    height, width = change.shape[2:]
    cell = max(1, min(height, width) // _CELLS)
    low = F.avg_pool2d(change, cell, ceil_mode=True)
    share = _share(change, low, cell, least, pixels)
    if pixels:
        return change * (1 - _enlarge(share, height, width))
    return _enlarge(low * (1 - share), height, width)


def _share(change: Tensor, low: Tensor, cell: int, least: float, pixels: bool) -> Tensor:
    """Say how much of the new frame counts, ``(1, 1, h, w)`` in cells."""
    fine, coarse, wide = _THRESHOLDS
    square = low.square().mean(dim=1, keepdim=True)
    near = _around(square, 3)
    noise = _level(near).clamp(max=(_MOST / cell) ** 2)
    region = _around(low, _REGION).square().amax(dim=1, keepdim=True)
    excess = torch.maximum(near / noise / coarse, region / (noise / _REGION**2 + _UNSEEN**2) / wide)
    if pixels:
        energy = _around(F.avg_pool2d(change.square().mean(dim=1, keepdim=True), cell, ceil_mode=True), 3)
        grain = _level(energy).clamp(max=_MOST**2)
        excess = torch.maximum(excess, energy / grain / fine)
    return (1 - 1 / excess.clamp(min=1e-6)).clamp(least, 1)


def _level(energy: Tensor) -> Tensor:
    """Tell the noise from what differs least; what does not differ at all is clipped, or was not encoded anew."""
    some = energy[energy > _NOTHING]
    return some.quantile(_QUIET) if some.numel() else energy.new_tensor(_NOTHING)


def _around(values: Tensor, size: int) -> Tensor:
    """Average over ``size`` x ``size`` cells."""
    return F.avg_pool2d(values, size, stride=1, padding=size // 2, count_include_pad=False)


def _enlarge(values: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(values, size=(height, width), mode="bilinear")
