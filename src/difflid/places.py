"""Where files are: a path of this machine, or a URL that fsspec opens (the extra ``url``)."""

from collections.abc import Iterable
from dataclasses import dataclass
from errno import EIO, ENOENT, ENOTSUP
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from difflid.errors import ConfigError, MissingExtra
from difflid.files import part_name, whole

__all__ = ["Place", "Remote", "place", "write_whole"]

_WEB = {"http", "https"}  # URLs with a query, and nothing can be written
_GROWING = {
    "dav",
    "ftp",
    "hdfs",
    "sftp",
    "smb",
    "ssh",
    "webdav",
    "webhdfs",
}  # have folders, and show files as they grow


@dataclass(frozen=True)
class Remote:
    """A file or folder in a file system of fsspec; it has of `pathlib.Path` what difflid needs.

    Every failure is an OSError, whatever the file system raises.
    """

    system: Any  # fsspec.AbstractFileSystem
    path: str  # as the file system names it

    def __str__(self) -> str:
        return str(self.system.unstrip_protocol(self.path))

    def __truediv__(self, other: str | PurePath) -> "Remote":
        return Remote(self.system, f"{self.path.rstrip('/')}/{PurePath(other).as_posix()}")

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """Name without the suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """Suffix of the name, with its dot."""
        return self._pure.suffix

    @property
    def parent(self) -> "Remote":
        """The folder that it is in."""
        return Remote(self.system, self.path.rstrip("/").rpartition("/")[0] or "/")

    @property
    def writable(self) -> bool:
        """Whether files can be written there at all."""
        return not _WEB & self._protocols

    @property
    def has_magic(self) -> bool:
        """Whether it is a pattern: in the web, a question mark is none."""
        return any(sign in self.path for sign in ("*[" if _WEB & self._protocols else "*?["))

    def with_name(self, name: str) -> "Remote":
        """Return the file of that name beside this one."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> "Remote":
        """Return the file with another suffix beside this one."""
        return self.with_name(self._pure.with_suffix(suffix).name)

    def resolve(self) -> "Remote":
        """Return itself: it has one name only."""
        return self

    def is_relative_to(self, folder: "Remote") -> bool:
        """Tell whether it is in ``folder``, or is it."""
        return bool(folder.system == self.system) and self._pure.is_relative_to(folder._pure)

    def relative_to(self, folder: "Remote") -> PurePosixPath:
        """Return its name within ``folder``."""
        return self._pure.relative_to(folder._pure)

    def exists(self) -> bool:
        """Tell whether there is such a file or folder."""
        return bool(self._call("exists", self.path))

    def is_dir(self) -> bool:
        """Tell whether it is a folder; in the web, a name that ends with a slash is taken for one."""
        if _WEB & self._protocols:
            return self.path.endswith("/")
        return bool(self._call("isdir", self.path))

    def files(self, *, recursive: bool = False) -> list["Remote"]:
        """List the files in this folder."""
        return self._all(self._call("find", self.path, maxdepth=None if recursive else 1))

    def matches(self) -> list["Remote"]:
        """List what this pattern matches; hidden is what the pattern does not spell."""
        found = self._all(self._call("glob", self.path))
        spelt = set(self._pure.parts)
        return [each for each in found if not any(part[0] == "." for part in each._pure.parts if part not in spelt)]

    def read_bytes(self) -> bytes:
        """Read the file as a whole."""
        return bytes(self._call("cat_file", self.path))

    def write_whole(self, data: bytes) -> None:
        """Write a file that appears complete or not at all, as far as the file system lets it.

        An object of a store appears when all of it has arrived. A file system of files and folders shows a file as it
        grows: there it gets a temporary name first.
        """
        if not _GROWING & self._protocols:
            self._call("pipe_file", self.path, data)
            return
        part = self.with_name(part_name(self.name))
        self._call("makedirs", self.parent.path, exist_ok=True)
        try:
            self._call("pipe_file", part.path, data)
            self._call("mv", part.path, self.path)
        except BaseException:
            if part.exists():
                self._call("rm_file", part.path)
            raise

    @property
    def _protocols(self) -> set[str]:
        protocol = self.system.protocol
        return {protocol} if isinstance(protocol, str) else set(protocol)

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(urlsplit(self.path).path if _WEB & self._protocols else self.path)

    def _all(self, paths: list[str]) -> list["Remote"]:
        return sorted((Remote(self.system, path) for path in paths), key=lambda each: each.path)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self.system, method)(*arguments, **options)
        except FileNotFoundError as error:
            raise FileNotFoundError(ENOENT, "no such file", str(self)) from error
        except OSError as error:
            raise OSError(error.errno or EIO, error.strerror or _reason(error), str(self)) from error
        except NotImplementedError as error:
            raise OSError(ENOTSUP, f"{method} is not supported there", str(self)) from error
        except Exception as error:  # of the library that speaks with the server
            raise OSError(EIO, _reason(error), str(self)) from error


Place = Path | Remote


def place(given: str | Place) -> Place:
    """Say where a path or a URL leads, such as ``s3://bucket/a.jpg``; one of this machine is a path.

    Raises:
        MissingExtra: the URL needs a package that is not installed.
        ConfigError: no file system is known for it, or it cannot be reached.

    >>> place("a.jpg")
    PosixPath('a.jpg')
    """
    if isinstance(given, Remote) or not _is_url(str(given)):
        return given if isinstance(given, Remote) else Path(given)
    url = str(given)
    try:
        from fsspec import url_to_fs
        from fsspec.implementations.local import LocalFileSystem
    except ImportError:
        raise MissingExtra(f"the URL {url}", "url") from None
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        install = "" if url.startswith("http") else str(error)  # the extra has what the web needs
        raise MissingExtra(f"the URL {url}", "url", install=install) from error
    except Exception as error:  # of the library that speaks with the server
        raise ConfigError(f"cannot open {url}: {_reason(error)}") from error
    return Path(path) if isinstance(system, LocalFileSystem) else Remote(system, path)


def _is_url(given: str) -> bool:
    scheme, colon, _ = given.partition("://")
    return bool(colon) and len(scheme) > 1 and scheme.replace("::", "").replace("+", "").replace("-", "").isalnum()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def write_whole(parts: Iterable[bytes | memoryview], target: Place) -> None:
    """Write a file that appears complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(target, Remote):
        target.write_whole(b"".join(parts))
        return
    with whole(target) as part, part.open("wb") as file:
        file.writelines(parts)
