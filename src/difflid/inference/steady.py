"""Frames in the order of time: each is dehazed with what was seen of the scene, not of the frame alone.

What the network knows of a picture as a whole, its condition, changes a little with the noise of every frame, and the
result would flicker. So the conditions are averaged over time, the older the less (exponentially), until the picture
cuts to another scene; where the camera pans, what is remembered goes with the scene. And what of a frame is noise is
taken away before it is dehazed, for to remove haze multiplies it (see :mod:`difflid.inference.noise`). What is kept
does not grow with the number of frames.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from difflid import image as images
from difflid.dehazer import Dehazer, Detail, Restoration
from difflid.inference.motion import Shift, in_sight, moved
from difflid.inference.noise import Noise
from difflid.network import Condition

__all__ = ["SMOOTHING", "Steady", "dehaze_frames"]

SMOOTHING = 0.5  # seconds, time constant of what is averaged

_THUMBNAIL = 16  # side in pixels
_AVERAGES = 3  # one after the other: what changes from frame to frame they quieten by far more than one as slow
_FADE = 0.04  # change of the mean brightness, against what it was on average, that makes all that was seen out of date
_CUT = 0.07  # mean difference of thumbnails: 99 of 100 pairs of different scenes differ by more, fast pans by less


class Steady:
    """A dehazer for the frames of one film, given in the order of time.

    Args:
        dehazer: the model.
        smoothing: time constant in seconds of the averages; 0: every frame for itself.
    """

    def __init__(self, dehazer: Dehazer, *, smoothing: float = SMOOTHING) -> None:
        if not 0 <= smoothing < math.inf:
            raise ValueError(f"smoothing must be 0 or more seconds, got {smoothing}")
        self._dehazer, self._smoothing = dehazer, smoothing
        self._seen: tuple[float, Tensor] | None = None  # the last frame: its time and thumbnail
        self._light = 0.0  # brightness, averaged as the conditions are
        self._known: list[Condition] = []  # averages, each of the one before
        self._noise = Noise()

    def restore(
        self, frame: Tensor, time: float, *, strength: float = 1.0, tile: int | None = None, detail: Detail = "exact"
    ) -> Restoration:
        """Dehaze the next frame.

        Args:
            frame: RGB ``(1, 3, H, W)`` in [0, 1].
            time: of the frame, in seconds.
            strength: see :meth:`difflid.dehazer.Dehazer.restore`; the same for all frames of a scene.
            tile: see :meth:`difflid.dehazer.Dehazer.restore`.
            detail: see :meth:`difflid.dehazer.Dehazer.dehaze`.
        """
        quiet, condition = self.see(frame, time)
        if not (strength and self._smoothing):
            return self._dehazer.restore(frame, condition, strength=strength, tile=tile, detail=detail)
        restoration = self._dehazer.restore(quiet, condition, strength=strength, tile=tile, detail=detail)
        return replace(restoration, clear=self._noise.steady(restoration.clear))

    @torch.inference_mode()
    def see(self, frame: Tensor, time: float) -> tuple[Tensor, Condition]:
        """See the next frame with what was seen before: without its noise, and as a whole."""
        thumbnail = F.adaptive_avg_pool2d(frame, _THUMBNAIL)
        remembered = self._remembered(thumbnail, time)
        if not remembered:
            self._noise.forget()
        quiet = self._noise.without(frame, 1 - remembered) if self._smoothing else frame
        light = float(thumbnail.mean())
        share = remembered * max(0.0, 1 - ((light - self._light) / _FADE) ** 2)
        self._seen, self._light = (time, thumbnail), light + share * (self._light - light)
        return quiet, self._averaged(self._dehazer.encode(quiet), share, frame.shape[2:])

    def _averaged(self, condition: Condition, share: float, size: Sequence[int]) -> Condition:
        """Average with the frames before, which count by ``share``."""
        if not share:
            self._known = [condition] * _AVERAGES
            return condition
        down, right = (part / side for part, side in zip(self._noise.pan, size, strict=True))
        for step, known in enumerate(self._known):
            condition = self._known[step] = _taken_in(condition, known, share, (down, right))
        return condition

    def _remembered(self, thumbnail: Tensor, time: float) -> float:
        """Say how much counts what was seen of the scene before; nothing after a cut."""
        if not (self._smoothing and self._seen):
            return 0.0
        last, before = self._seen
        if time <= last or (thumbnail - before).abs().mean() >= _CUT:
            return 0.0
        return math.exp((last - time) / self._smoothing)


def _taken_in(new: Condition, old: Condition, share: float, pan: Shift) -> Condition:
    """Mix two conditions, ``share`` of the old; its maps go with the camera, by ``pan`` in shares of their sides.

    What comes into sight has not been seen before. Keys and values are coarse, and have no place.
    """

    def mixed(new: Tensor, old: Tensor) -> Tensor:
        if new.ndim != 4:
            return torch.lerp(new, old, share)
        shift = [part * side for part, side in zip(pan, new.shape[2:], strict=True)]
        return torch.lerp(new, moved(old, shift), share * in_sight(new, shift))

    return _each(mixed, new, old)


def _each(mix: Callable[[Tensor, Tensor], Tensor], new: Any, old: Any) -> Any:
    """Mix the tensors of two conditions, those in the same place."""
    if isinstance(new, Tensor):
        return mix(new, old)
    if isinstance(new, tuple):
        return tuple(_each(mix, *parts) for parts in zip(new, old, strict=True))
    return new and replace(new, **{name: _each(mix, value, vars(old)[name]) for name, value in vars(new).items()})


def dehaze_frames(
    dehazer: Dehazer,
    frames: Iterable[Any],
    *,
    rate: float = 25.0,
    smoothing: float = SMOOTHING,
    strength: float = 1.0,
    tile: int | None = None,
) -> Iterator[Any]:
    """Dehaze the frames of a film one by one, without flicker; the results are of the kind and size of the frames.

    Args:
        dehazer: the model.
        frames: of any kind that a :class:`difflid.Dehazer` takes, one picture each, in the order of time. What a wide
            gamut has beyond sRGB is kept as it is.
        rate: frames per second.
        smoothing: see :class:`Steady`.
        strength: see :meth:`difflid.dehazer.Dehazer.restore`.
        tile: see :meth:`difflid.dehazer.Dehazer.restore`.

    >>> import numpy as np
    >>> frames = np.full((3, 48, 64, 3), 128, np.uint8)
    >>> [clear.shape for clear in dehaze_frames(Dehazer.from_pretrained(), frames)]
    [(48, 64, 3), (48, 64, 3), (48, 64, 3)]
    """
    steady = Steady(dehazer, smoothing=smoothing)
    device = next(dehazer.parameters()).device

    def restore(frame: Tensor, index: int) -> Tensor:
        return steady.restore(frame.to(device), index / rate, strength=strength, tile=tile).clear

    for index, frame in enumerate(frames):
        if isinstance(frame, Tensor):
            tensor, give_back = images.open_tensor(frame)
            yield give_back(restore(tensor, index))
        else:
            picture, finish = images.open_picture(frame)
            colours = picture.colours()
            inside = colours.clip(0, 1)  # sRGB
            clear = images.to_pixels(restore(images.to_tensor(inside), index)) + (colours - inside)
            yield finish(images.replace_pixels(picture, clear))
