"""Camera raw files, through rawpy and LibRaw (the extra ``raw``)."""

from typing import BinaryIO

from difflid.errors import ImageError, MissingExtra
from difflid.image.picture import Samples

__all__ = ["RAW_SUFFIXES", "read_raw"]

RAW_SUFFIXES = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"}
_SRGB_CURVE = (2.4, 12.92)  # power and slope


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
