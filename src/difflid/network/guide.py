"""What is seen of a picture as a whole: by the guide branch, and by plain statistics where there is dense smoke."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflid.haze import luma, remove_haze
from difflid.network.blocks import local_blocks, start_at, upsample
from difflid.network.config import DiffLI2DConfig
from difflid.network.head import LARGEST_RESIDUAL, haze_from, transmission_from

__all__ = ["GuideBranch", "Review", "Smoke", "Veil", "bound_tint", "seen_through"]

RADII = 2, 6  # guide pixels around which local contrast is told
LEAST_VARIANCE = 1e-6  # of luma around a guide pixel, so that its root has a slope
NOISE = 0.02  # standard deviation that tells nothing
BLIND_GAIN = 4.0  # of haze that nothing is seen through, times the median gain of what is seen
LEAST_GAIN = 1e-3  # as that median counts, so that one can divide by it
LEAST_WEIGHT = 1e-6  # of a pixel without haze, where that of a pixel of haze alone is 1
LEAST_CONTRAST = 1 / 255  # standard deviation of luma around a guide pixel that shows hardly anything
QUANTILES = 0.001, 0.005, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.995, 0.999


class Veil(NamedTuple):
    """What `head.read_head` takes, in its parts, for the guide."""

    haze: Tensor  # (B, 1, S, S) the logit of 1 - transmission
    airlight: Tensor  # (B, 3, S, S) before the sigmoid
    residual: Tensor  # (B, 3, S, S) before its bound


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
        self.contrast = nn.Conv2d(8, widths[0], 3, padding=1) if config.guide_contrast else None
        if self.contrast is not None:
            start_at(self.contrast, 0.0)
        self.encoder = nn.ModuleList(local_blocks(width, config.guide_blocks) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.latents = nn.Conv2d(2 * config.latent_channels, widths[-1], 1)
        self.middle = local_blocks(widths[-1], config.guide_middle)
        self.airlight = None if config.guide_smoke else nn.Linear(widths[-1], 3)
        self.witness = None  # how much a cell tells of the airlight
        if self.airlight is not None:
            self.witness = nn.Linear(widths[-1], 1, bias=False)
            nn.init.zeros_(self.witness.weight)
        self.glow = nn.Conv2d(widths[-1], 1, 1) if config.guide_glow else None
        if self.glow is not None:
            start_at(self.glow, 0.0)
        self.up = nn.ModuleList(upsample(b, a) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(local_blocks(width, config.guide_blocks) for width in widths[:-1])

    def forward(self, copy: Tensor, content: Tensor, haze: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the features and the airlight, before its sigmoid, ``(B, 3, 1, 1)`` or ``(B, 3, S, S)``."""
        x = self.stem(copy if self.zoom == 1 else _summary(copy, self.zoom))
        if self.contrast is not None:
            x = x + self.contrast(local_contrast(F.avg_pool2d(copy, self.zoom)))
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x + self.latents(torch.cat((content, haze), dim=1)))  # (B, 4 W, S/r, S/r)
        airlight = None
        if self.airlight is not None and self.witness is not None:
            cells = x.flatten(2).transpose(1, 2)  # (B, S/r S/r, 4 W)
            airlight = (self.witness(cells).softmax(dim=1) * self.airlight(cells)).sum(dim=1)[:, :, None, None]
            if self.glow is not None:
                airlight = airlight + F.interpolate(self.glow(x), copy.shape[2] // self.zoom, mode="bilinear")
        for up, blocks, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            x = blocks(up(x) + skip)
        return x, airlight


def local_contrast(guide: Tensor) -> Tensor:
    """Contrast around every pixel, in logarithms, and colours freed from it: ``(B, 3, S, S)`` -> ``(B, 8, S, S)``."""
    parts = []
    for radius in RADII:
        change, contrast = _local(guide, radius)
        parts += [contrast.log() / 3 + 1, change / (contrast + 0.01)]
    return torch.cat(parts, dim=1)


class Review(nn.Module):
    """Look at what would be left of the picture, and correct the airlight and the density of the whole haze by it.

    Under an even veil a brighter airlight and a denser haze look alike in the hazy picture. In what they leave they do
    not: black things are not black, or much is darker than black.
    """

    def __init__(self, config: DiffLI2DConfig) -> None:
        super().__init__()
        self.zoom, self.reviews = config.guide_zoom, config.guide_reviews
        told = 7 * len(QUANTILES) + 3 + config.guide_width
        self.change = nn.Sequential(nn.Linear(told, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 4))
        start_at(self.change[-1], 0.0)

    def forward(self, copy: Tensor, features: Tensor, haze: Tensor, airlight: Tensor) -> tuple[Tensor, Tensor]:
        """Correct the haze ``(B, 1, S, S)`` and the airlight, as `GuideBranch` gives it, in float32."""
        with torch.autocast(copy.device.type, enabled=False):
            haze, airlight, features = haze.float(), airlight.float(), features.float().mean(dim=(2, 3))
            colours = _summary(copy.float(), self.zoom)
            for _ in range(self.reviews):
                left = _left(colours, transmission_from(haze), torch.sigmoid(airlight))
                told = torch.cat((3 * (left - 0.5), airlight.mean(dim=(2, 3)), features), dim=1)
                change = self.change(told)[:, :, None, None]
                airlight, haze = airlight + change[:, :3], haze + change[:, 3:]
        return haze, airlight


def _left(colours: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
    """Quantiles over the picture of what a haze leaves of ``_summary``: ``(B, 7 x quantiles)``.

    Of the least colour, the greatest, luma, red, green, blue, and of the transmission itself.
    """
    mean, least, greatest = (remove_haze(each, transmission, airlight).clamp(-1, 2) for each in colours.split(3, dim=1))
    extremes = least.amin(dim=1, keepdim=True), greatest.amax(dim=1, keepdim=True)
    told = torch.cat((*extremes, luma(mean), mean, transmission), dim=1).flatten(2)
    return torch.quantile(told, torch.tensor(QUANTILES, device=told.device), dim=2).permute(1, 2, 0).flatten(1)


def seen_through(haze: Tensor, guide: Tensor) -> Tensor:
    """Bound the haze where nothing is seen through it, be it opaque or a pale sky: what it hides is not invented.

    The bound of the gain is `BLIND_GAIN` times the median gain of what is seen: a blank place in a picture that is else
    clear is a sky, where all lies in dense haze it is haze. What exceeds the bound does so by a power of what it did;
    the exponent, from 0 to 1, is the share of the variance around a guide pixel that is no noise, the least one of
    those nearby, for beside a hill fog is not seen through.

    Args:
        haze: ``(B, 1, S, S)``, the logit of 1 - transmission.
        guide: ``(B, 3, S, S)``, the hazy picture.
    """
    gain, contrast = 1 / transmission_from(haze) - 1, _local(guide, RADII[0])[1]
    variance = (contrast.square() - LEAST_VARIANCE).clamp(min=0)
    kept = variance / (variance + LEAST_CONTRAST**2)
    kept = -F.max_pool2d(-kept, 4 * RADII[0] + 1, stride=1, padding=2 * RADII[0])  # as far as `_smooth` looks
    bound = BLIND_GAIN * _median(gain, kept).clamp(min=LEAST_GAIN)
    return torch.where(gain > bound, haze_from(1 / (1 + bound * (gain / bound) ** kept)), haze)


def _median(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted median of the values of each map, ``(B, 1, S, S)``, and of a 1 of weight 1: ``(B, 1, 1, 1)``."""
    values, weights = (F.pad(each.flatten(1), (0, 1), value=1.0) for each in (values, weights))
    values, order = values.sort(dim=1)
    below = weights.gather(1, order).cumsum(dim=1)
    middle = (below < below[:, -1:] / 2).sum(dim=1, keepdim=True)
    return values.gather(1, middle)[:, :, None, None]


def bound_tint(airlight: Tensor, haze: Tensor, guide: Tensor) -> Tensor:
    """Bound how coloured the airlight is, so that what it leaves of the picture is not of the opposite colour.

    Along the tint of the airlight the colour of a hazy pixel is that of the scene times t plus that of the airlight
    times 1 - t. In the mean over the picture, weighted by the square of 1 - t, the scene's is not to be negative.

    Args:
        airlight: ``(B, 3, 1, 1)`` or ``(B, 3, S, S)``, before the sigmoid.
        haze: ``(B, 1, S, S)``, the logit of 1 - transmission.
        guide: ``(B, 3, S, S)``, the hazy picture.
    """
    airlight, veil = torch.sigmoid(airlight.float()), 1 - transmission_from(haze.float())
    tint, weight = airlight - luma(airlight), veil.square() + LEAST_WEIGHT
    of_picture = ((guide - luma(guide)) * tint).sum(dim=1, keepdim=True)
    of_airlight = veil * tint.square().sum(dim=1, keepdim=True)
    there, believed = ((weight * along).sum(dim=(2, 3), keepdim=True) for along in (of_picture, of_airlight))
    share = (there / believed.clamp(min=1e-9)).clamp(0, 1)
    return torch.logit(luma(airlight) + share * tint, eps=1e-6)


class Smoke(nn.Module):
    """What a picture shows if it is smoke, lit unevenly, that has left but a rest of the usual contrast.

    The airlight is the mean colour around, the transmission what is left of the usual contrast, and the residual brings
    the mean to the colour that a linear function of plain statistics supposes. It is what the network starts from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.contrast = nn.Parameter(torch.tensor(0.3))  # local standard deviation of luma of a clear picture
        self.colour = nn.Conv2d(13, 3, 1)
        start_at(self.colour, 0.4)

    def forward(self, guide: Tensor) -> Veil:
        """``(B, 3, S, S)`` -> the same size."""
        change, contrast = _local(guide, RADII[-1])
        airlight = guide - change
        transmission = ((contrast + NOISE) / self.contrast.clamp(min=0.05)).clamp(0.03, 0.9)
        wanted = self.colour(_statistics(guide, airlight, contrast))
        residual = ((wanted - airlight) / (1 - transmission) / LARGEST_RESIDUAL).clamp(-0.96, 0.96)
        return Veil(-torch.logit(transmission), torch.logit(airlight.clamp(1e-4, 1 - 1e-4)), torch.atanh(residual))


def _statistics(guide: Tensor, around: Tensor, contrast: Tensor) -> Tensor:
    """Give brightness and colour of the surroundings and of the picture, contrast of both, and height: 13 channels."""
    mean = guide.mean(dim=(2, 3), keepdim=True)
    spread = (luma(guide - mean).square().mean(dim=(2, 3), keepdim=True) + 1e-6).sqrt()
    stands_out, logarithm = around - mean, (contrast + 0.005).log() / 3 + 1
    height = torch.linspace(-1, 1, guide.shape[2], device=guide.device)[None, None, :, None]
    parts = [
        luma(stands_out) / (spread + NOISE),
        (stands_out - luma(stands_out)) / (spread + NOISE),
        height,
        height.square(),
        luma(mean) - 0.6,
        3 * (mean - luma(mean)),
        5 * spread,
        logarithm,
        logarithm.mean(dim=(2, 3), keepdim=True),
    ]
    return torch.cat([part.expand(len(guide), -1, *guide.shape[2:]) for part in parts], dim=1)


def _local(guide: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Difference to the mean around every pixel, ``(B, 3, S, S)``, and its standard deviation, ``(B, 1, S, S)``."""
    change = guide - _smooth(guide, radius)
    return change, (_smooth(luma(change).square(), radius) + LEAST_VARIANCE).sqrt()


def _smooth(values: Tensor, radius: int) -> Tensor:
    for _ in range(2):
        padded = F.pad(values, (radius,) * 4, mode="replicate")
        values = F.avg_pool2d(padded, 2 * radius + 1, stride=1)
    return values


def _summary(copy: Tensor, zoom: int) -> Tensor:
    """Mean, least and greatest of squares of ``zoom`` pixels: ``(B, 3, z S, z S)`` -> ``(B, 9, S, S)``."""
    return torch.cat((F.avg_pool2d(copy, zoom), -F.max_pool2d(-copy, zoom), F.max_pool2d(copy, zoom)), dim=1)
