"""The U-Net of guided-diffusion (Dhariwal & Nichol 2021) stated anew, with the names its checkpoints use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    channels: int = 32
    multipliers: Sequence[float] = (1, 2)
    blocks: int = 1
    attention: Sequence[int] = (1,)  # levels
    head_channels: int | None = 32
    heads: int | None = None
    new_order: bool = False
    scale_shift: bool = True
    residual_updown: bool = True
    classes: int | None = None
    out_channels: int = 6
    in_channels: int = 3

    @property
    def widths(self) -> list[int]:
        return [int(self.channels * multiplier) for multiplier in self.multipliers]


class Residual(nn.Module):
    def __init__(self, shape: Shape, before: int, after: int, resize: str | None = None) -> None:
        super().__init__()
        self.resize, self.scale_shift = resize, shape.scale_shift
        self.in_layers = nn.Sequential(nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(4 * shape.channels, 2 * after if shape.scale_shift else after)
        )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, after), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(after, after, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        normalize, activate, convolve = self.in_layers
        h = convolve(self._resized(activate(normalize(x))))
        step = self.emb_layers(embedding)[:, :, None, None]
        normalize, activate, _, convolve = self.out_layers
        if self.scale_shift:
            scale, shift = step.tensor_split(2, dim=1)
            h = normalize(h) * (scale + 1) + shift
        else:
            h = normalize(h + step)
        return self.skip_connection(self._resized(x)) + convolve(activate(h))

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "down":
            return F.avg_pool2d(x, 2)
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) if self.resize == "up" else x


class Attention(nn.Module):
    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.heads = shape.heads or width // shape.head_channels
        self.new_order = shape.new_order
        self.norm = nn.GroupNorm(32, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, _embedding: Tensor) -> Tensor:
        batch, width, *size = x.shape
        rows = self.qkv(self.norm(x).flatten(2))  # (B, 3 C, N)
        each = width // self.heads
        if self.new_order:
            q, k, v = rows.view(batch, 3, self.heads, each, -1).unbind(1)
        else:
            q, k, v = rows.view(batch, self.heads, 3, each, -1).unbind(2)
        weights = (q.transpose(-1, -2) @ k / math.sqrt(each)).softmax(-1)  # (B, heads, N, N)
        mixed = (v @ weights.transpose(-1, -2)).reshape(batch, width, -1)
        return x + self.proj_out(mixed).view(batch, width, *size)


class Strided(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, _embedding: Tensor) -> Tensor:
        return self.op(x)


class Enlarged(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, _embedding: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


class GuidedUNet(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inner = 4 * shape.channels
        self.time_embed = nn.Sequential(nn.Linear(shape.channels, inner), nn.SiLU(), nn.Linear(inner, inner))
        if shape.classes:
            self.label_emb = nn.Embedding(shape.classes, inner)
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(shape.in_channels, shape.widths[0], 3, padding=1)])]
        )
        skips = [shape.widths[0]]
        for level, width in enumerate(shape.widths):
            for _ in range(shape.blocks):
                self.input_blocks.append(nn.ModuleList(self._pair(level, skips[-1])))
                skips.append(width)
            if level < len(shape.widths) - 1:
                down = Residual(shape, width, width, "down") if shape.residual_updown else Strided(width)
                self.input_blocks.append(nn.ModuleList([down]))
                skips.append(width)
        self.middle_block = nn.ModuleList(
            [Residual(shape, width, width), Attention(shape, width), Residual(shape, width, width)]
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(shape.widths))):
            for block in range(shape.blocks + 1):
                layers = self._pair(level, width + skips.pop())
                width = shape.widths[level]
                if level and block == shape.blocks:
                    layers.append(Residual(shape, width, width, "up") if shape.residual_updown else Enlarged(width))
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, shape.out_channels, 3, padding=1))

    def _pair(self, level: int, before: int) -> list[nn.Module]:
        width = self.shape.widths[level]
        residual = Residual(self.shape, before, width)
        return [residual, Attention(self.shape, width)] if level in self.shape.attention else [residual]

    def embed(self, timesteps: Tensor, extra: Tensor | float = 0.0) -> Tensor:
        half = self.shape.channels // 2
        rates = torch.exp(torch.arange(half) / half * -math.log(10_000))
        angles = timesteps[:, None] * rates
        return self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1)) + extra

    def bottleneck(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.input_blocks[0][0](x)
        for layers in [*self.input_blocks[1:], self.middle_block]:
            for layer in layers:
                x = layer(x, embedding)
        return x
