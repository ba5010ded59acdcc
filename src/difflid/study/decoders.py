"""Decoders D_t: what of a picture can be seen in its latents at one time-step (DiffLI2D, section 3.2).

A decoder is trained on the latents of clear photographs alone, with L_t = |D_t(h_t) - y|_1. Shown the latents of a
hazy picture, it draws what in them looks like a clear one: r_t(hazy).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from difflid.prior import LatentSpec
from difflid.study.samples import as_floats

__all__ = ["Decoder", "TrainedDecoder", "decode", "train_decoder"]

WIDTH, LEAST_WIDTH = 128, 16  # channels at the latents' size; halved with every doubling of the size
BATCH, RATE = 32, 2e-3


class Decoder(nn.Module):
    """Latents ``(B, C, G, G)`` to pictures ``(B, 3, S, S)``, about [0, 1] but not clamped.

    Args:
        spec: of the latents.
        mean: of each channel, ``(C,)``.
        spread: standard deviation of each channel, ``(C,)``.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, spec: LatentSpec, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("spread", spread.view(1, -1, 1, 1))
        layers: list[nn.Module] = [_convolution(spec.channels, WIDTH), nn.SiLU()]
        width = WIDTH
        for doubling in range(1, math.ceil(math.log2(spec.reduction)) + 1):
            narrower = max(LEAST_WIDTH, width // 2)
            size = min(spec.grid * 2**doubling, spec.guide_size)
            layers += [nn.Upsample(size, mode="bilinear"), _convolution(width, narrower), nn.SiLU()]
            width = narrower
        self.layers = nn.Sequential(*layers, _convolution(width, 3))

    def forward(self, latents: Tensor) -> Tensor:
        """Draw the pictures; latents of any floating type."""
        x = (latents.float() - self.mean) / self.spread
        return self.layers(x.contiguous(memory_format=torch.channels_last))  # a third less time on a processor


def _convolution(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1, padding_mode="replicate")  # zeros would show as coloured borders


class TrainedDecoder(NamedTuple):
    """A decoder and the L1 error of each of its training steps."""

    decoder: Decoder
    losses: list[float]


def train_decoder(latents: Tensor, pictures: Tensor, spec: LatentSpec, *, steps: int, seed: int) -> TrainedDecoder:
    """Train D_t with Adam, the rate falling to zero as a cosine.

    Args:
        latents: of clear photographs, ``(N, C, G, G)``.
        pictures: the photographs, ``(N, 3, S, S)`` in [0, 1] or uint8.
        spec: of the latents.
        steps: batches of 32.
        seed: of the first weights and of the order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spread, mean = torch.std_mean(latents.float(), dim=(0, 2, 3))
        decoder = Decoder(spec, mean, spread.clamp(min=1e-6))
    optimiser = torch.optim.Adam(decoder.parameters(), RATE)
    schedule = CosineAnnealingLR(optimiser, steps)
    rng, losses = np.random.default_rng(seed), []
    for _ in range(steps):
        chosen = torch.from_numpy(rng.integers(len(latents), size=BATCH))
        loss = (decoder(latents[chosen]) - as_floats(pictures[chosen])).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return TrainedDecoder(decoder, losses)


@torch.no_grad()
def decode(decoder: Decoder, latents: Tensor) -> Tensor:
    """Draw the pictures of many latents, ``(N, 3, S, S)`` in [0, 1]."""
    return torch.cat([decoder(part).clamp(0, 1) for part in latents.split(BATCH)])
