"""The frames of one film on their way through the dehazer, in 16 bit per channel and upright."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from difflid import image
from difflid.dehazer import Dehazer
from difflid.errors import MissingExtra
from difflid.inference.encoder import colours
from difflid.inference.settings import Settings
from difflid.inference.steady import Steady

try:
    from av.video.frame import VideoFrame
    from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
except ImportError:
    raise MissingExtra("video", "video") from None

__all__ = ["Film"]

_RGB, _MOST = "rgb48le", np.float32(65535)
_EXACT = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


class Film:
    """Dehaze frames like ``first``, in the order of time.

    Args:
        dehazer: the model.
        settings: how to dehaze.
        first: of the frames.
        time_base: unit of the time-stamps.
        pixel_format: of the results.
    """

    def __init__(
        self, dehazer: Dehazer, settings: Settings, first: VideoFrame, time_base: Fraction, pixel_format: str
    ) -> None:
        self._steady, self._settings = Steady(dehazer, smoothing=settings.smoothing), settings
        self._device = next(dehazer.parameters()).device
        self._turns = round(first.rotation / 90)  # quarters counter-clockwise by which a frame is turned to be shown
        self._time_base, self._pixel_format = time_base, pixel_format
        self._to_rgb, self._from_rgb = VideoReformatter(), VideoReformatter()  # they keep what they have prepared
        self.size = (first.width, first.height)

    def dehaze(self, frame: VideoFrame) -> tuple[VideoFrame, float]:
        """Dehaze a frame; its haze score too."""
        how = self._settings
        restoration = self._steady.restore(
            self._open(frame),
            self._time(frame),
            strength=how.strength,
            tile=how.tile,
            detail=how.detail,
        )
        clear = np.rint(image.to_pixels(restoration.clear) * _MOST).astype(np.uint16)
        result = self._close(np.ascontiguousarray(np.rot90(clear, -self._turns)), frame)
        return result, float(restoration.haze_score[0])

    def _time(self, frame: VideoFrame) -> float:
        return float((frame.pts or 0) * self._time_base)

    def _open(self, frame: VideoFrame) -> Tensor:
        full = self._to_rgb.reformat(
            frame,
            *self.size,
            format=_RGB,
            interpolation=_EXACT,
            src_colorspace=frame.colorspace,
            src_color_range=frame.color_range,
            dst_color_range=ColorRange.JPEG,
        )
        upright = np.rot90(full.to_ndarray(), self._turns).astype(np.float32) / _MOST
        return image.to_tensor(upright).to(self._device)

    def _close(self, pixels: NDArray[Any], frame: VideoFrame) -> VideoFrame:
        """Code the colours as those of ``frame`` are."""
        coded = colours(frame, self._pixel_format)
        result = self._from_rgb.reformat(
            VideoFrame.from_ndarray(pixels, format=_RGB),
            format=self._pixel_format,
            interpolation=_EXACT,
            dst_colorspace=coded["colorspace"],
            src_color_range=ColorRange.JPEG,
            dst_color_range=coded["color_range"],
        )
        result.pts, result.time_base, result.duration = frame.pts, self._time_base, frame.duration
        for name, value in coded.items():
            setattr(result, name, value)
        return result
