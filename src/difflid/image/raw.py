"""Camera raw files, through rawpy and LibRaw (the extra ``raw``)."""

from io import BytesIO

from difflid.errors import MissingExtra
from difflid.image.picture import Samples

__all__ = ["RAW_SUFFIXES", "read_raw"]

RAW_SUFFIXES = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"}
_SRGB_CURVE = (2.4, 12.92)  # power and slope


def read_raw(data: bytes, most_pixels: int) -> Samples:
    """Develop a raw file with the camera's white balance: upright sRGB ``(H, W, 3)`` uint16.

    Raises:
        MissingExtra: rawpy is not installed.
        ValueError: it has more than ``most_pixels``.
    """
    try:
        import rawpy
    except ImportError:
        raise MissingExtra("camera raw", "raw") from None
    with rawpy.imread(BytesIO(data)) as raw:
        if raw.sizes.raw_height * raw.sizes.raw_width > most_pixels:
            raise ValueError(f"{raw.sizes.raw_width}x{raw.sizes.raw_height} is more than {most_pixels} pixels")
        return raw.postprocess(use_camera_wb=True, output_bps=16, gamma=_SRGB_CURVE)
