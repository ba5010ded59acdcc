"""The parts of the dehazing network: local convolutions, and the two modules through which the latents speak.

Source: DiffLI2D (arXiv 2509.20091), sections 3.3 (Content Integration Module) and 3.4 (Haze-Aware Enhancement).
Every part is local or looks at the whole-picture latents; none pools over the picture it processes, so a tile
computed with its surroundings equals the same place of the whole picture.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ContentIntegration",
    "HazeEnhancement",
    "LocalBlock",
    "Modulation",
    "local_blocks",
    "sample_at",
    "start_at",
    "upsample",
]


def sample_at(maps: Tensor, window: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Bilinearly sample whole-picture maps where the pixels of a window lie.

    Args:
        maps: ``(B, C, G, G)``, spanning the whole picture.
        window: ``(B, 4)``: top, left of the window, and height, width of the picture, in pixels.
        size: (h, w) of the features to sample for.
        stride: picture pixels per feature pixel.

    Returns:
        ``(B, C, h, w)`` in the type of ``maps``. A place in the picture gets the same values in every window.
    """
    top, left, height, width = window.float().unbind(1)
    rows = _interpolation(size[0], stride, top, height, maps.shape[2]).to(maps.dtype)
    columns = _interpolation(size[1], stride, left, width, maps.shape[3]).to(maps.dtype)
    return rows[:, None] @ maps @ columns[:, None].transpose(-1, -2)


def _interpolation(count: int, stride: int, start: Tensor, extent: Tensor, cells: int) -> Tensor:
    """Weights of ``cells`` cells that span a picture, at ``count`` feature pixels from ``start``: (B, count, cells)."""
    centres = (torch.arange(count, device=start.device) + 0.5) * stride
    places = ((start[:, None] + centres) / extent[:, None] * cells - 0.5).clamp(0, cells - 1)  # in cells
    return (1 - (places[:, :, None] - torch.arange(cells, device=start.device)).abs()).clamp(min=0)


class LocalBlock(nn.Module):
    """Two 3x3 convolutions with a residual path, without normalisation; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        start_at(self.second, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` -> the same."""
        return x + self.second(F.relu(self.first(x)))


class ContentIntegration(nn.Module):
    """CIM: features attend to the content latent; queries from the features, keys and values from the latent.

    The latent's cells are told apart by what they hold, not by where they lie.
    """

    def __init__(self, width: int, latent_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv2d(width, width, 1)
        self.key_value = nn.Conv2d(latent_channels, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        start_at(self.out, 0.0)

    def keys_values(self, content: Tensor) -> Tensor:
        """Project the content latent ``(B, C, G, G)``, once per picture: ``(B, 2, heads, G * G, width / heads)``."""
        both: Tensor = self.key_value(content)
        return both.flatten(2).unflatten(1, (2, self.heads, -1)).transpose(-1, -2)

    def forward(self, x: Tensor, keys_values: Tensor) -> Tensor:
        """Add to ``x`` ``(B, C, h, w)`` what it finds in the content latent."""
        query = self.query(x).flatten(2).unflatten(1, (self.heads, -1)).transpose(-1, -2)  # (B, heads, h w, c)
        keys, values = keys_values.to(query.dtype).unbind(1)
        attended = F.scaled_dot_product_attention(query, keys, values)
        return x + self.out(attended.transpose(-1, -2).reshape(x.shape))


@dataclass(frozen=True)
class Modulation:
    """What the haze latent asks of one level, computed once per picture."""

    scale_shift: Tensor  # (B, 2 C, G, G)
    gate: Tensor  # (B, C, 1, 1)


class HazeEnhancement(nn.Module):
    """HAE: the haze latent scales and shifts the features by position, then gates their channels."""

    def __init__(self, width: int, latent_channels: int) -> None:
        super().__init__()
        self.scale_shift = nn.Conv2d(latent_channels, 2 * width, 1)
        self.gate = nn.Linear(latent_channels, width)
        for layer in (self.scale_shift, self.gate):
            start_at(layer, 0.0)

    def modulation(self, haze: Tensor) -> Modulation:
        """Project the haze latent ``(B, C, G, G)``, once per picture."""
        gate = 2 * torch.sigmoid(self.gate(haze.mean(dim=(2, 3))))
        return Modulation(self.scale_shift(haze), gate[:, :, None, None])

    def forward(self, x: Tensor, modulation: Modulation, window: Tensor, stride: int) -> Tensor:
        """Modulate ``x`` ``(B, C, h, w)`` by what the haze latent says of its places."""
        height, width = x.shape[2:]
        maps = sample_at(modulation.scale_shift, window, (height, width), stride)
        scale, shift = maps.chunk(2, dim=1)
        return (x * (1 + scale) + shift) * modulation.gate


def start_at(layer: nn.Module, value: float) -> None:
    """Let a layer give ``value``, whatever it is fed, until it has learnt better."""
    layer = cast(nn.Conv2d, layer)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(cast(Tensor, layer.bias), value)


def local_blocks(width: int, count: int) -> nn.Sequential:
    """Chain ``count`` local blocks: ``(B, width, h, w)`` -> the same."""
    return nn.Sequential(*(LocalBlock(width) for _ in range(count)))


def upsample(from_width: int, to_width: int) -> nn.Sequential:
    """Double the resolution, smoothly, so that no grid shows: ``(B, from, h, w)`` -> ``(B, to, 2h, 2w)``."""
    return nn.Sequential(nn.Conv2d(from_width, to_width, 1), nn.Upsample(scale_factor=2, mode="bilinear"))
