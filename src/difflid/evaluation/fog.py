"""How much fog is in a picture, told from statistics of the picture alone.

Choi, You, Bovik, "Referenceless prediction of perceptual fog density and perceptual image defogging" (FADE), TIP 2015,
found statistics of natural scenes that change with fog. FADE compares them, patch by patch, with models fitted to
collections of foggy and clear photographs that are not at hand. So this is not FADE, and its numbers are not FADE's. It
has statistics of the same kinds, over the whole picture, and a regression of the mean veil 1 - t of synthetic haze on
them: ``scripts/fit_fog_density.py`` writes ``fog_density.json``, with the error on photographs it did not see.
"""

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from difflid.evaluation.scale import reduced
from difflid.haze import luma, saturation
from difflid.metrics import gaussian_mean

__all__ = ["fog_density", "fog_statistics"]

LONGEST_SIDE = 256  # pixels; the statistics depend on it
WINDOW, SIGMA = 7, 7 / 6  # of the local means, as FADE's
LEVELS = 255


def fog_density(image: Tensor) -> float:
    """Estimate the mean veil 1 - t of a picture (1, 3, H, W) in [0, 1]: 0 clear, 1 nothing but fog.

    >>> 0 < fog_density(torch.full((1, 3, 20, 30), 0.8)) < 1
    True
    """
    model, statistics = _regression(), fog_statistics(image)
    score = model["intercept"] + sum(weight * statistics[name] for name, weight in model["weights"].items())
    return 1 / (1 + math.exp(-score))


def fog_statistics(image: Tensor) -> dict[str, float]:
    """Give the twelve statistics of a picture (1, 3, H, W) in [0, 1], reduced to a longer side of 256 pixels.

    Normalised luminance is (grey - local mean) / (local deviation + 1 / 255); its products are with the pixel below.
    """
    rgb = reduced(image.double(), LONGEST_SIDE)
    planes = torch.cat([luma(rgb), _opponents(rgb)], dim=1)  # (1, 3, H, W)
    mean, deviation = _local(planes)
    normalised = (planes[:, 0] - mean[:, 0]) / (deviation[:, 0] + 1 / LEVELS)  # (1, H, W)
    products = normalised[:, 1:] * normalised[:, :-1]
    return {
        "normalised_variance": _variance(normalised),
        "positive_products": _power(products.clamp(min=0)),
        "negative_products": _power(products.clamp(max=0)),
        "sharpness": deviation[:, 0].mean().item(),
        "relative_sharpness": (deviation[:, 0] / (mean[:, 0] + 1 / LEVELS)).mean().item(),
        "contrast": math.sqrt(_variance(planes[:, 0])),
        "contrast_red_green": deviation[:, 1].mean().item(),
        "contrast_yellow_blue": deviation[:, 2].mean().item(),
        "entropy": _entropy(planes[:, 0]),
        "dark_channel": rgb.amin(dim=1).mean().item(),
        "saturation": saturation(rgb).mean().item(),
        "colourfulness": _colourfulness(planes[:, 1:]),
    }


@cache
def _regression() -> dict[str, Any]:
    text = files("difflid.evaluation").joinpath("fog_density.json").read_text(encoding="utf-8")
    model: dict[str, Any] = json.loads(text)
    return model


def _opponents(rgb: Tensor) -> Tensor:
    """Red less green and yellow less blue, (1, 2, H, W)."""
    red, green, blue = rgb.unbind(dim=1)
    return torch.stack([red - green, (red + green) / 2 - blue], dim=1)


def _local(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation in a Gaussian window around each pixel."""
    mean = _blur(planes)
    return mean, (_blur(planes.square()) - mean.square()).clamp(min=0).sqrt()


def _blur(planes: Tensor) -> Tensor:
    return gaussian_mean(F.pad(planes, (WINDOW // 2,) * 4, mode="replicate"), WINDOW, SIGMA)


def _variance(values: Tensor) -> float:
    return values.var(correction=0).item()


def _power(values: Tensor) -> float:
    return values.square().mean().item() if values.numel() else 0.0


def _entropy(grey: Tensor) -> float:
    """Entropy of the histogram of 256 levels in bits."""
    counts = torch.bincount((grey * LEVELS).round().long().flatten())
    shares = counts[counts > 0].double() / counts.sum()
    return -(shares * shares.log2()).sum().item()


def _colourfulness(opponents: Tensor) -> float:
    """Hasler, Suesstrunk, "Measuring colorfulness in natural images", 2003, equation 3, for values in [0, 1]."""
    spread = sum(_variance(plane) for plane in opponents.unbind(dim=1))
    return math.sqrt(spread) + 0.3 * opponents.mean(dim=(0, 2, 3)).norm().item()
