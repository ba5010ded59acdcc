"""Tiles with a halo: a picture in pieces that are computed alone and equal the whole."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Tile", "pad_to_multiple", "tiles"]


@dataclass(frozen=True)
class Tile:
    """A piece of a picture; all numbers in pixels of the padded picture."""

    outer: tuple[int, int, int, int]  # top, left, bottom, right of what is computed
    inner: tuple[int, int, int, int]  # top, left, bottom, right of what is kept

    def cut(self, picture: Tensor) -> Tensor:
        """Take what is computed out of ``(B, C, H, W)``."""
        top, left, bottom, right = self.outer
        return picture[:, :, top:bottom, left:right]

    def paste(self, piece: Tensor, picture: Tensor) -> None:
        """Put what is kept of the computed ``piece`` into ``picture``; what lies beyond the picture is dropped."""
        top, left, bottom, right = self.inner
        target = picture[:, :, top:bottom, left:right]
        y, x = top - self.outer[0], left - self.outer[1]
        target.copy_(piece[:, :, y : y + target.shape[2], x : x + target.shape[3]])


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
