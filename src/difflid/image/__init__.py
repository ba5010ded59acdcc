"""Pictures: decode, encode, and every kind of image a user may hold, to a tensor and back."""

from difflid.image.decode import MAX_PIXELS, SUFFIXES, load
from difflid.image.encode import WRITABLE_SUFFIXES, Writing, encode, format_of, save, writable_format, write_parts
from difflid.image.kinds import ImageLike, open_any, open_picture, open_tensor, to_pixels, to_tensor
from difflid.image.picture import Picture, Pixels, Samples, from_samples, replace_pixels
from difflid.image.raw import RAW_SUFFIXES

__all__ = [
    "MAX_PIXELS",
    "RAW_SUFFIXES",
    "SUFFIXES",
    "WRITABLE_SUFFIXES",
    "ImageLike",
    "Picture",
    "Pixels",
    "Samples",
    "Writing",
    "encode",
    "format_of",
    "from_samples",
    "load",
    "open_any",
    "open_picture",
    "open_tensor",
    "replace_pixels",
    "save",
    "to_pixels",
    "to_tensor",
    "writable_format",
    "write_parts",
]
