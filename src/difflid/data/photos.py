"""Clear photographs: which there are, which are kept for validation, and decoding them once."""

import logging
import os
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from difflid import image
from difflid.errors import SHOWN, DataError, ImageError

__all__ = ["decode_all", "load_squares", "open_photo", "photo_files", "read_repeats", "repeated", "split_photos"]

log = logging.getLogger(__name__)

Source = TypeVar("Source")
Decoded = TypeVar("Decoded")

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VALIDATION_SHARE = 32  # one photograph in so many is kept for validation


def photo_files(folder: Path, *, recursive: bool = False, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """List the pictures directly in ``folder`` or, recursively, anywhere in it, sorted by name; hidden ones aside.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder of photographs: {folder}")
    found = (path for path in folder.glob("**/*" if recursive else "*") if path.suffix.lower() in suffixes)
    files = sorted(path for path in found if not _is_hidden(path.relative_to(folder)))
    if not files:
        raise DataError(f"no picture in {folder} (looked for {', '.join(sorted(suffixes))})")
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def split_photos(files: Sequence[Path], *, held_out: int = 0) -> tuple[list[Path], list[Path]]:
    """Split into (train, validation) by a checksum of the name: stable when photographs are added.

    Raises:
        DataError: there are not ``held_out`` to validate on, or none to train on.
    """
    train: list[Path] = []
    validation: list[Path] = []
    for path in files:
        (train if zlib.crc32(os.fsencode(path.stem)) % VALIDATION_SHARE else validation).append(path)
    if len(validation) < held_out or not train:
        raise DataError(
            f"{files[0].parent}: one photograph in {VALIDATION_SHARE}, chosen by its name, is held out, expected at "
            f"least {held_out} and others to train on, got {len(validation)} of {len(files)}: give it more of them"
        )
    return train, validation


def read_repeats(file: Path) -> dict[str, int]:
    """Read how often photographs are taken: a stem and a number per line, ``#`` begins a comment.

    Raises:
        DataError: it cannot be read, or a line is no such line.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read how often photographs are taken: {file}: {error}") from error
    times = {}
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            stem, _, number = line.rpartition(" ")
            if not (stem and number.isdecimal()):
                raise DataError(f"{file}: expected a stem and how often, such as 'street-1 3', got {line!r}")
            times[stem.strip()] = int(number)
    return times


def repeated(files: Sequence[Path], times: Mapping[str, int]) -> list[Path]:
    """Take every photograph as often as ``times`` says of its stem: 0 leaves it out, without a number it is 1.

    Raises:
        DataError: none is left.
    """
    taken = [file for file in files for _ in range(times.get(file.stem, 1))]
    if not taken:
        raise DataError(f"no photograph in {files[0].parent} is left to train on")
    if times and not times.keys() & {file.stem for file in files}:
        log.warning("no photograph in %s has a stem that is listed, such as %s", files[0].parent, next(iter(times)))
    log.info("photographs to train on: %d of %d, taken %d times", len(set(taken)), len(files), len(taken))
    return taken


def decode_all(sources: Sequence[Source], decode: Callable[[Source], Decoded]) -> list[Decoded]:
    """Decode in parallel, in order.

    Raises:
        DataError: ``decode`` raised one; it tells of the first few, the log of the others.
    """
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(lambda source: _attempt(decode, source), sources))
    errors = [str(outcome) for outcome in outcomes if isinstance(outcome, DataError)]
    for error in errors[SHOWN:]:
        log.error("cannot be used: %s", error)
    if errors:
        first = "; ".join(errors[:SHOWN]) + ("; the log names the others" if len(errors) > SHOWN else "")
        raise DataError(f"{len(errors)} of {len(sources)} cannot be used, repair or remove them: {first}")
    return [outcome for outcome in outcomes if not isinstance(outcome, DataError)]


def _attempt(decode: Callable[[Source], Decoded], source: Source) -> Decoded | DataError:
    try:
        return decode(source)
    except DataError as error:
        return error


def open_photo(path: Path) -> Image.Image:
    """Decode a picture as 8 bit RGB, upright.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as photo:
            if not photo.mode.startswith(("I", "F")):  # which Pillow would cut off at 255
                return ImageOps.exif_transpose(photo).convert("RGB")
        return Image.fromarray(np.rint(image.load(path).pixels * 255).astype(np.uint8))
    except ImageError as error:
        raise DataError(str(error)) from error
    except Exception as error:  # Pillow raises anything on damaged files
        raise DataError(f"cannot read the picture {path}: {str(error) or type(error).__name__}") from error


def load_squares(files: Sequence[Path], size: int) -> Tensor:
    """Decode photographs squeezed to squares, ``(N, 3, size, size)`` uint8 sRGB."""
    return torch.stack(decode_all(files, lambda path: _load_square(path, size)))


def _load_square(path: Path, size: int) -> Tensor:
    square = open_photo(path).resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1)
