"""Pictures to encoded bytes and files, in the kind they came in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from difflid.errors import DifflidError, ImageError
from difflid.image.deep import png_parts
from difflid.image.heif import write_heif
from difflid.image.picture import Picture, Samples, to_depth, without_metadata
from difflid.image.tiff import tiff_parts
from difflid.places import Place, place, write_whole

__all__ = [
    "WRITABLE_SUFFIXES",
    "Writing",
    "check_pil",
    "encode",
    "format_of",
    "save",
    "to_pil",
    "writable_format",
    "write_parts",
]

_FORMATS = {
    ".avif": "AVIF",
    ".bmp": "BMP",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
WRITABLE_SUFFIXES = frozenset(_FORMATS)
_MODES = {
    "AVIF": ("L", "RGB", "RGBA"),
    "BMP": ("L", "RGB"),
    "HEIF": ("L", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("L", "LA", "RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK"),
    "WEBP": ("L", "LA", "RGB", "RGBA"),
}
_QUALITIES = {"AVIF": 90, "HEIF": 90, "JPEG": 95, "WEBP": 95}  # of the formats that lose something
_XMP_KEYWORD = "XML:com.adobe.xmp"  # of PNG; XMP specification part 3, section 1.1.5
_EXIF_MARK = b"Exif\0\0"

Part = bytes | memoryview  # of an encoded picture


@dataclass(frozen=True)
class Writing:
    """How a picture is encoded, where the user has a say."""

    quality: int | None = None  # 1 ... 100 of JPEG, WebP, AVIF and HEIF; None: 95, of AVIF and HEIF 90
    subsampling: str | None = None  # of JPEG and AVIF: 4:4:4, 4:2:2 or 4:2:0; None: that of a JPEG source, else 4:4:4
    metadata: bool = True  # keep EXIF and XMP; the ICC profile is kept in any case


def save(picture: Picture, path: str | Place, writing: Writing = Writing()) -> None:
    """Write a picture in the format its suffix says; the file appears complete or not at all.

    Raises:
        ImageError: the suffix is not known, the format cannot hold the picture, or the file cannot be written.
        MissingExtra: HEIF needs a library that is not installed.
    """
    target = place(path)
    write_parts(_parts(picture, format_of(target), writing), target)


def write_parts(parts: Iterable[Part], path: Place) -> None:
    """Write a file that appears complete or not at all.

    Raises:
        ImageError: it cannot be written.
    """
    try:
        write_whole(parts, path)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror or error}") from error


def format_of(path: Place) -> str:
    """Return the format that the suffix of ``path`` stands for."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise ImageError(f"cannot write {path}: expected one of the suffixes {', '.join(_FORMATS)}") from None


def writable_format(picture: Picture) -> str:
    """Return the format a picture came in, or PNG where it has none that can be written."""
    return picture.format if picture.format in _MODES else "PNG"


def encode(picture: Picture, format: str, writing: Writing = Writing()) -> bytes:
    """Encode a picture as JPEG, PNG, TIFF, WEBP, BMP, AVIF or HEIF.

    More than 8 bit stay in PNG, TIFF and (as 10 bit) HEIF and become 8 elsewhere; floats stay in TIFF.

    Raises:
        ImageError: the format is not known, or cannot hold the picture's mode or metadata.
        MissingExtra: HEIF needs a library that is not installed.
    """
    return b"".join(_parts(picture, format, writing))


def _parts(picture: Picture, format: str, writing: Writing) -> Iterator[Part]:
    """Encode part by part: what is as large as its samples is never held as a whole."""
    _check(picture, format)
    picture = picture if writing.metadata else without_metadata(picture)
    try:
        yield from _encoder(picture, format, writing)
    except (DifflidError, MemoryError):
        raise
    except Exception as error:  # Pillow raises anything on damaged metadata
        hint = "; drop its metadata or choose another format" if picture.exif or picture.xmp else ""
        raise ImageError(f"cannot encode the picture as {format}: {error}{hint}") from error


def _check(picture: Picture, format: str) -> None:
    if format not in _MODES:
        raise ImageError(f"cannot encode as {format}: expected one of {', '.join(_MODES)}")
    if picture.mode not in _MODES[format]:
        fitting = ", ".join(name for name, modes in _MODES.items() if picture.mode in modes)
        raise ImageError(f"{format} cannot hold a picture in mode {picture.mode}: write it as one of {fitting}")


def _encoder(picture: Picture, format: str, writing: Writing) -> Iterator[Part]:
    described = {"icc": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
    if format == "TIFF":
        return tiff_parts(picture.samples, picture.mode, **described)
    if format == "PNG" and picture.samples.dtype != np.uint8:
        return png_parts(to_depth(picture.samples, np.uint16), **described)
    return iter([(_with_heif if format == "HEIF" else _with_pil)(picture, format, writing)])


def _with_heif(picture: Picture, format: str, writing: Writing) -> bytes:
    quality = writing.quality or _QUALITIES[format]
    colours = picture.encoding if picture.format == format else {}
    return write_heif(
        picture.samples, picture.mode, quality=quality, icc=picture.icc, exif=picture.exif, xmp=picture.xmp, **colours
    )


def _with_pil(picture: Picture, format: str, writing: Writing) -> bytes:
    file = BytesIO()
    options = _described(picture, format) | _encoding(picture, format, writing)
    _pil(to_depth(picture.samples, np.uint8), picture.mode).save(file, format, **options)
    return file.getvalue()


def _described(picture: Picture, format: str) -> dict[str, Any]:
    """Options that carry the ICC profile, EXIF and XMP."""
    options: dict[str, Any] = {"icc_profile": picture.icc} if picture.icc else {}
    if picture.exif:
        options["exif"] = _EXIF_MARK + picture.exif
    if picture.xmp and format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(_XMP_KEYWORD, picture.xmp)
    elif picture.xmp:
        options["xmp"] = picture.xmp
    return options


def _encoding(picture: Picture, format: str, writing: Writing) -> dict[str, Any]:
    """Options that say how the pixels are encoded: as the source was, but for what the user asks."""
    options: dict[str, Any] = {}
    if format in _QUALITIES:
        options["quality"] = _QUALITIES[format]
    if format == "JPEG" or (format == "AVIF" and picture.mode.startswith("RGB")):
        options["subsampling"] = "4:4:4"
    if format == picture.format:
        options |= picture.encoding
    if writing.quality:
        options |= {"quality": writing.quality, "lossless": False}
    if writing.subsampling and "subsampling" in options:
        options["subsampling"] = writing.subsampling
    return options


def to_pil(picture: Picture) -> Image.Image:
    """Make a PIL image, with ICC profile and EXIF in its ``info``.

    Raises:
        ImageError: it is 16-bit colour, which PIL does not have.
    """
    image = _pil(check_pil(picture).samples, picture.mode)
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = _EXIF_MARK + picture.exif
    if picture.xmp:
        image.info["xmp"] = picture.xmp
    return image


def check_pil(picture: Picture) -> Picture:
    """Refuse colour of more than 8 bit, which PIL would cut."""
    if picture.samples.dtype != np.uint8 and picture.mode != "L":
        raise ImageError("PIL has no 16-bit colour: give the encoded bytes or an array, or use `difflid dehaze`")
    return picture


def _pil(samples: Samples, mode: str) -> Image.Image:
    height, width, _ = samples.shape
    samples = samples.astype(np.float32, copy=False) if samples.dtype.kind == "f" else samples
    mode = {"u2": "I;16", "f4": "F"}.get(samples.dtype.str[1:], mode)
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(samples).data)
