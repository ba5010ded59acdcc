"""EXIF blocks: which way is up, and the tags that describe a picture whatever file holds it.

Source: CIPA DC-008 (Exif 2.32), section 4.5 (TIFF structure of the block) and 4.6.4 (orientation).
"""

import re
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from difflid.image.picture import Samples

__all__ = ["descriptive_tags", "raw_tags", "read_tags", "take_orientation", "tiff_tags", "turn_upright", "upright_xmp"]

_ORIENTATION = 0x0112
_SHORT = 3  # type of an unsigned 16-bit entry
_DIRECTORIES = {0x8769, 0x8825}  # Exif and GPS
# ImageDescription, Make, Model, resolution (3), Software, DateTime, Artist, Copyright
_DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432} | _DIRECTORIES

_UPRIGHT: dict[int, Callable[[Samples], Samples]] = {
    2: lambda samples: samples[:, ::-1],
    3: lambda samples: samples[::-1, ::-1],
    4: lambda samples: samples[::-1],
    5: lambda samples: samples.swapaxes(0, 1),
    6: lambda samples: np.rot90(samples, -1),
    7: lambda samples: np.rot90(samples, 2).swapaxes(0, 1),
    8: lambda samples: np.rot90(samples),
}


def turn_upright(samples: Samples, orientation: int) -> Samples:
    """Turn samples ``(H, W, C)`` the way the EXIF orientation says."""
    return np.ascontiguousarray(_UPRIGHT[orientation](samples)) if orientation in _UPRIGHT else samples


def take_orientation(exif: bytes) -> tuple[int, bytes]:
    """Return the orientation, and the block with orientation 1 and without thumbnail (it would show the old picture).

    All other bytes stay where they are, so that maker notes remain readable. A damaged block is returned as it is.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1, exif
    upright, orientation = bytearray(exif), 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        end = start + 2 + 12 * count
        for entry in range(start + 2, end, 12):
            if struct.unpack_from(f"{order}HH", exif, entry) == (_ORIENTATION, _SHORT):
                (orientation,) = struct.unpack_from(f"{order}H", exif, entry + 8)
                struct.pack_into(f"{order}H", upright, entry + 8, 1)
        struct.pack_into(f"{order}I", upright, end, 0)
    except struct.error:
        return 1, exif
    return orientation, bytes(upright)


def upright_xmp(xmp: bytes) -> bytes:
    """Let an XMP packet say orientation 1, as attribute or as element; all other bytes stay."""
    return re.sub(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))[2-8]", rb"\g<1>1", xmp)


def descriptive_tags(exif: Image.Exif) -> Image.Exif:
    """Take the tags that hold for any file, leaving those that say how a TIFF stores its pixels."""
    described, block = Image.Exif(), Image.Exif()
    for tag in sorted(_DESCRIPTIVE & set(exif)):
        value = exif.get_ifd(tag) if tag in _DIRECTORIES else exif[tag]
        if value != {}:  # an empty directory cannot be written
            described[tag] = value
    block.load(described.tobytes())  # from a BigTIFF too, it is a block as any other
    return block


def read_tags(block: bytes) -> Image.Exif:
    """Read the descriptive tags of an EXIF block; a damaged one has none."""
    return _tags(lambda exif: exif.load(block))


def tiff_tags(file: BinaryIO) -> Image.Exif:
    """Read the descriptive tags of a TIFF, whatever Pillow thinks of its samples; where they are damaged, none."""
    file.seek(0)
    try:
        return descriptive_tags(Image.open(file, formats=("TIFF",)).getexif())
    except Exception:  # not for Pillow, but an EXIF block is a TIFF, too
        file.seek(0)
        return _tags(lambda exif: exif.load_from_fp(file))


def raw_tags(file: BinaryIO) -> Image.Exif:
    """Read those of a raw file that is a TIFF, without the maker note, whose offsets hold in that file only."""
    tags = tiff_tags(file)
    tags.get_ifd(ExifTags.IFD.Exif).pop(ExifTags.Base.MakerNote, None)
    return tags


def _tags(load: Callable[[Image.Exif], None]) -> Image.Exif:
    exif = Image.Exif()
    try:
        load(exif)
        return descriptive_tags(exif)
    except Exception:  # Pillow raises anything on damaged blocks
        return Image.Exif()
