"""Pictures to encoded bytes and files, in the kind they came in."""

import secrets
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from difflid.errors import ImageError
from difflid.image.deep import write_png, write_tiff
from difflid.image.metadata import descriptive_tags
from difflid.image.picture import Picture, Samples, to_depth, to_samples

__all__ = ["check_pil", "encode", "format_of", "save", "to_pil"]

_FORMATS = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
_MODES = {
    "BMP": ("L", "RGB"),
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("L", "LA", "RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK"),
    "WEBP": ("L", "LA", "RGB", "RGBA"),
}
_DEEP_WRITERS = {"PNG": write_png, "TIFF": write_tiff}
_QUALITY = 95  # of JPEG and of lossy WebP


def save(picture: Picture, path: str | Path) -> None:
    """Write a picture in the format its suffix says; the file appears complete or not at all.

    Raises:
        ImageError: the suffix is not known, the format cannot hold the picture, or the file cannot be written.
    """
    path = Path(path)
    data = encode(picture, format_of(path))
    temporary = path.with_name(f".difflid-{secrets.token_hex(6)}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder itself is gone or closed, which the error under way says


def format_of(path: Path) -> str:
    """Return the format that the suffix of ``path`` stands for."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise ImageError(f"cannot write {path}: expected one of the suffixes {', '.join(_FORMATS)}") from None


def encode(picture: Picture, format: str) -> bytes:
    """Encode a picture as JPEG, PNG, TIFF, WEBP or BMP; 16 bit stay 16 bit in PNG and TIFF and become 8 elsewhere.

    Raises:
        ImageError: the format is not known or cannot hold the picture's mode.
    """
    _check(picture, format)
    samples = to_samples(picture)
    if samples.dtype == np.uint16 and format in _DEEP_WRITERS:
        return _DEEP_WRITERS[format](samples, icc=picture.icc, exif=picture.exif)
    file = BytesIO()
    try:
        _pil(to_depth(samples, np.uint8), picture.mode).save(file, format, **_options(picture, format))
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot encode the picture as {format}: {error}") from error
    return file.getvalue()


def _check(picture: Picture, format: str) -> None:
    if format not in _MODES:
        raise ImageError(f"cannot encode as {format}: expected one of {', '.join(_MODES)}")
    if picture.mode not in _MODES[format]:
        fitting = ", ".join(name for name, modes in _MODES.items() if picture.mode in modes)
        raise ImageError(f"{format} cannot hold a picture in mode {picture.mode}: write it as one of {fitting}")


def _options(picture: Picture, format: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if picture.icc:
        options["icc_profile"] = picture.icc
    if picture.exif:
        options["exif"] = _exif_for(picture.exif, format)
    if format in ("JPEG", "WEBP"):
        options["quality"] = _QUALITY
    if format == "JPEG":
        options["subsampling"] = 0
    return options | (dict(picture.encoding) if format == picture.format else {})


def _exif_for(block: bytes, format: str) -> bytes | Image.Exif:
    if format != "TIFF":
        return b"Exif\0\0" + block
    exif = Image.Exif()
    exif.load(block)
    return descriptive_tags(exif)


def to_pil(picture: Picture) -> Image.Image:
    """Make a PIL image, with ICC profile and EXIF in its ``info``.

    Raises:
        ImageError: it is 16-bit colour, which PIL does not have.
    """
    samples = to_samples(check_pil(picture))
    image = _pil(samples, picture.mode)
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = b"Exif\0\0" + picture.exif
    return image


def check_pil(picture: Picture) -> Picture:
    """Refuse 16-bit colour, which PIL would cut to 8 bit."""
    if picture.samples.dtype == np.uint16 and picture.mode != "L":
        raise ImageError("PIL has no 16-bit colour: give the encoded bytes or an array, or use `difflid dehaze`")
    return picture


def _pil(samples: Samples, mode: str) -> Image.Image:
    height, width, _ = samples.shape
    return Image.frombytes("I;16" if samples.dtype == np.uint16 else mode, (width, height), samples.tobytes())
