"""Pictures at a smaller size."""

from torch import Tensor
from torch.nn import functional as F

__all__ = ["reduced"]


def reduced(image: Tensor, longest_side: int) -> Tensor:
    """Reduce (B, C, H, W) so that the longer side is at most so many pixels; smaller pictures stay as they are.

    >>> import torch
    >>> reduced(torch.zeros(1, 3, 30, 60), 40).shape
    torch.Size([1, 3, 20, 40])
    """
    height, width = image.shape[2:]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
