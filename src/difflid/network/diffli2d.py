"""The dehazing network: a local U-shape that the latents of a frozen prior instruct.

Two parts. What is computed once per picture, at the size of the guide: :meth:`DiffLI2D.condition` turns the latents
and the guide into a :class:`Condition`. What is computed per tile: :meth:`DiffLI2D.look`, convolutions
only, which meets the picture as a whole through the condition alone.

Source: DiffLI2D (arXiv 2509.20091), section 3; head and guide branch are ours (see docs/method.md).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflid.network.blocks import ContentIntegration, HazeEnhancement, LocalBlock, Modulation, sample_at
from difflid.network.head import Scattering, read_head

__all__ = ["Condition", "DiffLI2D", "DiffLI2DConfig", "LevelConfig"]


@dataclass(frozen=True)
class LevelConfig:
    """One resolution of the U-shape."""

    width: int  # channels
    encoder_blocks: int  # local blocks on the way down; unused on the last level
    decoder_blocks: int  # local blocks on the way up; the middle on the last level
    heads: int = 0  # heads of the Content Integration Module; 0: none on this level


@dataclass(frozen=True)
class DiffLI2DConfig:
    """What is needed to build the network."""

    latent_channels: int  # channels of the prior's latents
    latent_reduction: int  # guide pixels per latent cell, a power of two
    levels: tuple[LevelConfig, ...]  # from half resolution downwards
    guide_width: int = 32  # channels of the guide branch at its finest level; doubled on each level, up to 4x
    guide_blocks: int = 1  # local blocks per level of the guide branch, each way
    guide_middle: int = 4  # local blocks where the guide branch meets the latents
    guide_zoom: int = 1  # guide pixels are seen by mean, least and greatest of so many squared; 1: by themselves


@dataclass(frozen=True)
class Condition:
    """What is known of a picture as a whole; computed once, used by every tile."""

    modulations: tuple[Modulation, ...]  # of HAE, per level
    keys_values: tuple[Tensor | None, ...]  # of CIM, per level
    haze: Tensor  # (B, 1, S, S) coarse haze: the logit of 1 - transmission
    airlight: Tensor  # (B, 3) airlight, before the sigmoid

    def coarse(self) -> Scattering:
        """Return the haze of the whole picture at the guide's size, without detail."""
        features = torch.cat((self.haze, _everywhere(self.airlight, *self.haze.shape[2:])), dim=1)
        return read_head(features, torch.zeros_like(features[:, :3]))

    def repeat(self, count: int) -> "Condition":
        """Repeat each picture of the batch ``count`` times, for several windows of one picture."""
        return Condition(
            tuple(
                Modulation(each.scale_shift.repeat_interleave(count, 0), each.gate.repeat_interleave(count, 0))
                for each in self.modulations
            ),
            tuple(None if each is None else each.repeat_interleave(count, 0) for each in self.keys_values),
            self.haze.repeat_interleave(count, 0),
            self.airlight.repeat_interleave(count, 0),
        )


class GuideBranch(nn.Module):
    """Bring the latents from their grid to the guide's, along what the guide shows: a small U-shape.

    ``(B, 3, z S, z S)`` copy of the picture, z the ``guide_zoom``, and latents ``(B, C, S/r, S/r)`` -> features
    ``(B, guide_width, S, S)`` and the airlight. Only that no pixel is dark betrays an even veil, and the mean over a
    guide pixel hides the dark ones: hence the least and the greatest.
    """

    def __init__(self, config: DiffLI2DConfig) -> None:
        super().__init__()
        depth = config.latent_reduction.bit_length()  # levels from the guide's size down to the latents'
        widths = [min(2**level, 4) * config.guide_width for level in range(depth)]
        self.zoom = config.guide_zoom
        self.stem = nn.Conv2d(3 if self.zoom == 1 else 9, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(width, config.guide_blocks) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.latents = nn.Conv2d(2 * config.latent_channels, widths[-1], 1)
        self.middle = _blocks(widths[-1], config.guide_middle)
        self.airlight = nn.Linear(widths[-1], 3)
        self.up = nn.ModuleList(_upsample(b, a) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(_blocks(width, config.guide_blocks) for width in widths[:-1])

    def forward(self, copy: Tensor, content: Tensor, haze: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and the airlight, before its sigmoid."""
        x = self.stem(copy if self.zoom == 1 else _summary(copy, self.zoom))
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x + self.latents(torch.cat((content, haze), dim=1)))  # (B, 4 W, S/r, S/r)
        airlight = self.airlight(x.mean(dim=(2, 3)))
        for up, blocks, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            x = blocks(up(x) + skip)
        return x, airlight  # (B, W, S, S), (B, 3)


class Level(nn.Module):
    """One resolution of the U-shape: local blocks instructed by the haze and, where it has heads, the content."""

    def __init__(self, level: LevelConfig, blocks: int, config: DiffLI2DConfig) -> None:
        super().__init__()
        self.hae = HazeEnhancement(level.width, config.guide_width)
        self.cim = ContentIntegration(level.width, config.latent_channels, level.heads) if level.heads else None
        self.blocks = _blocks(level.width, blocks)

    def forward(
        self, x: Tensor, modulation: Modulation, keys_values: Tensor | None, window: Tensor, stride: int
    ) -> Tensor:
        """Instruct, then convolve: ``(B, C, h, w)`` -> the same."""
        x = self.hae(x, modulation, window, stride)
        if self.cim is not None and keys_values is not None:
            x = self.cim(x, keys_values)
        return self.blocks(x)


class DiffLI2D(nn.Module):
    """See the module. Pictures are RGB in [0, 1]; their sides must be multiples of :attr:`stride`."""

    def __init__(self, config: DiffLI2DConfig) -> None:
        super().__init__()
        self.config = config
        levels = config.levels
        widths = [level.width for level in levels]
        self.guide = GuideBranch(config)
        self.coarse_haze = nn.Conv2d(config.guide_width, 1, 1)
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], 3, padding=1))
        self.encoder = nn.ModuleList(_blocks(level.width, level.encoder_blocks) for level in levels[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_upsample(b, a) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(Level(level, level.decoder_blocks, config) for level in levels)
        self.head = nn.Conv2d(widths[0], 4 + 4 * 3, 3, padding=1)  # haze and airlight; residual of 2 x 2 pixels
        _start_at(self.head, 0.0)
        _start_at(self.coarse_haze, -0.5)  # transmission 0.6
        _start_at(self.guide.airlight, 1.4)  # airlight 0.8

    @property
    def stride(self) -> int:
        """Picture pixels per pixel of the coarsest level; sides and tile origins are multiples of it."""
        return 1 << len(self.config.levels)

    @property
    def _levels(self) -> list[Level]:
        return cast(list[Level], list(self.decoder))

    @property
    def reach(self) -> int:
        """How far away, in pixels, the picture can influence a result: the halo that makes tiles exact."""
        reach = 2 + 2 + 2  # at half resolution: 3x3 convolutions of stem and head, interpolation
        for index, level in enumerate(self.config.levels):
            encoder = level.encoder_blocks if index < len(self.config.levels) - 1 else 0
            reach += 2 * (encoder + level.decoder_blocks) * 2 ** (index + 1)
            reach += 2 ** (index + 1) if index else 0  # interpolation to the next finer level
        return reach + self.stride  # blocks are aligned to the stride

    def condition(self, copy: Tensor, content: Tensor, haze: Tensor) -> Condition:
        """Say what is known of the whole picture.

        Args:
            copy: ``(B, 3, z S, z S)`` in [0, 1], the picture at z times the prior's size, z the ``guide_zoom``.
            content: latent at the small time-step, ``(B, C, S/r, S/r)``.
            haze: latent at the large time-step, same shape.
        """
        features, airlight = self.guide(copy, content, haze)
        return Condition(
            modulations=tuple(level.hae.modulation(features) for level in self._levels),
            keys_values=tuple(level.cim.keys_values(content) if level.cim else None for level in self._levels),
            haze=self.coarse_haze(features),
            airlight=airlight,
        )

    def look(self, image: Tensor, window: Tensor, condition: Condition) -> Scattering:
        """See the haze in a window of a picture.

        Args:
            image: the window, ``(B, 3, h, w)`` in [0, 1], h and w multiples of :attr:`stride`.
            window: ``(B, 4)``: its top and left, and the picture's height and width, in pixels.
            condition: of the whole picture.
        """
        x = self.stem(image)  # (B, W0, h/2, w/2)
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        for index in reversed(range(len(self.decoder))):
            if index < len(skips):
                x = self.up[index](x) + skips[index]
            modulation, keys_values = condition.modulations[index], condition.keys_values[index]
            x = self.decoder[index](x, modulation, keys_values, window, 2 ** (index + 1))
        height, width = image.shape[2:]
        smooth, residual = self.head(x).float().split((4, 12), dim=1)
        coarse = sample_at(condition.haze.float(), window, (height, width), 1)  # (B, 1, h, w)
        known = torch.cat((coarse, _everywhere(condition.airlight.float(), height, width)), dim=1)
        detail = F.interpolate(smooth, scale_factor=2, mode="bilinear")  # haze has no finer edges
        return read_head(known + detail, F.pixel_shuffle(residual, 2))

    def forward(
        self, image: Tensor, window: Tensor, copy: Tensor, content: Tensor, haze: Tensor
    ) -> tuple[Scattering | None, Scattering]:
        """See the haze in K windows of each picture and, coarsely, in its guide: what training compares.

        Args:
            image: ``(B K, 3, h, w)``, the K windows of a picture one after the other; K = 0: only the guide is seen.
            window: ``(B K, 4)``, see :meth:`look`.
            copy: ``(B, 3, z S, z S)``, see :meth:`condition`.
            content: ``(B, C, S/r, S/r)``.
            haze: same shape.
        """
        condition = self.condition(copy, content, haze)
        seen = self.look(image, window, condition.repeat(len(image) // len(copy))) if len(image) else None
        return seen, condition.coarse()


def _summary(copy: Tensor, zoom: int) -> Tensor:
    """Mean, least and greatest of squares of ``zoom`` pixels: ``(B, 3, z S, z S)`` -> ``(B, 9, S, S)``."""
    return torch.cat((F.avg_pool2d(copy, zoom), -F.max_pool2d(-copy, zoom), F.max_pool2d(copy, zoom)), dim=1)


def _everywhere(values: Tensor, height: int, width: int) -> Tensor:
    """``(B, C)`` -> ``(B, C, height, width)``."""
    return values[:, :, None, None].expand(-1, -1, height, width)


def _start_at(layer: nn.Module, value: float) -> None:
    """Let a layer give ``value``, whatever it is fed, until it has learnt better."""
    layer = cast(nn.Conv2d, layer)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(cast(Tensor, layer.bias), value)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(LocalBlock(width) for _ in range(count)))


def _upsample(from_width: int, to_width: int) -> nn.Sequential:
    """Double the resolution, smoothly, so that no grid shows: ``(B, from, h, w)`` -> ``(B, to, 2h, 2w)``."""
    return nn.Sequential(nn.Conv2d(from_width, to_width, 1), nn.Upsample(scale_factor=2, mode="bilinear"))
