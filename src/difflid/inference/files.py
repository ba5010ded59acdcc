"""Pictures through a dehazer, file by file: while one is computed the next is decoded and the last are encoded."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Condition
from typing import BinaryIO

from difflid import image
from difflid.dehazer import Dehazed, Dehazer, Detail
from difflid.errors import DifflidError, ImageError
from difflid.inference.plan import Job, map_paths

__all__ = ["FileFailure", "FileReport", "Settings", "dehaze_file", "dehaze_files"]

WRITERS = 4  # threads that encode, which takes longer than to decode
MOST_PIXELS = 24_000_000  # in memory before another picture is decoded: at about 30 bytes each, 700 MB

UNCHANGED = image.Writing()  # encoded as the source was

_FAILURES = (DifflidError, MemoryError, RuntimeError)  # of one picture, which do not stop the others


@dataclass(frozen=True)
class Settings:
    """How a picture is dehazed."""

    strength: float = 1.0  # see `Dehazer.restore`
    tile: int | None = None  # see `Dehazer.restore`
    detail: Detail = "auto"  # see `Dehazer.dehaze`
    maps: bool = False  # write the maps as STEM.NAME.png beside a target file, 8 bit: transmission, depth, airlight
    writing: image.Writing = UNCHANGED  # how the result is encoded


@dataclass(frozen=True)
class FileReport:
    """What was done with one picture."""

    name: str
    size: tuple[int, int]  # width and height
    haze_score: float  # share of veil in [0, 1]
    seconds: float  # of work on this picture, though others are worked at meanwhile


@dataclass(frozen=True)
class FileFailure:
    """A picture that could not be dehazed."""

    name: str
    error: Exception


def dehaze_file(
    dehazer: Dehazer, source: Path | bytes, target: Path | BinaryIO, settings: Settings | None = None
) -> FileReport:
    """Dehaze one picture; one without haze is written as it is, where the format is the same byte for byte.

    Args:
        dehazer: the model.
        source: a file, or an encoded picture.
        target: a file, in the format of its suffix, or a stream, in the format of the source.
        settings: None: the defaults.

    Raises:
        ImageError: the picture cannot be read or written.
    """
    task = _Task(source, target, settings or Settings())
    start = time.perf_counter()
    task.load()
    task.dehaze(dehazer)
    task.write()
    task.seconds = time.perf_counter() - start
    return task.report()


def dehaze_files(
    dehazer: Dehazer, jobs: Iterable[Job], settings: Settings | None = None
) -> Iterator[FileReport | FileFailure]:
    """Dehaze pictures; a bad one, or one too large for the memory, does not stop the others.

    Results, and the order of the reports, are those of one picture after the other. The pictures in memory are one
    of any size and `MOST_PIXELS` more.
    """
    return _Pipeline(dehazer, settings or Settings()).run(jobs)


class _Task:
    """One picture on its way from source to target."""

    picture: image.Picture
    dehazed: Dehazed

    def __init__(self, source: Path | bytes, target: Path | BinaryIO, settings: Settings) -> None:
        self.source, self.target, self.settings = source, target, settings
        self.name = str(source) if isinstance(source, Path) else "-"
        self.seconds = 0.0
        self.pixels = 0  # that it keeps in memory
        self.error: Exception | None = None

    def load(self) -> None:
        self.picture = image.load(self.source)
        self.pixels = self.picture.size[0] * self.picture.size[1]

    def dehaze(self, dehazer: Dehazer) -> None:
        how = self.settings
        maps = how.maps and isinstance(self.target, Path)
        self.dehazed = dehazer.dehaze(self.picture, strength=how.strength, tile=how.tile, detail=how.detail, maps=maps)

    def write(self) -> None:
        if not isinstance(self.target, Path):
            self.target.write(self._encoded(image.writable_format(self.picture)))
            return
        _make_folder(self.target.parent)
        image.write_bytes(self._encoded(image.format_of(self.target)), self.target)
        if self.dehazed.maps:
            for path, samples in zip(map_paths(self.target), self.dehazed.maps.values(), strict=True):
                image.save(image.from_samples(samples, "L" if samples.shape[-1] == 1 else "RGB"), path)

    def _encoded(self, format: str) -> bytes:
        """Encode the result; what was left alone keeps its bytes where nothing else is asked for."""
        writing = self.settings.writing
        if self.dehazed.left_alone and format == self.picture.format and writing == UNCHANGED:
            return self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return image.encode(self.dehazed.picture, format, writing)

    def report(self) -> FileReport:
        return FileReport(self.name, self.picture.size, self.dehazed.haze_score, self.seconds)

    def release(self) -> None:
        """Let the picture go, whoever still holds the task."""
        vars(self).clear()

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step and time it, unless one before has failed."""
        start = time.perf_counter()
        try:
            if self.error is None:
                step()
        except _FAILURES as error:
            self.error = error.with_traceback(None)  # which would keep the picture in memory
        self.seconds += time.perf_counter() - start


class _Pipeline:
    """A thread that decodes, the caller's, which computes, and threads that encode."""

    def __init__(self, dehazer: Dehazer, settings: Settings) -> None:
        self._dehazer, self._settings = dehazer, settings
        self._pixels = 0  # of the pictures in memory
        self._freed = Condition()

    def run(self, jobs: Iterable[Job]) -> Iterator[FileReport | FileFailure]:
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(WRITERS) as writers:
            writing: deque[Future[FileReport | FileFailure]] = deque()
            for task in self._loaded(jobs, reader):
                task.attempt(partial(task.dehaze, self._dehazer))
                writing.append(writers.submit(self._write, task))
                while writing and (len(writing) > WRITERS or writing[0].done()):
                    yield writing.popleft().result()
            yield from (future.result() for future in writing)

    def _loaded(self, jobs: Iterable[Job], reader: Executor) -> Iterator[_Task]:
        """Decode each picture while the one before is computed, or afterwards where that is a large one."""
        tasks = (_Task(job.source, job.target, self._settings) for job in jobs)
        following: Future[None] | None = None
        task = next(tasks, None)
        while task:
            if following is None:
                with self._freed:
                    self._freed.wait_for(lambda: self._pixels <= MOST_PIXELS)
                following = reader.submit(self._load, task)
            following.result()
            after = next(tasks, None)
            following = reader.submit(self._load, after) if after and self._pixels <= MOST_PIXELS else None
            yield task
            task = after

    def _load(self, task: _Task) -> None:
        task.attempt(task.load)
        with self._freed:
            self._pixels += task.pixels

    def _write(self, task: _Task) -> FileReport | FileFailure:
        task.attempt(task.write)
        result = FileFailure(task.name, task.error) if task.error else task.report()
        with self._freed:
            self._pixels -= task.pixels
            task.release()
            self._freed.notify()
        return result


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot make the folder {folder}: {error.strerror or error}") from error
