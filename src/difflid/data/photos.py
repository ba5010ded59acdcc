"""Clear photographs: which there are, which are kept for validation, and decoding them once."""

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from difflid.errors import DataError

__all__ = ["load_squares", "photo_files", "split_photos"]

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VALIDATION_SHARE = 32  # one photograph in so many is kept for validation


def photo_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """List the pictures directly in ``folder`` or, recursively, anywhere in it, sorted by name; hidden ones aside.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder of photographs: {folder}")
    found = (path for path in folder.glob("**/*" if recursive else "*") if path.suffix.lower() in SUFFIXES)
    files = sorted(path for path in found if not _is_hidden(path.relative_to(folder)))
    if not files:
        raise DataError(f"no picture in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def split_photos(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split into (train, validation) by a checksum of the name: stable when photographs are added."""
    train: list[Path] = []
    validation: list[Path] = []
    for path in files:
        (train if zlib.crc32(path.stem.encode()) % VALIDATION_SHARE else validation).append(path)
    return train, validation


def load_squares(files: Sequence[Path], size: int) -> Tensor:
    """Decode photographs squeezed to squares, ``(N, 3, size, size)`` uint8 sRGB."""
    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(lambda path: _load_square(path, size), files)))


def _load_square(path: Path, size: int) -> Tensor:
    try:
        with Image.open(path) as image:
            square = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    except OSError as error:
        raise DataError(f"cannot read the photograph {path}: {error}") from error
    return torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1)
