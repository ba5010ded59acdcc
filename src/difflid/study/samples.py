"""What is shown to a prior under study: clear photographs, and the same ones under haze."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from difflid.data.dataset import Photo
from difflid.data.synthesis import Haze, draw_haze, render, resample
from difflid.haze import luma
from difflid.prior import LatentSpec, Prior

__all__ = ["VEILS", "HazySamples", "clear_guides", "encode", "hazy_samples", "luma_quarters", "veiled_guides"]

VEILS = {"thin": 0.4, "medium": 1.0, "dense": 2.0}  # mean optical depth of the haze that the decoders are shown
VEIL_AIRLIGHT = np.full(3, 0.85, np.float32)
NEAR = 0.3  # optical depth of the nearest thing, as a share of that of the farthest
BATCH_PIXELS = 2**18  # encoded at once: 64 guides of 64 pixels, 4 of 256


class HazySamples(NamedTuple):
    """N guides under random haze, and what is known of them; G is the grid of the latents."""

    groups: Tensor  # (N,) index of the photograph
    guides: Tensor  # (N, 3, S, S) in [0, 1]
    transmission: Tensor  # (N, G, G), mean of each cell
    airlight: Tensor  # (N, 3)
    content: Tensor  # (N, 4, G, G), luma of the clear picture in the quarters of each cell


def clear_guides(photos: Sequence[Photo], size: int) -> Tensor:
    """Squeeze photographs to guides, ``(N, 3, size, size)`` in [0, 1]."""
    squares = [photo.clear.resize((size, size), Image.Resampling.LANCZOS) for photo in photos]
    return torch.from_numpy(np.stack([np.asarray(square) for square in squares])).permute(0, 3, 1, 2) / 255


def veiled_guides(photos: Sequence[Photo], size: int, optical_depth: float) -> Tensor:
    """Put haze of this mean optical depth on every guide, growing with the distance; ``(N, 3, size, size)``."""
    hazes = [Haze(_distance(photo.depth) * np.float32(optical_depth), VEIL_AIRLIGHT, linear=False) for photo in photos]
    guides = clear_guides(photos, size)
    return torch.stack([_rendered(guide, haze)[0] for guide, haze in zip(guides, hazes, strict=True)])


def _distance(depth: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Distance with mean 1: by the depth map, else from the bottom of the picture to its top."""
    relative = np.linspace(1, 0, 64, dtype=np.float32)[:, None].repeat(64, 1) if depth is None else depth
    distance = NEAR + (1 - NEAR) * relative
    return np.asarray(distance / distance.mean(), np.float32)


def hazy_samples(photos: Sequence[Photo], spec: LatentSpec, *, versions: int, seed: int) -> HazySamples:
    """Render ``versions`` hazy guides of every photograph, under haze as in training but never without any."""
    found = []
    for group, (photo, clear) in enumerate(zip(photos, clear_guides(photos, spec.guide_size), strict=True)):
        content = luma_quarters(clear[None], spec.grid)[0]
        for version in range(versions):
            haze = draw_haze(photo.depth, np.random.default_rng((seed, group, version)), clear_share=0.0)
            hazy, transmission = _rendered(clear, haze)
            cells = torch.from_numpy(resample(transmission, (spec.grid, spec.grid)).copy())
            found.append((torch.tensor(group), hazy, cells, torch.from_numpy(haze.airlight), content))
    return HazySamples(*(torch.stack(values) for values in zip(*found, strict=True)))


def _rendered(clear: Tensor, haze: Haze) -> tuple[Tensor, NDArray[np.float32]]:
    hazy, transmission = render(clear.permute(1, 2, 0).numpy(), haze)
    return torch.from_numpy(hazy).permute(2, 0, 1).clamp(0, 1), transmission


def luma_quarters(guides: Tensor, grid: int) -> Tensor:
    """Mean luma of the four quarters of every cell, ``(N, 4, grid, grid)``."""
    return F.pixel_unshuffle(F.adaptive_avg_pool2d(luma(guides), 2 * grid), 2)


def encode(prior: Prior, guides: Tensor, timestep: int) -> Tensor:
    """Read the latents of many guides, ``(N, 3, S, S)`` in [0, 1] or uint8, as ``(N, C, G, G)`` float16."""
    batches = guides.split(max(1, BATCH_PIXELS // guides.shape[-1] ** 2))
    return torch.cat([prior.encode(as_floats(batch), (timestep,))[0].half() for batch in batches])


def as_floats(pictures: Tensor) -> Tensor:
    """Scale uint8 to [0, 1]; leave floats as they are."""
    return pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
