"""How far a restored picture is from the clear one, as something to minimise: by name, each zero for equal pictures.

Pure functions of two pictures (B, 3, H, W) in about [0, 1]; each gives one value for the batch.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from difflid import metrics

__all__ = ["LOSSES", "contrast", "decibels", "frequency", "l1", "l2", "picture_loss", "ssim"]

LEAST_ERROR = 3e-4  # mean square below which an error counts little


def l1(restored: Tensor, clear: Tensor) -> Tensor:
    """Mean absolute error of the samples."""
    return F.l1_loss(restored, clear)


def l2(restored: Tensor, clear: Tensor) -> Tensor:
    """Mean squared error of the samples: what PSNR measures; where much cannot be known, it asks for the mean."""
    return F.mse_loss(restored, clear)


def decibels(restored: Tensor, clear: Tensor) -> Tensor:
    """Mean over the pictures of log(1 + MSE / E), E = 0.0003: what a mean PSNR measures, up to 35 dB."""
    square = (restored - clear).square().mean(dim=(1, 2, 3))
    return (1 + square / LEAST_ERROR).log().mean()


def ssim(restored: Tensor, clear: Tensor) -> Tensor:
    """Give one minus the structural similarity, :func:`difflid.metrics.ssim`, in float32."""
    return 1 - metrics.ssim(restored, clear).mean().float()


def frequency(restored: Tensor, clear: Tensor) -> Tensor:
    """Mean modulus of the error's Fourier coefficients, unitary transform.

    Phase counts, as in the frequency loss of Cho et al., "Rethinking coarse-to-fine approach in single image
    deblurring", ICCV 2021.
    """
    return torch.fft.rfft2(restored - clear, norm="ortho").abs().mean()


def contrast(restored: Tensor, clear: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbours, across plus down."""
    error = restored - clear
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": l1,
    "l2": l2,
    "decibels": decibels,
    "ssim": ssim,
    "frequency": frequency,
    "contrast": contrast,
}


def picture_loss(weights: Mapping[str, float], restored: Tensor, clear: Tensor) -> Tensor:
    """Weighted sum of named losses."""
    return torch.stack([weight * LOSSES[name](restored, clear) for name, weight in weights.items()]).sum()
