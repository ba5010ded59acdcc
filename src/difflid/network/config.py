"""What is needed to build a dehazing network."""

from dataclasses import dataclass

__all__ = ["DiffLI2DConfig", "LevelConfig"]


@dataclass(frozen=True)
class LevelConfig:
    """One resolution of the U-shape."""

    width: int  # channels
    encoder_blocks: int  # local blocks on the way down; unused on the last level
    decoder_blocks: int  # local blocks on the way up; the middle on the last level
    heads: int = 0  # heads of the Content Integration Module; 0: none on this level


@dataclass(frozen=True)
class DiffLI2DConfig:
    """What is needed to build the network."""

    latent_channels: int  # channels of the prior's latents
    latent_reduction: int  # guide pixels per latent cell, a power of two
    levels: tuple[LevelConfig, ...]  # from half resolution downwards; none: only the guide branch sees the picture
    guide_width: int = 32  # channels of the guide branch at its finest level; doubled on each level, up to 4x
    guide_blocks: int = 1  # local blocks per level of the guide branch, each way
    guide_middle: int = 4  # local blocks where the guide branch meets the latents
    guide_zoom: int = 1  # guide pixels are seen by mean, least and greatest of so many squared; 1: by themselves
    guide_contrast: bool = False  # the guide branch also sees the local contrast
    guide_smoke: bool = False  # the coarse haze starts as smoke: the airlight is the local mean, with a coarse residual
    guide_reviews: int = 0  # how often what the haze leaves is looked at as a whole, to correct airlight and density
    guide_glow: bool = False  # the airlight may be brighter in one latent cell than in another, as smoke is lit
