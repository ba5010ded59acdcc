"""What a prior is to the rest of difflid: a frozen model that turns a guide into latents at given time-steps.

Anything that satisfies :class:`Prior` can instruct the dehazing network. The noise that carries a picture to a
time-step is fixed (:func:`fixed_noise`), so that the same picture always has the same latents.

Source: DiffLI2D (arXiv 2509.20091); DDPM, Ho et al. 2020, eq. 4 (forward process).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from difflid.errors import ConfigError

__all__ = ["LatentSpec", "Prior", "add_noise", "alpha_bars", "fixed_noise"]

TIMESTEPS = 1000  # T of the diffusion process; integer time-steps are 0 ... T - 1


@dataclass(frozen=True)
class LatentSpec:
    """Shape of the latents a prior gives: ``(channels, guide_size / reduction, guide_size / reduction)``."""

    channels: int  # channels of the bottleneck
    reduction: int  # guide pixels per latent cell, along each axis
    guide_size: int  # side of the square guide in pixels, a multiple of `reduction`

    @property
    def grid(self) -> int:
        """Latent cells along each axis."""
        return self.guide_size // self.reduction


class Prior(Protocol):
    """A frozen model whose latents instruct the dehazing network.

    A class need not inherit from this one. It must be frozen: the same guide gives the same latents on every call,
    whatever else is in the batch, and no gradient reaches its weights.
    """

    @property
    def spec(self) -> LatentSpec:
        """Shape of the latents."""

    def encode(self, guide: Tensor, timesteps: Sequence[int]) -> Tensor:
        """Read the latents of ``guide`` at each of ``timesteps``.

        A prior that knows no diffusion may ignore the values of the time-steps, but gives latents for each.

        Args:
            guide: RGB ``(B, 3, S, S)`` in [0, 1], ``S = spec.guide_size``.
            timesteps: T' integers in [0, 999].

        Returns:
            ``(T', B, channels, S / reduction, S / reduction)``, float32, on the device of ``guide``.
        """


def alpha_bars(
    timesteps: int = TIMESTEPS, beta_start: float = 1e-4, beta_end: float = 0.02, schedule: str = "linear"
) -> Tensor:
    """Cumulative product of ``1 - beta``, ``(timesteps,)`` float64 on the CPU.

    ``schedule`` is "linear" (DDPM, section 4), "scaled_linear" (linear in the root of beta) or "cosine"
    (Nichol & Dhariwal 2021, eq. 17, where ``beta_start`` and ``beta_end`` have no part).

    >>> [round(float(alpha_bars()[t]), 4) for t in (0, 500)]
    [0.9999, 0.0778]

    Raises:
        ConfigError: the schedule is none of the three.
    """
    if schedule == "linear":
        betas = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64, device="cpu")
    elif schedule == "scaled_linear":
        roots = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float64, device="cpu")
        betas = roots.square()
    elif schedule == "cosine":
        share = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64, device="cpu")
        curve = torch.cos((share + 0.008) / 1.008 * math.pi / 2).square()
        betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    else:
        raise ConfigError(f"schedule must be 'linear', 'scaled_linear' or 'cosine', got {schedule!r}")
    return torch.cumprod(1 - betas, dim=0)


def fixed_noise(seed: int, timestep: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise that depends on nothing but its arguments, float32."""
    generator = np.random.Generator(np.random.Philox(key=[seed, timestep]))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def add_noise(x: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Diffuse ``x`` in [-1, 1]: ``sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise`` (DDPM eq. 4)."""
    return alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
