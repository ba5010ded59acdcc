"""Colours of other RGB spaces, such as Display P3 and Adobe RGB, as sRGB that reaches beyond [0, 1], and back.

The network knows sRGB. A colour outside its gamut has a value below 0 or above 1, on a curve that is continued
symmetrically (as in IEC 61966-2-2, scRGB), so that none is lost on the way there and back.

Only profiles of three curves and a matrix are converted: so cameras, phones and screens describe a wide gamut.

Source: ICC.1:2022, sections 7.2, 8.3 (matrix profiles), 10.6 (curveType) and 10.18 (parametricCurveType).
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ColourSpace", "colour_space"]

Pixels = NDArray[np.float32]

_RAMP = np.linspace(0, 1, 4096)
_SRGB_TO_XYZ = np.array(  # white point D50, as in every profile
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
_SAME = 0.005  # a matrix and curves that differ by less from those of sRGB are those of sRGB
_PARAMETERS = ("g", "gab", "gabc", "gabcd", "gabcdef")  # of the parametric curve, by function type


@dataclass(frozen=True, eq=False)
class ColourSpace:
    """An RGB space of three curves and a matrix."""

    curves: NDArray[Any]  # (3, 4096) linear light at equal steps of the encoded value
    matrix: NDArray[Any]  # (3, 3) its linear light -> that of sRGB

    def to_srgb(self, pixels: Pixels) -> Pixels:
        """Turn ``(H, W, 3)`` in [0, 1] into sRGB, beyond [0, 1] where sRGB does not reach."""
        linear = np.stack([np.interp(pixels[..., i], _RAMP, curve) for i, curve in enumerate(self.curves)], axis=-1)
        return _encode((linear @ self.matrix.T).astype(np.float32))

    def from_srgb(self, pixels: Pixels) -> Pixels:
        """Turn sRGB into this space, cut to its gamut."""
        linear = _decode(pixels) @ np.linalg.inv(self.matrix).T
        channels = [_invert(curve, linear[..., i]) for i, curve in enumerate(self.curves)]
        return np.stack(channels, axis=-1).astype(np.float32)


def _invert(curve: NDArray[Any], linear: NDArray[Any]) -> NDArray[Any]:
    values, first = np.unique(curve, return_index=True)  # where a curve is flat, the darkest: black stays black
    return np.interp(linear, values, _RAMP[first])


@lru_cache(maxsize=16)
def colour_space(icc: bytes) -> ColourSpace | None:
    """Read a profile; None where its colours can be taken as they are: it is sRGB, or not of curves and a matrix."""
    try:
        space = _read(icc)
    except (struct.error, KeyError, ValueError, IndexError, np.linalg.LinAlgError):
        return None
    return None if space is None or _is_srgb(space) else space


def _is_srgb(space: ColourSpace) -> bool:
    same_matrix = np.abs(space.matrix - np.eye(3)).max() < _SAME
    return bool(same_matrix and np.abs(space.curves - _decode(_RAMP)).max() < _SAME)


def _read(icc: bytes) -> ColourSpace | None:
    if icc[16:24] != b"RGB XYZ ":
        return None
    tags = _tags(icc)
    columns = [np.array(struct.unpack_from(">3i", tags[name], 8)) / 2**16 for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    curves = np.stack([_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")])
    if not np.isfinite(curves).all() or (np.diff(curves) < 0).any():
        return None
    matrix = np.linalg.inv(_SRGB_TO_XYZ) @ np.stack(columns, axis=1)
    np.linalg.inv(matrix)  # it must have one
    return ColourSpace(curves, matrix)


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    entries = [struct.unpack_from(">4sII", icc, 132 + 12 * index) for index in range(min(count, 100))]
    return {name: icc[start : start + size] for name, start, size in entries}


def _curve(tag: bytes) -> NDArray[Any]:
    match tag[:4]:
        case b"curv":
            return _sampled_curve(tag)
        case b"para":
            return _parametric_curve(tag)
    raise ValueError(f"a curve of type {tag[:4]!r}")


def _sampled_curve(tag: bytes) -> NDArray[Any]:
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return _RAMP
    values = np.array(struct.unpack_from(f">{min(count, 65536)}H", tag, 12))
    if count == 1:
        return np.asarray(_RAMP ** (values[0] / 256))
    return np.interp(_RAMP, np.linspace(0, 1, len(values)), values / 65535)


def _parametric_curve(tag: bytes) -> NDArray[Any]:
    """Evaluate ``(a x + b)^g + e`` where x >= d, ``c x + f`` below; table 68."""
    names = _PARAMETERS[struct.unpack_from(">H", tag, 8)[0]]
    values = np.array(struct.unpack_from(f">{len(names)}i", tag, 12)) / 2**16
    given = dict.fromkeys("bcdef", 0.0) | {"a": 1.0} | dict(zip(names, map(float, values), strict=True))
    offset = given["c"] if names == "gabc" else 0.0  # c is an offset in this type, a slope in the later ones
    edge = -given["b"] / given["a"] if names in ("gab", "gabc") else given["d"]
    slope = 0.0 if names == "gabc" else given["c"]
    power = np.maximum(given["a"] * _RAMP + given["b"], 0) ** given["g"] + given["e"] + offset
    return np.where(edge <= _RAMP, power, slope * _RAMP + given["f"] + offset).clip(0, 1)


def _encode(linear: Any) -> Any:
    size = np.abs(linear)
    curve = np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055)
    return np.copysign(curve, linear).astype(linear.dtype)


def _decode(encoded: Any) -> Any:
    size = np.abs(encoded)
    curve = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.copysign(curve, encoded).astype(encoded.dtype)
