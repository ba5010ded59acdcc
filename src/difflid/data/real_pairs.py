"""Photographs with real haze and the same scenes without, as training and validation splits name them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from difflid.data.pairs import DATA_SETS, FOLDER, Pair, find_pairs, load_pair, read_pairs
from difflid.data.photos import decode_all
from difflid.errors import ConfigError, DataError, listed
from difflid.files import sha256

__all__ = ["PairSet", "RealPair", "decode_pair", "load_real_pairs", "refuse_shared", "scenes", "to_image"]


@dataclass(frozen=True)
class PairSet:
    """The part of a data set of pairs that belongs to one split."""

    path: str  # folder of the data set, or a TSV file that lists pairs
    rule: str = "folder"  # how the folder names its files, one of `DATA_SETS`; a TSV file needs none
    names: tuple[str, ...] = ()  # patterns of names (04*) or ranges of scene numbers (01..45); empty: all
    in_memory: bool = True  # decode training pairs once, 6 bytes per pixel; false: decode on every use

    def pairs(self) -> list[Pair]:
        """Find the pairs, sorted by name.

        A range holds the pairs whose name begins with a number in it, so that all hazy versions of a scene
        (1400_1, 1400_2) belong to one split.

        Raises:
            ConfigError: there is no such rule, or one for a TSV file, which needs none.
            DataError: files are missing or do not match, or no name is as one of ``names`` says.
        """
        if self.rule not in DATA_SETS:
            raise ConfigError(f"unknown rule {self.rule!r} of {self.path}; expected one of {', '.join(DATA_SETS)}")
        path, rule = Path(self.path), DATA_SETS[self.rule]
        if path.is_file() and rule is not FOLDER:
            raise ConfigError(f"rule {self.rule!r} is for folders, but {path} is a list of pairs: leave it out")
        found = read_pairs(path) if path.is_file() else find_pairs(path, rule)
        for pattern in self.names:
            if not any(_is_named(pair.name, pattern) for pair in found):
                there = listed([pair.name for pair in found])
                raise DataError(f"no pair in {path} is named {pattern!r}; there are {there}")
        return [pair for pair in found if not self.names or any(_is_named(pair.name, each) for each in self.names)]


@dataclass(frozen=True)
class RealPair:
    """A decoded pair of one size, 8 bit RGB."""

    name: str
    hazy: Image.Image
    clear: Image.Image


def load_real_pairs(pairs: Sequence[Pair]) -> list[RealPair]:
    """Decode pairs once; they take 6 bytes per pixel.

    Raises:
        DataError: a picture cannot be read, or the two of a pair differ in size.
    """
    return decode_all(pairs, decode_pair)


def decode_pair(pair: Pair) -> RealPair:
    """Decode one pair; see :func:`load_real_pairs`."""
    hazy, clear = load_pair(pair)
    return RealPair(pair.name, to_image(hazy), to_image(clear))


def scenes(pairs: Sequence[Pair]) -> dict[str, str]:
    """Tell scenes by the bytes of their clear pictures, whatever these are called: digest -> name of a file.

    Raises:
        DataError: a file cannot be read.
    """
    return {_digest(path): path.name for path in sorted({pair.clear for pair in pairs})}


def refuse_shared(trained: Collection[str], validation: Sequence[Pair], where: str) -> None:
    """Refuse to validate on a scene whose digest is among those that are trained on.

    Raises:
        DataError: there is one, or a file cannot be read.
    """
    shared = [pair.name for pair in validation if _digest(pair.clear) in trained]
    if shared:
        raise DataError(f"validation pairs show scenes that are trained on, {where}: {listed(shared)}")


def _digest(clear: Path) -> str:
    try:
        return sha256(clear)
    except OSError as error:
        raise DataError(f"cannot read the clear picture {clear}: {error}") from error


def to_image(picture: Tensor) -> Image.Image:
    """Round (1, 3, H, W) in [0, 1] to 8 bit RGB."""
    pixels = (picture[0].permute(1, 2, 0) * 255).round().byte()
    return Image.fromarray(np.ascontiguousarray(pixels.numpy()))


def _is_named(name: str, pattern: str) -> bool:
    limits = re.fullmatch(r"(\d+)\.\.(\d+)", pattern)
    if limits is None:
        return fnmatchcase(name, pattern)
    number = re.match(r"\d+", name)
    return number is not None and int(limits[1]) <= int(number[0]) <= int(limits[2])
