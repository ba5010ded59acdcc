"""HEIC and HEIF, the pictures of phones, through pillow-heif (the extra ``heif``)."""

from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np

from difflid.errors import ImageError, MissingExtra
from difflid.image.picture import Samples, to_depth

__all__ = ["heif_colours", "is_heif", "open_heif", "read_heif", "write_heif"]

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by channels; the library has other names for deep ones
_CODE_POINTS = ("color_primaries", "transfer_characteristics")
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def is_heif(data: bytes) -> bool:
    """Tell by the brand in the file's first box (ISO/IEC 23008-12, section 10); AVIF has brands of its own."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS and b"avif" not in data[16:64]


def open_heif(data: bytes) -> Any:
    """Open the picture that the file calls its primary one, not decoded: it has ``size``, ``mode`` and ``info``.

    Raises:
        MissingExtra: pillow-heif is not installed.
        ImageError: it has no picture.
    """
    file = _library().open_heif(BytesIO(data), convert_hdr_to_8bit=False)
    if not len(file):
        raise ImageError("it holds no picture")
    return file[file.primary_index]


def read_heif(image: Any) -> tuple[Samples, str]:
    """Decode what `open_heif` returned, upright: samples ``(H, W, C)`` uint8 or uint16, and their mode."""
    samples = np.atleast_3d(np.asarray(image))
    return samples, _MODES[samples.shape[-1]]


def heif_colours(image: Any) -> dict[str, int]:
    """Return what stands in place of a profile, as options of `write_heif`: code points of ITU-T H.273."""
    return {key: image.info["nclx_profile"][key] for key in _CODE_POINTS} if "nclx_profile" in image.info else {}


def write_heif(
    samples: Samples, mode: str, *, quality: int, icc: bytes, exif: bytes, xmp: bytes, **colours: int
) -> bytes:
    """Encode samples ``(H, W, C)`` as HEIC, 10 bit where they have more than 8.

    Raises:
        MissingExtra: pillow-heif is not installed.
    """
    if samples.dtype != np.uint8:
        samples, mode = to_depth(samples, np.uint16), f"{mode};16"
    height, width, _ = samples.shape
    image = _library().from_bytes(mode, (width, height), samples.tobytes())
    file = BytesIO()
    described = {"icc_profile": icc, "exif": exif, "xmp": xmp}
    image.info.update({key: value for key, value in described.items() if value})
    image.save(file, quality=quality, chroma=444, **colours)
    return file.getvalue()


def _library() -> ModuleType:
    try:
        import pillow_heif
    except ImportError:
        raise MissingExtra("HEIC", "heif") from None
    return pillow_heif
