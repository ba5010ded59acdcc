"""Pairs in tar files, so that a training on a million pictures lists none and reads from few files.

The tar files follow WebDataset's convention, ``00000123.hazy.png`` beside ``00000123.clear.png``, in the bytes of the
original files. Beside them: `INDEX`, where in which tar file each picture lies, so that any pair can be read
without the ones before it; `SCENES`, the digests of the clear pictures, by which a scene to validate on is found;
`ABOUT`; and `NAMES`, for people. An epoch goes through the tar files one after the other,
in an order that is a function of (seed, epoch), and through the pairs of each in an order of its own.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from difflid import image
from difflid.data.pairs import Pair, fitted, refuse_damaged
from difflid.data.real_pairs import RealPair, refuse_shared, scenes, to_image
from difflid.errors import DataError, ImageError
from difflid.files import sha256

__all__ = ["Shards", "write_shards"]

INDEX, ABOUT, NAMES, SCENES = "index.npy", "about.json", "names.txt", "scenes.txt"
VERSION = 2
SIDES = ("hazy", "clear")


def write_shards(pairs: Sequence[Pair], folder: Path, *, shard_bytes: int = 256_000_000, seed: int = 0) -> int:
    """Pack pairs, shuffled by the seed, into tar files of about ``shard_bytes``; return how many tar files.

    Raises:
        DataError: the folder is not empty, a pair cannot be read, or a file cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty: choose another folder for the shards or remove it")
    refuse_damaged(pairs)
    shuffled = [pairs[place] for place in np.random.default_rng(seed).permutation(len(pairs))]
    rows: list[tuple[int, ...]] = []  # shard; offset and bytes of the hazy, then of the clear picture
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for shard, part in enumerate(_parts(shuffled, shard_bytes)):
            with tarfile.open(folder / f"{shard:06}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                rows += [(shard, *_add(tar, len(rows) + place, pair)) for place, pair in enumerate(part)]
        names = "".join(f"{number:08}\t{pair.name}\n" for number, pair in enumerate(shuffled))
        (folder / NAMES).write_bytes(os.fsencode(names))
        digests = "".join(f"{digest}\t{name}\n" for digest, name in scenes(pairs).items())
        (folder / SCENES).write_bytes(os.fsencode(digests))
        (folder / ABOUT).write_text(json.dumps({"version": VERSION, "crop": pairs[0].crop, "pairs": len(pairs)}) + "\n")
        np.save(folder / INDEX, np.array(rows, np.int64))  # last: what has no index is not complete
    except OSError as error:
        raise DataError(f"cannot pack into {folder}: {error}; remove it and start again") from error
    return rows[-1][0] + 1


def _parts(pairs: Sequence[Pair], shard_bytes: int) -> Iterator[list[Pair]]:
    part: list[Pair] = []
    held = 0
    for pair in pairs:
        part.append(pair)
        held += pair.hazy.stat().st_size + pair.clear.stat().st_size
        if held >= shard_bytes:
            yield part
            part, held = [], 0
    if part:
        yield part


def _add(tar: tarfile.TarFile, number: int, pair: Pair) -> tuple[int, ...]:
    """Append both pictures; return where their bytes begin and how many they are."""
    places = []
    for side, path in zip(SIDES, (pair.hazy, pair.clear), strict=True):
        member = tarfile.TarInfo(f"{number:08}.{side}{path.suffix.lower()}")
        member.size = path.stat().st_size
        begin = tar.offset + tarfile.BLOCKSIZE  # one block of header
        with path.open("rb") as stream:
            tar.addfile(member, stream)
        places += [begin, member.size]
    return tuple(places)


class Shards:
    """Packed pairs, read when they are asked for.

    Raises:
        DataError: the folder holds no complete shards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._index: NDArray[np.int64] = np.load(folder / INDEX, mmap_mode="r")
            about = json.loads((folder / ABOUT).read_text())
            version, self._crop = about["version"], int(about["crop"])
            lines = (folder / SCENES).read_bytes().splitlines() if version == VERSION else []
            self._scenes = {line.partition(b"\t")[0].decode() for line in lines}
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} holds no complete shards (difflid data pack makes them): {error}") from error
        if version != VERSION:
            raise DataError(f"the shards in {folder} are of version {version}, expected {VERSION}; pack again")
        if self._index.ndim != 2 or self._index.shape[1] != 5 or not len(self._index) or self._index.min() < 0:
            raise DataError(f"{folder / INDEX} is no index of shards: it has the shape {self._index.shape}; pack again")
        self._first = np.searchsorted(self._index[:, 0], np.arange(self._index[-1, 0] + 2))  # pair of each shard, end

    def __len__(self) -> int:
        return len(self._index)

    def refuse_shared(self, validation: Sequence[Pair]) -> None:
        """Refuse to train on a clear picture to validate on; see :func:`difflid.data.real_pairs.refuse_shared`."""
        refuse_shared(self._scenes, validation, f"in the shards of {self._folder}")

    def digest(self) -> str:
        """Tell these shards from others, by where their pictures lie."""
        return sha256(self._folder / INDEX)

    def place(self, number: int, seed: int) -> int:
        """Say which pair comes as number ``number``, counted over all epochs."""
        epoch, position = divmod(number, len(self))
        sizes = np.diff(self._first)
        order = np.random.default_rng((seed, epoch)).permutation(len(sizes))
        ends = np.cumsum(sizes[order])
        turn = int(np.searchsorted(ends, position, side="right"))
        shard = int(order[turn])
        within = np.random.default_rng((seed, epoch, shard)).permutation(sizes[shard])
        return int(self._first[shard] + within[position - (ends[turn] - sizes[shard])])

    def __getitem__(self, place: int) -> RealPair:
        """Read a pair.

        Raises:
            DataError: it is damaged, or its pictures differ in size.
        """
        shard, *spans = (int(value) for value in self._index[place])
        path, name = self._folder / f"{shard:06}.tar", f"{place:08}"
        try:
            with path.open("rb") as tar:
                data = [_read(tar, *spans[:2]), _read(tar, *spans[2:])]
            hazy, clear = (image.to_tensor(image.load(each).pixels) for each in data)
        except (OSError, ImageError) as error:
            raise DataError(f"cannot read pair {name} of {path} ({NAMES} tells its name): {error}") from error
        hazy, clear = fitted(hazy, clear, self._crop, f"the pictures of pair {name} of {path}")
        return RealPair(name, to_image(hazy), to_image(clear))


def _read(tar: BinaryIO, begin: int, size: int) -> bytes:
    tar.seek(begin)
    return tar.read(size)
