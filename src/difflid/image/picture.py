"""What a picture is: its colours as RGB in [0, 1], and the samples it came with.

The samples say how to give the colours back: grey stays grey, alpha and the black ink of CMYK are kept, and so is the
depth. Colours that were not changed give back exactly the samples they came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difflid.errors import ImageError
from difflid.image.colour import ColourSpace, colour_space

__all__ = [
    "Picture",
    "Pixels",
    "Samples",
    "check_range",
    "from_samples",
    "replace_pixels",
    "to_depth",
    "without_metadata",
]

Pixels = NDArray[np.float32]
Samples = NDArray[Any]

_ALL = slice(None)
_COLOURS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}  # channels of each mode, without alpha
_OVERSHOOT = 1e-3  # how far floats may lie outside [0, 1] before they are refused


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture, upright, with what is needed to give it back as it came.

    Its colours are computed when they are asked for: as floats they take four times the memory of the samples.
    """

    samples: Samples  # (H, W, C) as decoded: uint8, uint16 or float
    mode: str  # what the C channels are: L, LA, RGB, RGBA or CMYK
    format: str | None = None  # such as JPEG; None when it was never encoded
    exif: bytes = b""  # EXIF block, starting at its byte order mark; empty when there is none
    xmp: bytes = b""  # XMP packet; empty when there is none
    icc: bytes = b""  # ICC profile; empty when there is none
    encoding: Mapping[str, Any] = field(default_factory=dict)  # encoder options that repeat how it was encoded

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.samples.shape[1], self.samples.shape[0]

    @property
    def alpha(self) -> Samples | None:
        """Alpha samples ``(H, W)``, or None."""
        return self.samples[..., -1] if self.mode in ("LA", "RGBA") else None

    @property
    def pixels(self) -> Pixels:
        """RGB ``(H, W, 3)`` in [0, 1], sRGB; what a wide gamut has beyond it is cut off."""
        return self.colours().clip(0, 1)

    def colours(self, rows: slice = _ALL, columns: slice = _ALL) -> Pixels:
        """Return a part of the picture as RGB ``(H, W, 3)``: sRGB in [0, 1], a wide gamut reaching beyond."""
        given = self.samples[rows, columns, : _COLOURS[self.mode]]
        unit = _to_pixels(given)
        space = self._space
        return unit if space is None else space.to_srgb(unit)

    def blank(self) -> "Picture":
        """Return a picture like this with samples of its own, to be painted."""
        return replace(self, samples=self.samples.copy())

    def paint(self, colours: Pixels, given: "Picture", rows: slice = _ALL, columns: slice = _ALL) -> None:
        """Put RGB as of :meth:`colours` into a part of this picture, in the mode and depth of ``given``.

        Alpha stays, and where a colour is that of ``given`` the sample is too.
        """
        count = _COLOURS[self.mode]
        old = given.samples[rows, columns, :count]
        unit = colours.clip(0, 1) if self._space is None else self._space.from_srgb(colours)
        self.samples[rows, columns, :count] = _from_unit(_as_mode(unit, old), old)

    @property
    def _space(self) -> ColourSpace | None:
        return colour_space(self.icc) if self.icc and self.mode in ("RGB", "RGBA") else None


def from_samples(samples: Samples, mode: str, **fields: Any) -> Picture:
    """Make a picture of samples ``(H, W, C)``: uint8, uint16, or float in [0, 1]; ``fields`` are those of `Picture`."""
    if not samples.size:
        raise ImageError(f"a picture needs at least one pixel, got the shape {samples.shape}")
    if samples.dtype.kind == "f":
        check_range(float(samples.min()), float(samples.max()))
    return Picture(samples, mode, **fields)


def replace_pixels(picture: Picture, pixels: Pixels) -> Picture:
    """Return ``picture`` with other colours of the same size, given as :meth:`Picture.colours` are."""
    if pixels.shape != (*picture.samples.shape[:2], 3):
        raise ImageError(f"the pixels must be {(*picture.samples.shape[:2], 3)}, got {pixels.shape}")
    changed = picture.blank()
    changed.paint(pixels, picture)
    return changed


def without_metadata(picture: Picture) -> Picture:
    """Drop EXIF and XMP; the ICC profile stays, without it the colours would be others."""
    return replace(picture, exif=b"", xmp=b"")


def to_depth(samples: Samples, dtype: type[np.unsignedinteger[Any]]) -> Samples:
    """Rescale samples to the range of another integer type."""
    return samples if samples.dtype == dtype else _quantise(_to_unit(samples), np.dtype(dtype))


def check_range(low: float, high: float) -> None:
    """Refuse floats that are not in [0, 1]: not finite, or counted in 255ths."""
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
        raise ImageError(f"float pictures must lie in [0, 1], got {low:.4g} ... {high:.4g}; rescale them first")


def _to_pixels(colours: Samples) -> Pixels:
    unit = _to_unit(colours)
    if unit.shape[-1] == 4:
        light: Pixels = (1 - unit[..., :3]) * (1 - unit[..., 3:])
        return light
    return np.repeat(unit, 3, axis=-1) if unit.shape[-1] == 1 else unit


def _as_mode(pixels: Pixels, given: Samples) -> Pixels:
    match given.shape[-1]:
        case 1:
            return _luma(pixels)
        case 4:
            return _inks(pixels, _to_unit(given))
    return pixels


def _luma(pixels: Pixels) -> Pixels:
    """Weigh by ITU-R BT.601, written so that equal channels give exactly their value."""
    red, green, blue = (pixels[..., channel : channel + 1] for channel in range(3))
    luma: Pixels = green + np.float32(0.299) * (red - green) + np.float32(0.114) * (blue - green)
    return luma


def _inks(pixels: Pixels, given: Pixels) -> Pixels:
    """Keep the black ink where the colour can be had with it; where there is black only, the other inks do not show."""
    light = np.maximum(1 - given[..., 3:], pixels.max(axis=-1, keepdims=True))
    inks = np.where(light > 0, 1 - pixels / np.where(light > 0, light, 1), given[..., :3])
    return np.concatenate([inks, 1 - light], axis=-1)


def _to_unit(samples: Samples) -> Pixels:
    if samples.dtype.kind == "u":
        unit: Pixels = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
        return unit
    return samples.astype(np.float32)


def _from_unit(unit: Pixels, given: Samples) -> Samples:
    if given.dtype.kind == "u":
        return _quantise(unit, given.dtype)
    changed: Samples = unit != given.astype(np.float32)
    return np.where(changed, unit.astype(given.dtype), given)


def _quantise(unit: Pixels, dtype: np.dtype[Any]) -> Samples:
    scaled = unit * np.float32(np.iinfo(dtype).max)
    np.clip(scaled, 0, np.iinfo(dtype).max, out=scaled)
    quantised: Samples = np.rint(scaled, out=scaled).astype(dtype)
    return quantised
