"""Tiles with a halo: a picture in pieces that are computed alone and equal the whole."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Tile", "automatic_side", "free_memory", "pad_to_multiple", "tiles"]

LEAST_SIDE, LARGEST_SIDE = 256, 1024  # of a tile chosen by memory; beyond, little speed is gained
_SHARE = 0.5  # of the free memory that a tile may take


@dataclass(frozen=True)
class Tile:
    """A piece of a picture; all numbers in pixels."""

    outer: tuple[int, int, int, int]  # top, left, bottom, right of what is computed
    inner: tuple[int, int, int, int]  # top, left, bottom, right of what is kept

    def keep(self, piece: Tensor) -> Tensor:
        """Take what is kept out of the computed ``piece`` ``(B, C, H, W)``, which may be padded below and right."""
        top, left, bottom, right = self.inner
        y, x = self.outer[:2]
        return piece[:, :, top - y : bottom - y, left - x : right - x]


def tiles(height: int, width: int, *, size: int, halo: int) -> Iterator[Tile]:
    """Cover a picture with tiles that keep ``size`` x ``size`` pixels and see ``halo`` more on each side."""
    for top in range(0, height, size):
        for left in range(0, width, size):
            bottom, right = min(top + size, height), min(left + size, width)
            outer = max(top - halo, 0), max(left - halo, 0), min(bottom + halo, height), min(right + halo, width)
            yield Tile(outer, (top, left, bottom, right))


def pad_to_multiple(picture: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of ``(B, C, H, W)`` until both sides are multiples of ``multiple``."""
    height, width = picture.shape[2:]
    if height % multiple == 0 and width % multiple == 0:
        return picture
    return F.pad(picture, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def automatic_side(free: int, *, bytes_per_pixel: int, halo: int) -> int:
    """Choose the side of a tile so that it and its halo take at most half of ``free`` bytes.

    >>> automatic_side(10**10, bytes_per_pixel=1000, halo=100), automatic_side(0, bytes_per_pixel=1000, halo=100)
    (1024, 256)
    """
    side = int((_SHARE * free / bytes_per_pixel) ** 0.5) - 2 * halo
    return max(LEAST_SIDE, min(side, LARGEST_SIDE))


def free_memory(device: torch.device) -> int:
    """Bytes that can be taken on ``device`` without pushing anything out; 0 where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_available(), _left_to_group())


def _available() -> int:
    """Memory of the machine that is free or only caches files."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


def _left_to_group() -> int:
    """What the control group (a container) leaves of its limit; a great number where there is none."""
    group = Path("/sys/fs/cgroup")
    try:
        return max(0, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return 2**62
