"""Remove haze, fog and smoke veil from photographs, instructed by a frozen diffusion model (DiffLI2D).

>>> import difflid
>>> clear = difflid.dehaze("photo.jpg")  # doctest: +SKIP
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from difflid.errors import (
    ConfigError,
    DataError,
    DifflidError,
    ImageError,
    MissingExtra,
    ModelError,
    TrainingError,
    VideoError,
)

if TYPE_CHECKING:
    from difflid.dehazer import Dehazer, Restoration
    from difflid.inference import dehaze, dehaze_frames

__version__ = version("difflid")

__all__ = [
    "ConfigError",
    "DataError",
    "Dehazer",
    "DifflidError",
    "ImageError",
    "MissingExtra",
    "ModelError",
    "Restoration",
    "TrainingError",
    "VideoError",
    "__version__",
    "dehaze",
    "dehaze_frames",
]

_LAZY = {  # they import torch: only when asked for
    "Dehazer": "difflid.dehazer",
    "Restoration": "difflid.dehazer",
    "dehaze": "difflid.inference",
    "dehaze_frames": "difflid.inference",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'difflid' has no attribute {name!r}")
