"""What of a frame is noise, as the frames before tell: to remove haze multiplies noise by 1 / t, and it would flicker.

Each frame is compared with the scene as it was seen before, moved as the camera has moved. Where they differ by no
more than noise does, the scene goes on and takes in a share of the new frame (a recursive average, of time constant
`smoothing`); where they differ by more, something has happened and the new frame counts, the more the fuller:

    quiet = frame - (1 - share) (frame - scene),    share = 1 - THRESHOLD R / D, within [least, 1],

with D the mean square of the difference around a place and R the same of the noise. What is taken for noise so
wrongly is never larger than noise: there are no ghosts that could be seen. Three looks are taken at the difference, and
the largest share holds: pixel by pixel, which finds fine detail that moves; in cells of some pixels, which find
edges and objects; and in regions of many cells, which find changes of brightness.

The scene is only ever moved by whole pixels. Over the rest, less than one, the frame is moved to the scene, and what
was taken for noise back to the frame. So the scene is not interpolated again and again, and what interpolation cannot
carry, the finest grain, stays in the frame: no blur adds up.

What becomes of the frames is averaged by the same shares: a network does not see quite the same in a picture that has
moved by some pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from difflid.inference.motion import Shift, displacement, moved

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
        self.forget()

    def forget(self) -> None:
        """Begin with another scene."""
        self._scene: Tensor | None = None  # without noise, less than a pixel from where the last frame shows it
        self._result: Tensor | None = None  # what became of it
        self._before: Tensor | None = None  # the same, of the frame before
        self._whole: Shift = (0.0, 0.0)  # how far the frame shows the scene moved: in whole pixels,
        self._rest: Shift = (0.0, 0.0)  # and what is left
        self._share: Tensor | None = None  # of the frame that counts; None: all of it
        self.pan: Shift = (0.0, 0.0)  # how far the last frame shows the scene moved from the one before, in pixels

    def without(self, frame: Tensor, least: float) -> Tensor:
        """Give the next frame ``(1, 3, H, W)`` without what is noise; ``least`` of it counts everywhere."""
        self._before, self._result = self._result, None
        if self._scene is None or self._scene.shape != frame.shape:
            self.forget()
            self._scene = frame
            return frame
        there, here = self._rest, displacement(self._scene, frame)
        self.pan = [new - old for new, old in zip(here, there, strict=True)]
        self._whole, self._rest = _parts(here)
        at_scene = self._at_the_scene(frame)
        change = at_scene - moved(self._scene, self._whole)
        self._share = _enlarge(_share(change, least), *frame.shape[2:])
        noise = change * (1 - self._share)
        self._scene = at_scene - noise
        return frame - moved(noise, self._rest)

    def steady(self, result: Tensor) -> Tensor:
        """Average what became of the frame, in [0, 1], as the frame was: what moves is seen a little differently."""
        here = self._at_the_scene(result)
        if self._share is None or self._before is None:
            self._result = here
            return result
        noise = (here - moved(self._before, self._whole)) * (1 - self._share)
        self._result = here - noise
        return (result - moved(noise, self._rest)).clamp(0, 1)

    def _at_the_scene(self, seen: Tensor) -> Tensor:
        return moved(seen, [-part for part in self._rest])


def _parts(shift: Shift) -> tuple[Shift, Shift]:
    """Part a displacement into whole pixels and the rest."""
    whole = [round(part) for part in shift]
    return whole, [part - pixels for part, pixels in zip(shift, whole, strict=True)]


def _cells(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, _cell_side(values), ceil_mode=True)


def _cell_side(values: Tensor) -> int:
    return max(1, min(values.shape[2:]) // _CELLS)


def _share(change: Tensor, least: float) -> Tensor:
    """Say how much of the new frame counts, ``(1, 1, h, w)`` in cells."""
    fine, coarse, wide = _THRESHOLDS
    low = _cells(change)
    square = low.square().mean(dim=1, keepdim=True)
    near = _around(square, 3)
    noise = _level(near).clamp(max=(_MOST / _cell_side(change)) ** 2)
    region = _around(low, _REGION).square().amax(dim=1, keepdim=True)
    energy = _around(_cells(change.square().mean(dim=1, keepdim=True)), 3)
    grain = _level(energy).clamp(max=_MOST**2)
    excess = torch.maximum(near / noise / coarse, region / (noise / _REGION**2 + _UNSEEN**2) / wide)
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
