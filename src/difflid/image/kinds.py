"""Every kind of image a user may hold, to a tensor and back to the same kind."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from difflid.errors import ImageError
from difflid.image.decode import load
from difflid.image.encode import check_pil, encode, to_pil, writable_format
from difflid.image.picture import Picture, Pixels, Samples, check_range, from_samples, replace_pixels
from difflid.places import Place, Remote

__all__ = ["ImageLike", "open_any", "open_picture", "open_tensor", "to_pixels", "to_tensor"]

ImageLike = Image.Image | Samples | Tensor | str | Place | bytes
GiveBack = Callable[[Tensor], Any]
Finish = Callable[[Picture], Any]

_ARRAY_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def to_tensor(pixels: Pixels) -> Tensor:
    """Turn pixels ``(H, W, 3)`` into a tensor ``(1, 3, H, W)`` of its own."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))[None]


def to_pixels(tensor: Tensor) -> Pixels:
    """Turn a tensor ``(1, 3, H, W)`` into pixels ``(H, W, 3)`` float32."""
    return tensor.detach().squeeze(0).permute(1, 2, 0).float().cpu().numpy()


def open_any(source: ImageLike) -> tuple[Tensor, GiveBack]:
    """Turn an image of any kind into RGB ``(B, 3, H, W)`` float32 in [0, 1], and say how to give it back.

    For what the kinds are and what is raised, see `open_picture` and `open_tensor`.

    >>> tensor, give_back = open_any(np.full((2, 3), 51, np.uint8))
    >>> tensor.shape, give_back(tensor).tolist()
    (torch.Size([1, 3, 2, 3]), [[51, 51, 51], [51, 51, 51]])
    """
    if isinstance(source, Tensor):
        return open_tensor(source)
    picture, finish = open_picture(source)
    return to_tensor(picture.pixels), lambda tensor: finish(replace_pixels(picture, to_pixels(tensor)))


def open_picture(source: Image.Image | Samples | str | Place | bytes) -> tuple[Picture, Finish]:
    """Open a picture of any kind but a tensor, and say how to give it back.

    Args:
        source: a PIL image; an array ``(H, W)`` or ``(H, W, 1 | 2 | 3 | 4)`` of uint8, uint16 or float in [0, 1]; a
            path or URL; or an encoded picture.

    Returns:
        The picture, and a function that turns a picture of the same mode and depth into the kind, shape and dtype of
        ``source``. A path gives back a PIL image; encoded bytes give back bytes in the same format.

    Raises:
        TypeError: ``source`` is of another kind.
        ImageError: it cannot be read, or has another shape or range.

    >>> picture, finish = open_picture(np.full((2, 3), 51, np.uint8))
    >>> picture.size, finish(picture).tolist()
    ((3, 2), [[51, 51, 51], [51, 51, 51]])
    """
    match source:
        case np.ndarray():
            return _from_array(source), lambda picture: _apart(picture.samples.reshape(source.shape), source)
        case Image.Image() | str() | Path() | Remote():
            return check_pil(load(source)), to_pil
        case bytes():
            picture = load(source)
            return picture, partial(encode, format=writable_format(picture))
    raise TypeError(
        f"expected a PIL image, an array, a tensor, a path or encoded bytes, got {type(source).__module__}."
        f"{type(source).__qualname__}"
    )


def open_tensor(source: Tensor) -> tuple[Tensor, GiveBack]:
    """Turn a tensor ``(3, H, W)`` or ``(B, 3, H, W)`` of uint8, or float in [0, 1], into a batch of float32, and back.

    Raises:
        TypeError: it is of another type.
        ImageError: it has another shape or range.
    """
    if source.ndim not in (3, 4) or source.shape[-3] != 3 or not source.numel():
        raise ImageError(f"a tensor must be (3, H, W) or (B, 3, H, W), got {tuple(source.shape)}")
    if source.dtype == torch.uint8:
        batch, give_back = source.float() / 255, partial(_like_byte, source=source)
    elif source.is_floating_point():
        check_range(float(source.min()), float(source.max()))
        batch, give_back = source.float(), partial(_like_float, source=source)
    else:
        raise TypeError(f"a tensor must be uint8 or float, got {source.dtype}")
    return (batch if batch.ndim == 4 else batch[None]), give_back


def _apart(samples: Samples, source: Samples) -> Samples:
    """Copy what was left alone: to change the result must not change what was given."""
    return samples.copy() if np.may_share_memory(samples, source) else samples


def _from_array(array: Samples) -> Picture:
    samples = array[..., None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[-1] not in _ARRAY_MODES:
        raise ImageError(f"an array must be (H, W) or (H, W, 1 | 2 | 3 | 4), got {array.shape}")
    if array.dtype.str[1:] not in ("u1", "u2") and array.dtype.kind != "f":
        raise TypeError(f"an array must be uint8, uint16 or float, got {array.dtype}")
    return from_samples(samples, _ARRAY_MODES[samples.shape[-1]])


def _like(result: Tensor, source: Tensor) -> Tensor:
    return result.reshape(source.shape).to(source.device, source.dtype)


def _like_byte(result: Tensor, source: Tensor) -> Tensor:
    return _like((result.clamp(0, 1) * 255).round(), source)


def _like_float(result: Tensor, source: Tensor) -> Tensor:
    """Where nothing changed, keep what float32 could not hold too."""
    same = _like(result, source.float()) == source.float()
    return torch.where(same, source, _like(result, source))
