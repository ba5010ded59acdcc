"""Colour of 16 bit, which Pillow cannot hold: reading PNG and TIFF in full depth, and writing PNG.

Pillow decodes a 16-bit sample to its high byte when told the byte order of the file, and to its low byte when told the
other one. Both together are the sample.

Source: PNG (ISO/IEC 15948), sections 5, 9 and 11.
"""

import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from difflid.errors import ImageError
from difflid.image.picture import Samples

__all__ = ["bands", "is_deep", "png_parts", "read_deep", "samples_of", "stored_as"]

_NATIVE = "L" if sys.byteorder == "little" else "B"
_BAND_BYTES = 2**22  # of samples that are handed over or compressed at a time
_PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG colour type
_PNG_UP = 2  # PNG filter: difference to the row above
_PLANES = 2  # TIFF PlanarConfiguration


def is_deep(image: Image.Image) -> bool:
    """Tell whether a picture that is opened but not loaded is 16-bit colour."""
    bits = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE, ())
    return not image.mode.startswith("I") and (16 in bits or ";16" in stored_as(image))


def stored_as(image: Image.Image) -> str:
    """Return Pillow's name for how the samples of a picture that is opened but not loaded are stored."""
    tile = getattr(image, "tile", None)
    if not tile:
        return ""
    args = tile[0].args
    return str(args if isinstance(args, str) else args[0] if args else "")


def read_deep(file: BinaryIO, stored: str) -> tuple[Samples, str]:
    """Decode 16-bit colour; returns samples ``(H, W, C)`` uint16 and their mode.

    Raises:
        ImageError: it is stored in a way that would lose depth.
    """
    layout, _, order = stored.partition(";16")
    if layout == "LA":
        return _decode_as(file, "RGBA").view(">u2").astype(np.uint16), "LA"
    if layout not in ("RGB", "RGBA"):
        raise ImageError(f"16-bit samples stored as {stored} are not supported: convert to 16-bit RGB or to 8 bit")
    order = _NATIVE if order == "N" else order
    other = "B" if order == "L" else "L"
    samples = _decode_as(file, f"{layout};16{order}").astype(np.uint16)
    samples <<= 8
    samples |= _decode_as(file, f"{layout};16{other}")
    return samples, layout


def _decode_as(file: BinaryIO, stored: str) -> Samples:
    file.seek(0)
    image: Any = Image.open(file)
    if image.format == "TIFF" and image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == _PLANES:
        raise ImageError("16-bit TIFF with separate colour planes is not supported: save it with interleaved channels")
    image.tile = [
        tile._replace(args=stored if isinstance(tile.args, str) else (stored, *tile.args[1:])) for tile in image.tile
    ]
    return samples_of(image)


def samples_of(image: Image.Image, mode: str = "") -> Samples:
    """Take the samples ``(H, W, C)`` of a PIL image, converted to ``mode``; in bands, or there would be two copies."""
    image.load()
    parts = (image.crop((0, rows.start, image.width, rows.stop)) for rows in bands(image.height, 4 * image.width))
    samples: Samples | None = None
    top = 0
    for part in parts:
        band = np.atleast_3d(np.asarray(part.convert(mode) if mode else part))
        if samples is None:
            samples = np.empty((image.height, *band.shape[1:]), band.dtype)
        samples[top : top + len(band)] = band
        top += len(band)
    if samples is None:
        raise ImageError("it has no pixels")
    return samples


def bands(height: int, row_bytes: int) -> Iterator[slice]:
    """Cover the rows of a picture with bands of a few megabytes."""
    count = max(1, _BAND_BYTES // row_bytes)
    for top in range(0, height, count):
        yield slice(top, min(top + count, height))


def png_parts(samples: Samples, *, icc: bytes, exif: bytes, xmp: bytes) -> Iterator[bytes]:
    """Encode samples ``(H, W, C)`` uint16 as PNG, part by part."""
    height, width, channels = samples.shape
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOUR[channels], 0, 0, 0))]
    if icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if exif:
        chunks.append((b"eXIf", exif))
    if xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    yield b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)
    yield from (_chunk(b"IDAT", part) for part in _deflate(samples) if part)
    yield _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _deflate(samples: Samples) -> Iterator[bytes]:
    compressor = zlib.compressobj()
    above = np.zeros((1, samples[0].nbytes), np.uint8)
    for part in bands(len(samples), samples[0].nbytes):
        band = samples[part]
        rows = band.astype(">u2").view(np.uint8).reshape(len(band), -1)
        filtered = np.full((len(rows), rows.shape[1] + 1), _PNG_UP, np.uint8)
        np.subtract(rows, np.concatenate([above, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1:]
        yield compressor.compress(filtered.tobytes())
    yield compressor.flush()
