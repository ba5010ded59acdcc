"""Frozen diffusion models and the latents they give."""

from difflid.prior.guided_diffusion import CheckpointOptions, convert_checkpoint
from difflid.prior.latents import LatentSpec, Prior, add_noise, alpha_bars, fixed_noise
from difflid.prior.pretrained import import_unet
from difflid.prior.unet import UNetPrior, UNetPriorConfig, build_unet

__all__ = [
    "CheckpointOptions",
    "LatentSpec",
    "Prior",
    "UNetPrior",
    "UNetPriorConfig",
    "add_noise",
    "alpha_bars",
    "build_unet",
    "convert_checkpoint",
    "fixed_noise",
    "import_unet",
]
