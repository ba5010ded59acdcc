"""Files that appear whole or not at all, and their digests."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["sha256", "whole"]


@contextmanager
def whole(path: Path, *, writer: str = "") -> Iterator[Path]:
    """Give a temporary name beside ``path`` that becomes ``path`` if all goes well, and is removed if not.

    It has the suffix of ``path``, for writers that go by it, and is always the same: what a kill leaves behind is
    overwritten next time. Where several may write the same file at once, each is a ``writer`` of another name.
    """
    part = path.with_name(f".{path.name}{writer}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # the folder itself may be gone, which the error under way says
            part.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """Digest of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
