"""What decoders draw of photographs they never saw, clear and under haze, beside the photographs themselves."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from difflid.metrics import psnr, ssim
from difflid.prior import Prior
from difflid.study.decoders import Decoder, decode
from difflid.study.estimates import Estimate
from difflid.study.samples import VEILS, encode

__all__ = ["Pictures", "Views", "compare_views", "draw", "shown"]

SHOWN = 3  # photographs in the report


@dataclass(frozen=True)
class Views:
    """How like the photographs the drawn pictures r are, over the held-out photographs."""

    l1: Estimate  # |r(clear) - clear|
    psnr: Mapping[str, Estimate]  # in dB, keys as those of ssim
    ssim: Mapping[str, Estimate]  # "r(clear), clear", "r(thin), clear", "r(thin), hazy" and so for each veil
    haze_difference: Mapping[str, Estimate]  # |r(hazy) - r(clear)| / |hazy - clear| in L1, for each veil


@dataclass(frozen=True)
class Pictures:
    """Some held-out photographs, clear and under each veil, and what the decoders drew of them."""

    inputs: Tensor  # (P, 1 + veils, 3, S, S)
    drawn: Tensor  # (time-steps, P, 1 + veils, 3, S, S)


def draw(decoder: Decoder, prior: Prior, inputs: Tensor, timestep: int) -> Tensor:
    """Draw r of photographs, clear and under each veil: ``(1 + veils, N, 3, S, S)`` to the same."""
    return torch.stack([decode(decoder, encode(prior, guides, timestep)) for guides in inputs])


def compare_views(drawn: Tensor, inputs: Tensor) -> Views:
    """Compare what was drawn with what it may resemble, both ``(1 + veils, N, 3, S, S)``."""
    pairs = {"r(clear), clear": (drawn[0], inputs[0])}
    haze_difference = {}
    for index, veil in enumerate(VEILS, 1):
        pairs[f"r({veil}), clear"] = (drawn[index], inputs[0])
        pairs[f"r({veil}), hazy"] = (drawn[index], inputs[index])
        seen, there = _l1(drawn[index], drawn[0]), _l1(inputs[index], inputs[0])
        haze_difference[veil] = Estimate.of(seen / there.clamp(min=1e-6))
    return Views(
        Estimate.of(_l1(drawn[0], inputs[0])),
        {name: Estimate.of(psnr(*pair)) for name, pair in pairs.items()},
        {name: Estimate.of(ssim(*pair)) for name, pair in pairs.items()},
        haze_difference,
    )


def _l1(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean(dim=(1, 2, 3))


def shown(pictures: Tensor) -> Tensor:
    """Choose photographs from all over the folder: ``(1 + veils, N, ...)`` to ``(P, 1 + veils, ...)``."""
    count = pictures.shape[1]
    return pictures[:, [count * (2 * i + 1) // (2 * SHOWN) for i in range(SHOWN)]].transpose(0, 1)
