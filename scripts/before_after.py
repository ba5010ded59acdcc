"""Put pictures and their dehazed versions side by side, as single pictures and as a contact sheet.

python scripts/before_after.py BEFORE AFTER --output FOLDER [--sheet FILE]
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

CELL = 300  # width of a picture on the sheet, in pixels
PER_ROW = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--output", type=Path, help="folder for one JPEG per picture")
    parser.add_argument("--sheet", type=Path, help="JPEG with all of them, small")
    arguments = parser.parse_args()
    images = sorted(path for path in arguments.after.iterdir() if path.is_file())
    pairs = [(arguments.before / path.name, path) for path in images if (arguments.before / path.name).is_file()]
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        for before, after in pairs:
            target = arguments.output / f"{after.stem}.jpg"
            side_by_side(before, after).save(target, quality=92)
            print(target)
    if arguments.sheet:
        sheet(side_by_side(*pair, width=CELL) for pair in pairs).save(arguments.sheet, quality=88)
        print(arguments.sheet)


def side_by_side(before: Path, after: Path, *, width: int | None = None) -> Image.Image:
    """Before on the left, after on the right; each ``width`` wide at 4:3, or at its own size."""
    halves = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in (before, after)]
    if width:
        halves = [ImageOps.fit(half, (width, width * 3 // 4)) for half in halves]
    canvas = Image.new("RGB", (2 * halves[0].width, halves[0].height))
    for index, half in enumerate(halves):
        canvas.paste(half, (index * half.width, 0))
    return canvas


def sheet(cells: Iterable[Image.Image]) -> Image.Image:
    """A grid of equal cells with a narrow white line between them."""
    cells = list(cells)
    width, height = cells[0].width + 6, cells[0].height + 6
    canvas = Image.new("RGB", (PER_ROW * width, -(-len(cells) // PER_ROW) * height), "white")
    for index, cell in enumerate(cells):
        canvas.paste(cell, ((index % PER_ROW) * width, (index // PER_ROW) * height))
    return canvas


if __name__ == "__main__":
    main()
