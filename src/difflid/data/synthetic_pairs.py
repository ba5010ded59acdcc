"""Synthetic hazy/clear pairs as files, to look at or to train other methods on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from difflid.data.dataset import hazy_version, load_photos, refuse_other_depth
from difflid.data.photos import photo_files
from difflid.errors import DataError
from difflid.files import whole

__all__ = ["write_pairs", "write_sheet"]

CELL = 200  # height of a picture on the contact sheet, in pixels
PAIRS_PER_ROW = 3


def write_pairs(photos: Path, output: Path, *, depth: Path | None, count: int, seed: int) -> list[str]:
    """Write ``count`` hazy versions of each photograph as ``output/{hazy,clear}/STEM_INDEX.png``.

    The haze of a file depends on the seed, the photograph's place in the sorted folder and the index, so the same
    command writes the same files.

    Returns:
        the names of the pairs.

    Raises:
        DataError: two photographs have one stem, one cannot be read, ``depth`` holds no depth map of any, a file cannot
            be written, or ``output`` holds something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output} exists already: choose another folder or remove it")
    files, names = photo_files(photos), []
    _refuse_equal_stems(files)
    refuse_other_depth(files, depth)
    for place, file in enumerate(files):
        (photo,) = load_photos([file], depth)
        for index in range(count):
            hazy, clear, _ = hazy_version(photo, np.random.default_rng((seed, place, index)), clear_share=0.0)
            names.append(f"{photo.name}_{index}.png")
            _write(hazy, output / "hazy" / names[-1])
            _write(clear, output / "clear" / names[-1])
    return names


def write_sheet(pairs: Path, names: Sequence[str], sheet: Path) -> None:
    """Write a contact sheet of pairs, hazy beside clear."""
    rows = -(-len(names) // PAIRS_PER_ROW)
    width = CELL * 4 // 3
    canvas = Image.new("RGB", (2 * width * min(len(names), PAIRS_PER_ROW), rows * CELL))
    for index, name in enumerate(names):
        row, column = divmod(index, PAIRS_PER_ROW)
        for side, folder in enumerate(("hazy", "clear")):
            with Image.open(pairs / folder / name) as picture:
                canvas.paste(picture.resize((width, CELL)), ((2 * column + side) * width, row * CELL))
    _save(canvas, sheet)


def _refuse_equal_stems(files: Sequence[Path]) -> None:
    by_stem: dict[str, Path] = {}
    for file in files:
        other = by_stem.setdefault(file.stem, file)
        if other != file:
            raise DataError(f"{other} and {file.name} would both be written to {file.stem}_0.png; rename one of them")


def _write(picture: NDArray[np.float32], path: Path) -> None:
    _save(Image.fromarray(np.round(picture * 255).astype(np.uint8)), path)


def _save(picture: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            picture.save(part, "JPEG" if path.suffix.lower() in {".jpg", ".jpeg"} else "PNG", quality=88)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error
