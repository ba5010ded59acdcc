"""TIFF that Pillow does not read, or only with several copies: floats, deep planes, and plain rows; and writing TIFF.

Source: TIFF 6.0, sections 2, 8 and 18.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import TiffImagePlugin

from difflid.errors import ImageError
from difflid.image.deep import bands
from difflid.image.metadata import read_tags
from difflid.image.picture import Samples

__all__ = ["MARKS", "read_tiff", "tiff_parts"]

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # what TIFF files begin with; + is BigTIFF

_BLACK_IS_ZERO, _RGB, _INKS = 1, 2, 5  # PhotometricInterpretation
_UNSPECIFIED, _ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 0, 1, 2  # ExtraSamples
_CHUNKY, _PLANES = 1, 2  # PlanarConfiguration
_UNSIGNED, _FLOAT = 1, 3  # SampleFormat
_MOST_BYTES = 2**32 - 2**20  # of a TIFF, whose offsets have 32 bit


def read_tiff(file: BinaryIO, check_size: Callable[[int, int], None]) -> tuple[Samples, dict[int, Any]] | None:
    """Decode a TIFF of one picture: samples ``(H, W, C)``, not turned, and its tags; None where it is Pillow's to read.

    Raises:
        ImageError: it has channels that would be lost, or is for here and holds several pictures or what is not grey or
            RGB, or ``check_size(width, height)`` raised it.
    """
    try:
        tiff = tifffile.TiffFile(file)
        page: Any = tiff.pages.first
        _check_bands(page)
        if not (_is_float(page) or _is_deep(page) or (_is_plain(page) and len(tiff.pages) == 1)):
            return None
        check_size(page.imagewidth, page.imagelength)
        _check(page, len(tiff.pages))
    except ImageError:
        raise
    except Exception:  # tifffile raises anything on damaged files; Pillow will say what it is
        return None
    samples = _decode(page)
    if page.planarconfig == _PLANES and samples.ndim == 3:
        samples = np.ascontiguousarray(np.moveaxis(samples, 0, -1))
    return np.atleast_3d(samples), {tag.code: tag.value for tag in page.tags}


def _is_float(page: Any) -> bool:
    return bool(page.sampleformat == _FLOAT)


def _is_deep(page: Any) -> bool:
    """Tell 16 bit in the layouts that Pillow refuses."""
    odd = page.planarconfig == _PLANES or page.samplesperpixel == 2
    return _is_simple(page) and page.dtype == np.uint16 and page.samplesperpixel > 1 and odd


def _is_plain(page: Any) -> bool:
    """Tell samples that are stored as they are in memory."""
    as_it_is = page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and page.is_contiguous
    return _is_simple(page) and page.planarconfig == _CHUNKY and bool(as_it_is)


def _is_simple(page: Any) -> bool:
    """Tell grey or RGB of 8 or 16 bit, with straight alpha or none."""
    colours = {_BLACK_IS_ZERO: 1, _RGB: 3}.get(page.photometric)
    extra = tuple(page.extrasamples)
    simple = page.dtype in (np.uint8, np.uint16) and extra in ((), (_UNASSOCIATED_ALPHA,))
    return simple and page.samplesperpixel == (colours or 0) + len(extra)


def _check_bands(page: Any) -> None:
    """Refuse what is neither colour nor alpha, such as infrared: Pillow would leave it out."""
    if len(page.extrasamples) > 1 or _UNSPECIFIED in page.extrasamples:
        raise ImageError(
            f"one or more of its {page.samplesperpixel} channels are neither colour nor alpha and would be lost: "
            "save it without them"
        )


def _check(page: Any, pages: int) -> None:
    if pages > 1 or page.ndim not in (2, 3):
        raise ImageError(f"it holds {pages} pages of {page.ndim} dimensions, expected one picture")
    if not 1 <= page.samplesperpixel <= 4:
        raise ImageError(f"it has {page.samplesperpixel} channels, expected 1 to 4")
    if page.photometric not in (_BLACK_IS_ZERO, _RGB):
        raise ImageError(f"floats as {page.photometric.name} are not supported: convert it to grey or RGB")
    if _ASSOCIATED_ALPHA in page.extrasamples:
        raise ImageError("floats with premultiplied alpha are not supported: save it with straight alpha")


def _decode(page: Any) -> Samples:
    try:
        samples: Samples = page.asarray()
    except Exception as error:
        if "imagecodecs" not in str(error):  # the library that reads what tifffile alone does not
            raise
        how = f"{page.compression.name} compression with predictor {page.predictor}"
        raise ImageError(f"{how} is not supported in TIFF of this kind: save it uncompressed") from None
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def tiff_parts(samples: Samples, mode: str, *, icc: bytes, exif: bytes, xmp: bytes) -> Iterator[bytes | memoryview]:
    """Encode samples ``(H, W, C)`` as uncompressed little-endian TIFF in one strip, part by part.

    Raises:
        ImageError: they are more than a TIFF can hold.
    """
    if samples.nbytes > _MOST_BYTES:
        raise ImageError(
            f"a TIFF holds at most 4 GB, and this picture has {samples.nbytes / 1e9:.1f}; reduce its depth"
        )
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
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = {"CMYK": _INKS, "L": _BLACK_IS_ZERO, "LA": _BLACK_IS_ZERO}.get(
        mode, _RGB
    )
    if mode in ("LA", "RGBA"):
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
    yield file.getvalue()
    little = samples.dtype.newbyteorder("<")
    for rows in bands(height, samples[0].nbytes):
        yield np.ascontiguousarray(samples[rows], little).data
