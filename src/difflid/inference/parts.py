"""What is done of a film, kept in a hidden folder beside the target until the whole is: there a next run goes on.

The key says what the parts were made of and how; parts of another key are of no use and removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

import difflid
from difflid.dehazer import Dehazer
from difflid.errors import MissingExtra
from difflid.files import sha256, unfinished, whole
from difflid.inference.settings import Settings

try:
    import av
    from av.packet import Packet
except ImportError:
    raise MissingExtra("video", "video") from None

__all__ = ["PART", "Part", "Parts", "key_of"]

PART = 100  # frames

_STAMPS = ("pts", "dts", "duration")
_NONE = np.iinfo(np.int64).min  # a time-stamp that there is not


class Part:
    """The packets of `PART` frames, and the sum of the haze scores."""

    def __init__(self, packets: Sequence[Packet[Any]], veil: float) -> None:
        self.packets, self.veil = packets, veil

    @property
    def end(self) -> int:
        """Time-stamp of the last frame."""
        return max(packet.pts for packet in self.packets if packet.pts is not None)

    def save(self, path: Path) -> None:
        """Write a file, whole."""
        stamps = [[_number(getattr(packet, name)) for name in _STAMPS] for packet in self.packets]
        with whole(path) as part, part.open("wb") as stream:
            np.savez(
                stream,
                stamps=np.array(stamps, np.int64),
                keys=np.array([packet.is_keyframe for packet in self.packets]),
                sizes=np.array([packet.size for packet in self.packets]),
                data=np.frombuffer(b"".join(bytes(packet) for packet in self.packets), np.uint8),
                veil=np.float64(self.veil),
            )

    @classmethod
    def load(cls, path: Path) -> Part:
        """Read what :meth:`save` wrote."""
        with path.open("rb") as stream, np.load(stream) as saved:
            data = np.split(saved["data"], np.cumsum(saved["sizes"])[:-1])
            packets = [Packet(each.tobytes()) for each in data]
            for packet, stamps, key in zip(packets, saved["stamps"].tolist(), saved["keys"].tolist(), strict=True):
                for name, value in zip(_STAMPS, stamps, strict=True):
                    setattr(packet, name, None if value == _NONE else value)
                packet.is_keyframe = key
            return cls(packets, float(saved["veil"]))


class Parts:
    """The parts of the film that will be ``target``."""

    def __init__(self, target: Path, key: str) -> None:
        self._folder, self._key = target.with_name(f".{target.name}.parts"), key
        self._target, self._others = target, unfinished(target)

    def done(self) -> list[Part]:
        """Read the parts that are there, from the first on; what does not belong to them is removed."""
        parts = list(self._readable())
        mine = {self._path(index) for index in range(len(parts))}
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            if path not in mine:
                path.unlink()
        return parts

    def _readable(self) -> Iterator[Part]:
        index = 0
        with suppress(FileNotFoundError, NotADirectoryError, BadZipFile, ValueError, KeyError, EOFError):
            while True:
                yield Part.load(self._path(index))
                index += 1

    def keep(self, index: int, part: Part) -> None:
        """Write a part that is done."""
        self._folder.mkdir(exist_ok=True)
        part.save(self._path(index))

    def clear(self) -> None:
        """Remove them all, and what killed runs have left: the film is whole."""
        if self._folder.is_dir():
            for path in self._folder.glob("*"):
                path.unlink()
            self._folder.rmdir()
        for path, _ in self._others.items() & unfinished(self._target).items():  # which nobody writes any more
            path.unlink(missing_ok=True)

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._key}-{index:06}.npz"


def key_of(dehazer: Dehazer, source: Path, settings: Settings, time_base: Fraction) -> str:
    """Digest of all that a part depends on: film, model, settings, versions."""
    digest = hashlib.sha256(f"{difflid.__version__} {av.__version__} {settings} {time_base} {sha256(source)}".encode())
    for name, values in dehazer.state_dict().items():
        digest.update(name.encode())
        digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _number(stamp: int | None) -> int:
    return int(_NONE) if stamp is None else stamp
