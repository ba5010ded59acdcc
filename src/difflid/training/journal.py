"""What a run tells people: stats.jsonl, the log, sheets of validation pictures and, if wanted, TensorBoard."""

import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from difflid import image
from difflid.errors import MissingExtra
from difflid.files import whole
from difflid.training.state import written

__all__ = ["Journal", "Sheet"]

log = logging.getLogger(__name__)
STATS = "stats.jsonl"
ROW = 200  # height of a row of a sheet, in pixels


class Sheet:
    """Pictures side by side, a row per sample, as ``(H, W, 3)`` uint8."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.uint8]] = []

    def add(self, pictures: Iterable[Tensor]) -> None:
        """Add a row of pictures of one sample, each (1, 3, H, W) in [0, 1]."""
        self._rows.append(np.concatenate([_shrunk(picture) for picture in pictures], axis=1))

    def pixels(self) -> NDArray[np.uint8] | None:
        """Return the sheet, black where rows are shorter; None without rows."""
        if not self._rows:
            return None
        width = max(row.shape[1] for row in self._rows)
        return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in self._rows])


def _shrunk(picture: Tensor) -> NDArray[np.uint8]:
    height, width = picture.shape[2:]
    size = (ROW, max(1, round(width * ROW / height)))
    small = F.interpolate(picture.float(), size, mode="bilinear", antialias=True, align_corners=False)[0]
    return (small.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


class Journal:
    """Writes into the folder of a run.

    Raises:
        MissingExtra: TensorBoard is wanted and not installed.
    """

    def __init__(self, run: Path, *, images: int, tensorboard: bool) -> None:
        """Carry on after ``images`` images: what was noted later will be noted again, so it is taken out."""
        self._run = run
        self._board = _open_board(run / "tensorboard", images) if tensorboard else None
        _forget_after(run / STATS, images)

    def note(self, values: dict[str, Any]) -> None:
        """Write a line of numbers; ``images`` says when."""
        with written(self._run / STATS), (self._run / STATS).open("a") as stream:
            stream.write(json.dumps(values) + "\n")
        log.info("%s", ", ".join(f"{key} {value:.5g}" for key, value in values.items()))
        if self._board:
            for key in values.keys() - {"images"}:
                self._board.add_scalar(key, values[key], values["images"])

    def show(self, sheet: Sheet, images: int) -> None:
        """Write a sheet, if anything is on it, as ``validation/IMAGES.jpg``."""
        pixels = sheet.pixels()
        if pixels is None:
            return
        path = self._run / "validation" / f"{images:08}.jpg"
        with written(path):
            path.parent.mkdir(exist_ok=True)
            with whole(path) as part:
                part.write_bytes(image.encode(image.from_samples(pixels, "RGB"), "JPEG"))
        if self._board:
            self._board.add_image("validation", torch.from_numpy(pixels), images, dataformats="HWC")

    def close(self) -> None:
        """Flush what TensorBoard holds back."""
        if self._board:
            self._board.close()


def _open_board(folder: Path, images: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("loop.tensorboard", "tensorboard") from error
    return SummaryWriter(folder, purge_step=images + 1)


def _forget_after(stats: Path, images: int) -> None:
    lines = stats.read_text(errors="replace").splitlines() if stats.exists() else []
    kept = [line for line in lines if _noted_at(line) <= images]
    with written(stats), whole(stats) as part:
        part.write_text("".join(f"{line}\n" for line in kept))


def _noted_at(line: str) -> float:
    """Read after how many images a line was written; of a damaged one, as a kill leaves it, never."""
    try:
        return float(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError):
        return math.inf
