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

from difflid.network.blocks import (
    ContentIntegration,
    HazeEnhancement,
    Modulation,
    local_blocks,
    sample_at,
    start_at,
    upsample,
)
from difflid.network.config import DiffLI2DConfig, LevelConfig
from difflid.network.guide import GuideBranch, Review, Smoke, Veil
from difflid.network.head import Scattering, read_head

__all__ = ["Condition", "DiffLI2D", "DiffLI2DConfig", "LevelConfig"]


@dataclass(frozen=True)
class Condition:
    """What is known of a picture as a whole; computed once, used by every tile."""

    modulations: tuple[Modulation, ...]  # of HAE, per level
    keys_values: tuple[Tensor | None, ...]  # of CIM, per level
    haze: Tensor  # (B, 1, S, S) coarse haze: the logit of 1 - transmission
    airlight: Tensor  # (B, 3, 1, 1) or (B, 3, S, S) airlight, before the sigmoid
    residual: Tensor  # (B, 3, 1, 1) or (B, 3, S, S) before its bound

    def coarse(self) -> Scattering:
        """Return the haze of the whole picture at the guide's size, without detail."""
        haze, airlight, residual = self._coarse()
        size = haze.shape[2:]
        return read_head(torch.cat((haze, airlight.expand(-1, -1, *size)), dim=1), residual.expand(-1, -1, *size))

    def coarse_at(self, window: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return what `read_head` takes, without detail, for a window of ``size`` pixels."""
        haze, airlight, residual = (sample_at(maps, window, size, 1) for maps in self._coarse())
        return torch.cat((haze, airlight), dim=1), residual

    def _coarse(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.haze.float(), self.airlight.float(), self.residual.float()

    def repeat(self, count: int) -> "Condition":
        """Repeat each picture of the batch ``count`` times, for several windows of one picture."""
        return Condition(
            tuple(
                Modulation(each.scale_shift.repeat_interleave(count, 0), each.gate.repeat_interleave(count, 0))
                for each in self.modulations
            ),
            tuple(None if each is None else each.repeat_interleave(count, 0) for each in self.keys_values),
            *(maps.repeat_interleave(count, 0) for maps in (self.haze, self.airlight, self.residual)),
        )


class Level(nn.Module):
    """One resolution of the U-shape: local blocks instructed by the haze and, where it has heads, the content."""

    def __init__(self, level: LevelConfig, blocks: int, config: DiffLI2DConfig) -> None:
        super().__init__()
        self.hae = HazeEnhancement(level.width, config.guide_width)
        self.cim = ContentIntegration(level.width, config.latent_channels, level.heads) if level.heads else None
        self.blocks = local_blocks(level.width, blocks)

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
        self.guide = GuideBranch(config)
        self.coarse_haze = nn.Conv2d(config.guide_width, 1, 1)
        start_at(self.coarse_haze, 0.0 if config.guide_smoke else -0.5)  # transmission 0.6
        self.review = Review(config) if config.guide_reviews else None
        self.smoke = Smoke() if config.guide_smoke else None
        self.coarse_residual = nn.Conv2d(config.guide_width, 3, 1) if config.guide_smoke else None
        if self.coarse_residual is not None:
            start_at(self.coarse_residual, 0.0)
        if self.guide.airlight is not None:
            start_at(self.guide.airlight, 1.4)  # airlight 0.8
        if levels:
            self._build_local(levels)

    def _build_local(self, levels: tuple[LevelConfig, ...]) -> None:
        config, widths = self.config, [level.width for level in levels]
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], 3, padding=1))
        self.encoder = nn.ModuleList(local_blocks(level.width, level.encoder_blocks) for level in levels[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(upsample(b, a) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(Level(level, level.decoder_blocks, config) for level in levels)
        self.head = nn.Conv2d(widths[0], 4 + 4 * 3, 3, padding=1)  # haze and airlight; residual of 2 x 2 pixels
        start_at(self.head, 0.0)

    @property
    def stride(self) -> int:
        """Picture pixels per pixel of the coarsest level; sides and tile origins are multiples of it."""
        return 1 << len(self.config.levels)

    @property
    def _levels(self) -> list[Level]:
        return cast(list[Level], list(self.decoder)) if self.config.levels else []

    @property
    def reach(self) -> int:
        """How far away, in pixels, the picture can influence a result: the halo that makes tiles exact."""
        if not self.config.levels:
            return 0
        reach = 2 + 2 + 2  # at half resolution: 3x3 convolutions of stem and head, interpolation
        for index, level in enumerate(self.config.levels):
            encoder = level.encoder_blocks if index < len(self.config.levels) - 1 else 0
            reach += 2 * (encoder + level.decoder_blocks) * 2 ** (index + 1)
            reach += 2 ** (index + 1) if index else 0  # interpolation to the next finer level
        return reach + self.stride  # blocks are aligned to the stride

    def condition(self, copy: Tensor, content: Tensor, haze: Tensor, *, mirrored: bool = False) -> Condition:
        """Say what is known of the whole picture.

        Args:
            copy: ``(B, 3, z S, z S)`` in [0, 1], the picture at z times the prior's size, z the ``guide_zoom``.
            content: latent at the small time-step, ``(B, C, S/r, S/r)``.
            haze: latent at the large time-step, same shape.
            mirrored: the second half of the batch is the first one mirrored; what is seen in both is taken as one.
        """
        features, airlight = self.guide(copy, content, haze)
        if mirrored:
            copy, content, features = copy[: len(copy) // 2], _as_one(content), _as_one(features)
            airlight = airlight if airlight is None else _as_one(airlight)
        return Condition(
            modulations=tuple(level.hae.modulation(features) for level in self._levels),
            keys_values=tuple(level.cim.keys_values(content) if level.cim else None for level in self._levels),
            **self._veil(features, airlight, copy)._asdict(),
        )

    def _veil(self, features: Tensor, airlight: Tensor | None, copy: Tensor) -> Veil:
        haze = self.coarse_haze(features)
        if self.smoke is not None and self.coarse_residual is not None:
            start = self.smoke(F.avg_pool2d(copy, self.config.guide_zoom).float())
            return Veil(start.haze + haze, start.airlight, start.residual + self.coarse_residual(features))
        airlight = cast(Tensor, airlight)
        if self.review is not None:
            haze, airlight = self.review(copy, features, haze, airlight)
        return Veil(haze, airlight, features.new_zeros(len(features), 3, 1, 1))

    def look(self, image: Tensor, window: Tensor, condition: Condition) -> Scattering:
        """See the haze in a window of a picture.

        Args:
            image: the window, ``(B, 3, h, w)`` in [0, 1], h and w multiples of :attr:`stride`.
            window: ``(B, 4)``: its top and left, and the picture's height and width, in pixels.
            condition: of the whole picture.
        """
        height, width = image.shape[2:]
        veil, coarse_residual = condition.coarse_at(window, (height, width))
        if not self.config.levels:
            return read_head(veil, coarse_residual)
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
        smooth, residual = self.head(x).float().split((4, 12), dim=1)
        detail = F.interpolate(smooth, scale_factor=2, mode="bilinear")  # haze has no finer edges
        return read_head(veil + detail, coarse_residual + F.pixel_shuffle(residual, 2))

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


def _as_one(both: Tensor) -> Tensor:
    """Average maps of pictures, the first half of a batch, with those of the same pictures mirrored, the second."""
    seen, mirrored = both.chunk(2)
    return (seen + mirrored.flip(3)) / 2
