"""Clear photographs: which there are, which are kept for validation, and decoding them once."""

import logging
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from difflid import image
from difflid.errors import SHOWN, DataError, ImageError, listed

__all__ = ["decode_all", "load_squares", "open_photo", "photo_files", "repeated", "split_photos"]

log = logging.getLogger(__name__)

Source = TypeVar("Source")
Decoded = TypeVar("Decoded")

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
REPEATS = re.compile("[0-9]{1,3}")  # how often a photograph may be taken
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


def repeated(files: Sequence[Path], lists: Sequence[Path]) -> list[Path]:
    """Take every photograph as often as one of the files ``lists`` says, once where none does.

    A list has a stem and a number per line; 0 leaves the photograph out, and ``#`` begins a comment.

    Raises:
        DataError: a list cannot be read or has another line, a stem comes twice, or no photograph is left.
    """
    times: dict[str, int] = {}
    for file in lists:
        for stem, number in _listed_times(file):
            if stem in times:
                raise DataError(f"{file}: {stem} is listed twice, for {times[stem]} and {number} times")
            times[stem] = number
    taken = [file for file in files for _ in range(times.get(file.stem, 1))]
    names = " and ".join(map(str, lists))
    if not taken:
        raise DataError(f"{names}: no photograph in {files[0].parent} is left to train on")
    if unknown := sorted(times.keys() - {file.stem for file in files}):
        log.warning("%s: not among the photographs to train on: %s", names, listed(unknown))
    log.info("photographs to train on: %d of %d, taken %d times", len(set(taken)), len(files), len(taken))
    return taken


def _listed_times(file: Path) -> Iterator[tuple[str, int]]:
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read how often photographs are taken: {file}: {error}") from error
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            stem, *number = line.rsplit(maxsplit=1)
            if not (number and REPEATS.fullmatch(number[0])):
                raise DataError(f"{file}: expected a stem and a number from 0 to 999, such as 'street 3', got {line!r}")
            yield stem, int(number[0])


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
