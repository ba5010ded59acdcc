"""Real components at a tiny size."""

import torch

from difflid.dehazer import Dehazer, DehazerConfig
from difflid.network import DiffLI2D, DiffLI2DConfig, LevelConfig
from difflid.prior import UNetPrior, UNetPriorConfig

TINY_UNET = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (4, 8),
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "attention_head_dim": 4,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 2,
    "norm_num_groups": 2,
    "freq_shift": 0,
}
TINY_NETWORK = DiffLI2DConfig(
    latent_channels=8,
    latent_reduction=2,
    levels=(LevelConfig(width=8, encoder_blocks=1, decoder_blocks=1), LevelConfig(8, 0, 1, heads=2)),
    guide_width=4,
    guide_middle=1,
)


def tiny_prior(seed: int = 0) -> UNetPrior:
    torch.manual_seed(seed)
    return UNetPrior(UNetPriorConfig(guide_size=16, unet=TINY_UNET))


def tiny_dehazer(seed: int = 0) -> Dehazer:
    """A Dehazer with random weights everywhere, also where training starts from zero."""
    prior = tiny_prior(seed)
    network = DiffLI2D(TINY_NETWORK)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Dehazer(prior, network, DehazerConfig(TINY_NETWORK))
