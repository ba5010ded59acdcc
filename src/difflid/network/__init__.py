"""The dehazing network; it takes latents as tensors and knows nothing of where they come from."""

from difflid.network.diffli2d import Condition, DiffLI2D, DiffLI2DConfig, LevelConfig
from difflid.network.head import Scattering, restore

__all__ = ["Condition", "DiffLI2D", "DiffLI2DConfig", "LevelConfig", "Scattering", "restore"]
