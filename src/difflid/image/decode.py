"""Files, encoded bytes and PIL images to pictures.

The EXIF orientation of a file is applied to its pixels. A PIL image is taken as it stands: what it shows is its size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from difflid.errors import ConfigError, ImageError, MissingExtra
from difflid.image.deep import is_deep, read_deep, samples_of, stored_as
from difflid.image.encode import WRITABLE_SUFFIXES
from difflid.image.heif import heif_colours, is_heif, open_heif, read_heif
from difflid.image.metadata import descriptive_tags, raw_tags, take_orientation, tiff_tags, turn_upright, upright_xmp
from difflid.image.picture import Picture, Samples, from_samples
from difflid.image.raw import RAW_SUFFIXES, holds_raw, read_raw
from difflid.image.tiff import MARKS, read_tiff
from difflid.places import Place, Remote, place

__all__ = ["MAX_PIXELS", "SUFFIXES", "load"]

MAX_PIXELS = 400_000_000  # larger pictures are refused before they are decoded

SUFFIXES = WRITABLE_SUFFIXES | RAW_SUFFIXES  # of the files that can be read

_DENSEST = 20_000  # pixels per byte; deflate reaches 8,256 with one bit per pixel, and no photograph 1,000
_DENSER = ("WEBP", "AVIF")  # formats in which one colour may take next to no bytes

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "AVIF")
_READ = (*_FORMATS, "HEIF", "camera raw")
_MODES = ("L", "LA", "RGB", "RGBA", "CMYK")
_EXIF_MARK = b"Exif\0\0"
_ICC_TAG, _XMP_TAG = 34675, 700  # of TIFF
_WHITE_IS_ZERO = 0  # PhotometricInterpretation of TIFF
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # between the levels of 2 and 4 bit that Pillow spreads over 8 bit


class _OwnLimit:
    """Suspends Pillow's own limit, which warns and refuses far below `MAX_PIXELS`, while any thread decodes."""

    def __init__(self) -> None:
        self._lock, self._decoding = Lock(), 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._decoding:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._decoding += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._decoding -= 1
            if not self._decoding:
                Image.MAX_IMAGE_PIXELS = self._limit


_own_limit = _OwnLimit()


def load(source: str | Place | bytes | Image.Image) -> Picture:
    """Decode a file, encoded bytes or a PIL image: JPEG, PNG, TIFF, WebP, BMP, AVIF or HEIF, or a camera's raw file.

    A file is a path or a URL that fsspec opens. Palette pictures become RGB, with alpha where they have transparency;
    one-bit pictures become grey. Depth is kept, but AVIF is read as 8 bit. Raw files are known by suffix or content.

    Raises:
        MissingExtra: HEIF, raw and URLs need libraries that are not installed.
        ConfigError: no file system is known for the URL.
        ImageError: it is missing, not a picture, damaged, animated, too large, or in a mode that would lose something.
    """
    name = str(source) if isinstance(source, str | Path | Remote) else "the picture"
    try:
        with _own_limit:
            if isinstance(source, Image.Image):
                return _from_pil(source)
            found = BytesIO(source) if isinstance(source, bytes) else place(source)
            with _opened(found) as file:
                return _from_raw(file) if _is_named_raw(found) or holds_raw(file) else _from_file(file)
    except (ConfigError, MissingExtra):
        raise
    except ImageError as error:
        raise ImageError(f"cannot read {name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"cannot read {name}: not enough memory") from error
    except Exception as error:  # Pillow raises anything on damaged files
        if isinstance(error, OSError) and error.errno:  # but not this
            raise ImageError(f"cannot read {name}: {error.strerror}") from error
        raise ImageError(f"cannot read {name}: damaged ({str(error) or type(error).__name__})") from error


@contextmanager
def _opened(source: BytesIO | Place) -> Iterator[BinaryIO]:
    """Open a file that can be read from any place, and is not empty."""
    try:
        given = source if isinstance(source, BytesIO) else _open(source)
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except IsADirectoryError:
        raise ImageError("it is a folder, expected a picture") from None
    except ValueError as error:  # of a name
        raise ImageError(str(error)) from error
    with given:
        file = given if given.seekable() else BytesIO(given.read())  # a pipe, say
        if not _length(file):
            raise ImageError("it is empty (0 bytes)")
        yield file


def _length(file: BinaryIO) -> int:
    length = file.seek(0, 2)
    file.seek(0)
    return length


def _open(source: Place) -> BinaryIO:
    return BytesIO(source.read_bytes()) if isinstance(source, Remote) else source.open("rb")


def _is_named_raw(source: BytesIO | Place) -> bool:
    return not isinstance(source, BytesIO) and source.suffix.lower() in RAW_SUFFIXES


def _from_raw(file: BinaryIO) -> Picture:
    samples = np.atleast_3d(read_raw(file, MAX_PIXELS))
    return from_samples(samples, "L" if samples.shape[-1] == 1 else "RGB", exif=_block(raw_tags(file)))


def _from_file(file: BinaryIO) -> Picture:
    head = file.read(64)
    if is_heif(head):
        return _from_heif(head + file.read())
    return (head.startswith(MARKS) and _from_tiff(file)) or _decode(file)


def _from_tiff(file: BinaryIO) -> Picture | None:
    """Read what is not for Pillow."""
    found = read_tiff(file, partial(_check_size, length=_length(file)))
    if found is None:
        return None
    samples, tags = found
    return from_samples(
        turn_upright(samples, tags.get(ExifTags.Base.Orientation, 1)),
        ("L", "LA", "RGB", "RGBA")[samples.shape[-1] - 1],
        format="TIFF",
        exif=_block(tiff_tags(file)),
        xmp=upright_xmp(_only_bytes(tags.get(_XMP_TAG))),
        icc=_only_bytes(tags.get(_ICC_TAG)),
    )


def _only_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b""


def _from_heif(data: bytes) -> Picture:
    image = open_heif(data)
    _check_size(*image.size)
    samples, mode = read_heif(image)
    _, exif = take_orientation(_without_mark(image.info.get("exif")))  # turned already
    return from_samples(
        samples,
        mode,
        format="HEIF",
        exif=exif,
        xmp=upright_xmp(_only_bytes(image.info.get("xmp"))),
        icc=_only_bytes(image.info.get("icc_profile")),
        encoding=heif_colours(image),
    )


def _decode(file: BinaryIO) -> Picture:
    length = _length(file)
    image = _identified(file)
    _check_size(*image.size, length=None if image.format in _DENSER else length)
    _check(image)
    encoding, key = _encoding(image), _key(image)
    samples, mode = read_deep(file, stored_as(image)) if is_deep(image) else _samples(image)
    if _is_negative(image):
        np.invert(samples, out=samples)
    samples, mode = _with_key_alpha(samples, mode, key)
    if image.format == "WEBP":
        encoding = {"lossless": _is_lossless_webp(file), "exact": True}  # exact: also under full transparency
    orientation, exif = take_orientation(_exif(image))  # Pillow turns a TIFF itself, when it decodes it
    xmp = _only_bytes(image.info.get("xmp"))
    fields = {
        "format": "JPEG" if image.format == "MPO" else image.format,
        "exif": exif,
        "xmp": xmp if orientation == 1 and image.format != "TIFF" else upright_xmp(xmp),
        "icc": _only_bytes(image.info.get("icc_profile")),
        "encoding": encoding,
    }
    del image  # its pixels take as much as the samples
    return from_samples(turn_upright(samples, orientation), mode, **fields)


def _from_pil(image: Image.Image) -> Picture:
    _check_size(*image.size)
    _check(image)
    key = _key(image)
    samples, mode = _with_key_alpha(*_samples(image), key)
    exif = _without_mark(image.info.get("exif"))
    return from_samples(
        samples,
        mode,
        format=image.format,
        exif=exif,
        xmp=_only_bytes(image.info.get("xmp")),
        icc=_only_bytes(image.info.get("icc_profile")),
    )


def _identified(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        if file.read(4) in MARKS:
            expected = "8 and 16 bit and floats, of grey, RGB, alpha and, in 8 bit, CMYK"
            raise ImageError(f"damaged, or not a TIFF of a kind that is read ({expected})") from None
        raise ImageError(f"not a picture of a kind that is read ({', '.join(_READ)})") from None


def _check_size(width: int, height: int, *, length: int | None = None) -> None:
    """Refuse what is too large, or more than ``length`` bytes of a file can hold."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}x{height} is more than {MAX_PIXELS // 10**6} megapixels; resize it first")
    if length is not None and width * height > _DENSEST * length:
        raise ImageError(f"damaged: {length} bytes cannot hold the {width}x{height} pixels it claims")


def _check(image: Image.Image) -> None:
    if stored_as(image) == "I;12":
        raise ImageError("12-bit samples are not supported: convert it to 8 or 16 bit")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the further frames of an MPO are views of the same picture
        raise ImageError(f"it holds {frames} pictures (pages or an animation), expected one; extract them first")


def _samples(image: Image.Image) -> tuple[Samples, str]:
    """Decode to ``(H, W, C)``, uint8 or uint16, and say the mode."""
    if image.mode in ("P", "PA"):
        image.load()  # a palette may follow the pixels
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return samples_of(image, mode), mode
    if image.mode == "1":
        return samples_of(image, "L"), "L"
    if image.mode.startswith("I;16"):
        return samples_of(image).astype(np.uint16, copy=False), "L"
    if image.mode not in _MODES:
        raise ImageError(f"mode {image.mode} is not supported: convert it to 8 or 16 bit grey, RGB, RGBA or CMYK")
    return samples_of(image), image.mode


def _is_negative(image: Image.Image) -> bool:
    """Tell grey of 16 bit in which 0 is white; that of less Pillow turns itself."""
    tags = getattr(image, "tag_v2", {})
    return image.mode.startswith("I;16") and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO


def _key(image: Image.Image) -> Any:
    """Return what a picture that is opened but not loaded declares transparent, in the samples it is decoded to."""
    key = image.info.get("transparency")
    return key * _GREY_STEPS.get(stored_as(image), 1) if isinstance(key, int) else key


def _with_key_alpha(samples: Samples, mode: str, key: Any) -> tuple[Samples, str]:
    """Make alpha of the one grey or colour that a PNG declares transparent."""
    if mode not in ("L", "RGB") or not isinstance(key, int | tuple):
        return samples, mode
    visible = (samples != np.asarray(key)).any(axis=-1, keepdims=True)
    alpha = visible.astype(samples.dtype) * np.iinfo(samples.dtype).max
    return np.concatenate([samples, alpha], axis=-1), f"{mode}A"


def _exif(image: Image.Image) -> bytes:
    if image.format != "TIFF":
        return _without_mark(image.info.get("exif"))
    return _block(descriptive_tags(image.getexif()))


def _block(tags: Image.Exif) -> bytes:
    return _without_mark(tags.tobytes()) if tags else b""


def _without_mark(exif: bytes | None) -> bytes:
    return (exif or b"").removeprefix(_EXIF_MARK)


def _encoding(image: Image.Image) -> dict[str, Any]:
    return {"subsampling": JpegImagePlugin.get_sampling(image)} if image.format in ("JPEG", "MPO") else {}


def _is_lossless_webp(file: BinaryIO) -> bool:
    """Walk the RIFF chunks to the one that holds the pixels."""
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        kind, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        file.seek(size + size % 2, 1)
    return False
