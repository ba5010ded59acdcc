"""Two ways to see the haze of a picture, part by part, so that a picture of any size needs little memory.

Exact: the network looks at every pixel, in tiles with a halo. Fast: it looks at a reduced copy, for haze is smooth, and
what it saw there is brought to the size of the picture. The transmission follows the picture's edges as the guided
filter lets it (He, Sun, "Fast guided filter", arXiv 1505.00996): its slope is found in the copy and applied to the
full detail. The physics is applied to every pixel either way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from difflid.haze import guided_slope, luma
from difflid.network import Condition, DiffLI2D, Scattering
from difflid.network.head import SMALLEST_TRANSMISSION
from difflid.tiling import pad_to_multiple, tiles

__all__ = ["Glance", "Source", "View", "exact_views", "fast_views", "halo", "reduce"]

FAST_PIXELS = 2**20  # of the reduced copy
COARSE_PIXELS = 2**14  # of that for a network that sees only the guide, and so nothing finer
BAND_PIXELS = 2**17  # done at a time where no network is involved: stays in a processor's cache
GUIDE_RADIUS, GUIDE_EPS = 2, 1e-3  # pixels of the reduced copy; variance below which an edge is none
_ALL = slice(None)


@dataclass(frozen=True)
class Source:
    """A picture that is read in parts."""

    size: tuple[int, int]  # height and width
    read: Callable[[slice, slice], Tensor]  # rows and columns -> RGB (B, 3, h, w), sRGB, a wide gamut beyond [0, 1]

    @classmethod
    def of(cls, image: Tensor) -> Self:
        """Read from a tensor ``(B, 3, H, W)``."""
        return cls((image.shape[2], image.shape[3]), lambda rows, columns: image[:, :, rows, columns])

    def bands(self) -> Iterator[slice]:
        """Cover the picture with bands of rows that hold about `BAND_PIXELS` pixels."""
        height, width = self.size
        count = max(1, BAND_PIXELS // width)
        for top in range(0, height, count):
            yield slice(top, min(top + count, height))


@dataclass(frozen=True)
class View:
    """A part of a picture and the haze that was seen in it."""

    rows: slice
    columns: slice
    image: Tensor  # (B, 3, h, w) as read
    seen: Scattering  # of the same size


def reduce(source: Source, height: int, width: int) -> Tensor:
    """Bring a picture to ``(B, 3, height, width)`` in [0, 1], squeezing first along the rows, then along the columns.

    A picture that is narrower than that is widened last: it may be very high.
    """
    narrow, between = torch.empty(0), min(width, source.size[1])
    for band in source.bands():
        part = _squeeze(source.read(band, _ALL).float().clamp(0, 1), width=between)
        if not len(narrow):  # one block: many small ones between large ones that come and go would split the memory
            narrow = part.new_empty(len(part), 3, source.size[0], between)
        narrow[:, :, band] = part
    return _squeeze(_squeeze(narrow, height=height), width=width).clamp(0, 1)


def _squeeze(image: Tensor, *, height: int | None = None, width: int | None = None) -> Tensor:
    size = height or image.shape[2], width or image.shape[3]
    return F.interpolate(image, size=size, mode="bilinear", antialias=True)


def exact_views(network: DiffLI2D, source: Source, condition: Condition, side: int) -> Iterator[View]:
    """Look at every pixel, in tiles of ``side`` pixels, a multiple of the network's stride; 0: the whole at once."""
    height, width = source.size
    for tile in tiles(height, width, size=side or max(height, width), halo=halo(network)):
        top, left, bottom, right = tile.outer
        image = source.read(slice(top, bottom), slice(left, right))
        window = torch.tensor([[top, left, height, width]], device=image.device).expand(len(image), 4)
        seen = network.look(pad_to_multiple(image.float().clamp(0, 1), network.stride), window, condition)
        kept = Scattering(*(tile.keep(part) for part in vars(seen).values()))
        rows, columns = slice(tile.inner[0], tile.inner[2]), slice(tile.inner[1], tile.inner[3])
        yield View(rows, columns, tile.keep(image), kept)


def halo(network: DiffLI2D) -> int:
    """Pixels around a tile that make it exact, a multiple of the stride."""
    return -(-network.reach // network.stride) * network.stride


def fast_views(network: DiffLI2D, source: Source, condition: Condition, side: int) -> Iterator[View]:
    """Look at a reduced copy, in tiles of ``side`` pixels, and bring what was seen to the size of the picture."""
    small = reduce(source, *reduced_size(*source.size, FAST_PIXELS if network.config.levels else COARSE_PIXELS))
    glance = Glance.of(small, _assemble(exact_views(network, Source.of(small), condition, side), small))
    for rows in source.bands():
        image = source.read(rows, _ALL)
        yield View(rows, _ALL, image, glance.enlarge(image, rows, source.size[0]))


@dataclass(frozen=True)
class Glance:
    """What was seen in a reduced copy."""

    maps: Tensor  # (B, 9, h, w): transmission, airlight, residual, slope of the transmission by luma, luma

    @classmethod
    def of(cls, small: Tensor, seen: Scattering) -> Self:
        """Find how the transmission follows the edges of the copy ``small``, in which ``seen`` was seen."""
        guide = luma(small)
        slope = guided_slope(guide, seen.transmission, GUIDE_RADIUS, GUIDE_EPS)
        return cls(torch.cat((*vars(seen).values(), slope, guide), dim=1))

    def enlarge(self, image: Tensor, rows: slice, height: int) -> Scattering:
        """Say what is seen in ``rows`` of the picture of ``height`` rows, of which ``image`` shows these."""
        large = _enlarge(self.maps, rows, height, image.shape[3])
        transmission, airlight, residual, slope, blurred = large.split((1, 3, 3, 1, 1), dim=1)
        edges = luma(image.float().clamp(0, 1)).sub_(blurred).mul_(slope)
        return Scattering(transmission.add(edges).clamp_(SMALLEST_TRANSMISSION, 1), airlight, residual)


def reduced_size(height: int, width: int, pixels: int = FAST_PIXELS) -> tuple[int, int]:
    """Height and width of the copy that the fast path looks at."""
    factor = min(1.0, (pixels / (height * width)) ** 0.5)
    return max(1, round(factor * height)), max(1, round(factor * width))


def _assemble(views: Iterator[View], like: Tensor) -> Scattering:
    whole = Scattering(*(like.new_empty(len(like), channels, *like.shape[2:]) for channels in (1, 3, 3)))
    for view in views:
        for part, target in zip(vars(view.seen).values(), vars(whole).values(), strict=True):
            target[:, :, view.rows, view.columns] = part
    return whole


def _enlarge(maps: Tensor, rows: slice, height: int, width: int) -> Tensor:
    """Interpolate maps of a whole picture bilinearly at some of its rows: ``(B, C, h, w)`` -> ``(B, C, rows, W)``."""
    last = maps.shape[2] - 1
    places = (torch.arange(rows.start, rows.stop, device=maps.device) + 0.5) * (maps.shape[2] / height) - 0.5
    places = places.clamp(0, last)
    above = places.floor().long()
    below = (above + 1).clamp(max=last)
    lines = maps[:, :, above].lerp(maps[:, :, below], (places - above)[:, None])
    return F.interpolate(lines, size=(lines.shape[2], width), mode="bilinear")
