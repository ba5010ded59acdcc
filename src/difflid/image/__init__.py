"""Pictures: decode, encode, and every kind of image a user may hold, to a tensor and back."""

from difflid.image.decode import MAX_PIXELS, load
from difflid.image.encode import encode, save
from difflid.image.kinds import ImageLike, open_any, to_pixels, to_tensor
from difflid.image.picture import Picture, Pixels, from_samples, replace_pixels

__all__ = [
    "MAX_PIXELS",
    "ImageLike",
    "Picture",
    "Pixels",
    "encode",
    "from_samples",
    "load",
    "open_any",
    "replace_pixels",
    "save",
    "to_pixels",
    "to_tensor",
]
