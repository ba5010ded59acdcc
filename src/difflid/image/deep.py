"""Colour of more than 8 bit, which Pillow cannot hold: reading PNG and TIFF in full depth, and writing them.

Pillow decodes a 16-bit sample to its high byte when told the byte order of the file, and to its low byte when told the
other one. Both together are the sample. Floats are read by tifffile.

Sources: PNG (ISO/IEC 15948), sections 5, 9 and 11; TIFF 6.0, sections 2 and 8.
"""

import struct
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from difflid.errors import ImageError
from difflid.image.metadata import read_tags
from difflid.image.picture import Samples

__all__ = ["is_deep", "is_float_tiff", "read_deep", "read_float_tiff", "stored_as", "write_png", "write_tiff"]

_NATIVE = "L" if sys.byteorder == "little" else "B"
_ROWS = 256  # rows compressed at a time
_PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG colour type
_PNG_UP = 2  # PNG filter: difference to the row above
_BLACK_IS_ZERO, _RGB = 1, 2  # TIFF PhotometricInterpretation
_UNASSOCIATED_ALPHA = 2  # TIFF ExtraSamples
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF
_PLANES = 2  # TIFF PlanarConfiguration
_UNSIGNED, _FLOAT = 1, 3  # TIFF SampleFormat


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


def read_deep(data: bytes, stored: str) -> tuple[Samples, str]:
    """Decode 16-bit colour; returns samples ``(H, W, C)`` uint16 and their mode.

    Raises:
        ImageError: it is stored in a way that would lose depth.
    """
    layout, _, order = stored.partition(";16")
    if layout == "LA":
        return _decode_as(data, "RGBA").view(">u2").astype(np.uint16), "LA"
    if layout not in ("RGB", "RGBA"):
        raise ImageError(f"16-bit samples stored as {stored} are not supported: convert to 16-bit RGB or to 8 bit")
    order = _NATIVE if order == "N" else order
    other = "B" if order == "L" else "L"
    high = _decode_as(data, f"{layout};16{order}").astype(np.uint16)
    return high << 8 | _decode_as(data, f"{layout};16{other}"), layout


def _decode_as(data: bytes, stored: str) -> Samples:
    image: Any = Image.open(BytesIO(data))
    if image.format == "TIFF" and image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == _PLANES:
        raise ImageError("16-bit TIFF with separate colour planes is not supported: save it with interleaved channels")
    image.tile = [
        tile._replace(args=stored if isinstance(tile.args, str) else (stored, *tile.args[1:])) for tile in image.tile
    ]
    return np.array(image)


def is_float_tiff(data: bytes) -> bool:
    """Tell whether an encoded picture is a TIFF of floats."""
    if data[:4] not in _TIFF_MARKS:
        return False
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            return int(file.pages.first.sampleformat) == _FLOAT
    except Exception:  # tifffile raises anything on damaged files
        return False


def read_float_tiff(data: bytes, most_pixels: int) -> tuple[Samples, dict[int, Any]]:
    """Decode a TIFF of one picture of floats: samples ``(H, W, C)``, not turned, and its tags.

    Raises:
        ImageError: it holds several pictures, or other than 1 to 4 channels, or more than ``most_pixels``.
    """
    with tifffile.TiffFile(BytesIO(data)) as file:
        page: Any = file.pages.first
        if len(file.pages) > 1 or page.ndim not in (2, 3):
            raise ImageError(f"it holds {len(file.pages)} pages of {page.ndim} dimensions, expected one picture")
        if page.imagewidth * page.imagelength > most_pixels:
            raise ImageError(f"{page.imagewidth}x{page.imagelength} is more than {most_pixels // 10**6} megapixels")
        if not 1 <= page.samplesperpixel <= 4:
            raise ImageError(f"it has {page.samplesperpixel} channels, expected 1 to 4")
        samples, tags = page.asarray(), {tag.code: tag.value for tag in page.tags}
    if page.planarconfig == _PLANES and samples.ndim == 3:
        samples = np.moveaxis(samples, 0, -1)
    return np.atleast_3d(samples), tags


def write_png(samples: Samples, *, icc: bytes, exif: bytes, xmp: bytes) -> bytes:
    """Encode samples ``(H, W, C)`` uint16 as PNG."""
    height, width, channels = samples.shape
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOUR[channels], 0, 0, 0))]
    if icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if exif:
        chunks.append((b"eXIf", exif))
    if xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    chunks += [(b"IDAT", part) for part in _deflate(samples)]
    chunks.append((b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _deflate(samples: Samples) -> Iterator[bytes]:
    compressor = zlib.compressobj()
    above = np.zeros((1, samples[0].nbytes), np.uint8)
    for start in range(0, len(samples), _ROWS):
        band = samples[start : start + _ROWS]
        rows = band.astype(">u2").view(np.uint8).reshape(len(band), -1)
        filtered = np.full((len(rows), rows.shape[1] + 1), _PNG_UP, np.uint8)
        np.subtract(rows, np.concatenate([above, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1:]
        yield compressor.compress(filtered.tobytes())
    yield compressor.flush()


def write_tiff(samples: Samples, *, icc: bytes, exif: bytes, xmp: bytes) -> bytes:
    """Encode samples ``(H, W, C)``, uint16 or float, as uncompressed little-endian TIFF in one strip."""
    height, width, channels = samples.shape
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    described = read_tags(exif)
    for tag in described:
        tags[tag] = described.get_ifd(tag) or described[tag]
    tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH] = width, height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (8 * samples.itemsize,) * channels
    tags[TiffImagePlugin.SAMPLEFORMAT] = (_FLOAT if samples.dtype.kind == "f" else _UNSIGNED,) * channels
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    tags[TiffImagePlugin.COMPRESSION] = 1
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = _RGB if channels > 2 else _BLACK_IS_ZERO
    if channels in (2, 4):
        tags[TiffImagePlugin.EXTRASAMPLES] = _UNASSOCIATED_ALPHA
    if icc:
        tags[TiffImagePlugin.ICCPROFILE] = icc
    if xmp:
        tags[TiffImagePlugin.XMP] = xmp
    tags[TiffImagePlugin.ROWSPERSTRIP] = height
    tags.tagtype[TiffImagePlugin.STRIPBYTECOUNTS] = 4  # LONG
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = samples.nbytes
    tags[TiffImagePlugin.STRIPOFFSETS] = 0  # counted from the end of the directory
    file = BytesIO()
    tags.save(file)
    little = samples.astype(samples.dtype.newbyteorder("<"), copy=False)
    return file.getvalue() + np.ascontiguousarray(little).data
