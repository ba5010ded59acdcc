"""Files that appear whole or not at all, and their digests."""

import glob
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from secrets import token_hex

__all__ = ["part_name", "sha256", "unfinished", "whole"]

_PART = ".{name}.{token}.part{suffix}"
_KEPT = 40  # characters of the name; the whole of it could be as long as the file system lets it


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` that becomes ``path`` if all goes well, and is removed if not.

    It has the suffix of ``path``, for writers that go by it, and is another one each time: several may write the same
    file at once, and the last one stays. What a kill leaves behind is hidden and in nobody's way.
    """
    part = path.with_name(part_name(path.name))
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # the folder itself may be gone, which the error under way says
            part.unlink(missing_ok=True)
        raise


def part_name(name: str) -> str:
    """Make up a temporary name, hidden and never used before, for what will be called ``name``."""
    return _PART.format(name=name[:_KEPT], token=token_hex(4), suffix=PurePath(name).suffix)


def unfinished(path: Path) -> dict[Path, int]:
    """Find what is on the way to be ``path``, or was when it was killed, each with the time of its last change."""
    name, suffix = glob.escape(path.name[:_KEPT]), glob.escape(path.suffix)
    found = {}
    for part in path.parent.glob(_PART.format(name=name, token="[0-9a-f]" * 8, suffix=suffix)):
        with suppress(FileNotFoundError):  # it has been finished meanwhile
            found[part] = part.stat().st_mtime_ns
    return found


def sha256(path: Path) -> str:
    """Digest of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
