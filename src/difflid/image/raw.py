"""Camera raw files, through rawpy and LibRaw (the extra ``raw``)."""

from typing import Any, BinaryIO

import tifffile

from difflid.errors import ImageError, MissingExtra
from difflid.image.picture import Samples
from difflid.image.tiff import MARKS

__all__ = ["RAW_SUFFIXES", "holds_raw", "read_raw"]

RAW_SUFFIXES = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"}
_SRGB_CURVE = (2.4, 12.92)  # power and slope
_CR2_MARK = b"II*\0\x10\0\0\0CR\2\0"
_RAW_MARKS = (_CR2_MARK, b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")  # the others: RAF, ORF and RW2
_MOSAIC, _LINEAR = 32803, 34892  # PhotometricInterpretation of DNG, NEF, ARW and other raw files that are TIFF


def holds_raw(file: BinaryIO) -> bool:
    """Tell a raw file by its content, read from the start and left there."""
    head = file.read(16)
    file.seek(0)
    marked = head.startswith(_RAW_MARKS) or head[4:12] == b"ftypcrx "  # the latter: CR3
    return marked or (head.startswith(MARKS) and _has_raw_page(file))


def _has_raw_page(file: BinaryIO) -> bool:
    """Look at the first page, in many cameras' files a thumbnail, and the pages below it."""
    try:
        page: Any = tifffile.TiffFile(file).pages.first
        return any(found.photometric in (_MOSAIC, _LINEAR) for found in (page, *(page.pages or ())))
    except Exception:  # tifffile raises anything on damaged files; who reads it will say what it is
        return False
    finally:
        file.seek(0)


def read_raw(file: BinaryIO, most_pixels: int) -> Samples:
    """Develop a raw file with the camera's white balance: upright sRGB ``(H, W, 3)`` uint16.

    Raises:
        MissingExtra: rawpy is not installed.
        ImageError: it has more than ``most_pixels``, or is not a raw file.
    """
    try:
        import rawpy
    except ImportError:
        raise MissingExtra("camera raw", "raw") from None
    try:
        with rawpy.imread(file) as raw:
            if raw.sizes.raw_height * raw.sizes.raw_width > most_pixels:
                size = f"{raw.sizes.raw_width}x{raw.sizes.raw_height}"
                raise ImageError(f"{size} is more than {most_pixels // 10**6} megapixels")
            return raw.postprocess(use_camera_wb=True, output_bps=16, gamma=_SRGB_CURVE)
    except rawpy.LibRawError as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ImageError(f"damaged, or not a raw file ({reason})") from error
