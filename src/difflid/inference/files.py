"""Pictures through a dehazer, file by file: while one is computed the next is decoded and the last are encoded."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from stat import S_IMODE, S_IRWXU
from threading import Condition
from typing import BinaryIO

from difflid import image
from difflid.dehazer import Dehazed, Dehazer
from difflid.errors import ImageError, VideoError
from difflid.inference.plan import Job, is_video, map_paths
from difflid.inference.settings import UNCHANGED, FileFailure, FileReport, Progress, Settings
from difflid.places import Place, Remote

__all__ = ["dehaze_file", "dehaze_files"]

WRITERS = 4  # threads that encode, which takes longer than to decode
MOST_PIXELS = 24_000_000  # in memory before another picture is decoded: at about 30 bytes each, 700 MB


def dehaze_file(
    dehazer: Dehazer, source: Place | bytes, target: Place | BinaryIO, settings: Settings | None = None
) -> FileReport:
    """Dehaze one picture; one without haze is written as it is, where the format is the same byte for byte.

    Args:
        dehazer: the model.
        source: a file (see :func:`difflid.places.place` for one at a URL), or an encoded picture.
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
    dehazer: Dehazer, jobs: Iterable[Job], settings: Settings | None = None, *, progress: Progress | None = None
) -> Iterator[FileReport | FileFailure]:
    """Dehaze pictures and videos; a bad one, or one too large for the memory, does not stop the others.

    Results, and the order of the reports, are those of one after the other. The pictures in memory are one of any size
    and `MOST_PIXELS` more. ``progress`` is called after each frame of a video with the number of frames that are done
    and that are expected, where the file tells.
    """
    settings = settings or Settings()
    for are_videos, group in groupby(jobs, lambda job: is_video(job.source)):
        if are_videos:
            yield from (_dehaze_video(dehazer, job, settings, progress) for job in group)
        else:
            yield from _Pipeline(dehazer, settings).run(group)


def _dehaze_video(
    dehazer: Dehazer, job: Job, settings: Settings, progress: Progress | None
) -> FileReport | FileFailure:
    try:
        from difflid.inference.video import dehaze_video

        if isinstance(job.source, Remote) or isinstance(job.target, Remote):
            raise VideoError("videos are read and written on this machine only: copy it here first")
        report = dehaze_video(dehazer, job.source, job.target, settings, progress=progress)
        _keep_private(job.target, job.source)
        return report
    except Exception as error:  # whatever it is, it does not stop the others
        return FileFailure(str(job.source), error)


class _Task:
    """One picture on its way from source to target."""

    picture: image.Picture
    size: tuple[int, int]
    format: str | None
    dehazed: Dehazed

    def __init__(self, source: Place | bytes, target: Place | BinaryIO, settings: Settings) -> None:
        self.source, self.target, self.settings = source, target, settings
        self.name = "-" if isinstance(source, bytes) else str(source)
        self.seconds = 0.0
        self.pixels = 0  # that it keeps in memory
        self.error: Exception | None = None

    def load(self) -> None:
        if isinstance(self.source, Path) and self.source.is_fifo():
            self.source = self.source.read_bytes()  # a pipe can be read once
        self.picture = image.load(self.source)
        self.size, self.format = self.picture.size, self.picture.format
        self.pixels = self.size[0] * self.size[1]

    def dehaze(self, dehazer: Dehazer) -> None:
        how = self.settings
        maps = how.maps and isinstance(self.target, Path | Remote)
        self.dehazed = dehazer.dehaze(
            self.picture,
            strength=how.strength,
            tile=how.tile,
            detail=how.detail,
            maps=maps,
            white_balance=how.white_balance,
        )
        del self.picture  # to encode the result takes as much again

    def write(self) -> None:
        if not isinstance(self.target, Path | Remote):
            try:
                self.target.write(self._encoded(image.writable_format(self.dehazed.picture)))
            except OSError as error:
                raise ImageError(f"cannot write the result of {self.name}: {error}") from error
            return
        if isinstance(self.target, Path):
            _make_folder(self.target.parent)
        self._write_result(self.target)
        if self.dehazed.maps:
            for path, samples in zip(map_paths(self.target), self.dehazed.maps.values(), strict=True):
                image.save(image.from_samples(samples, "L" if samples.shape[-1] == 1 else "RGB"), path)
                _keep_private(path, self.source)

    def _write_result(self, target: Place) -> None:
        """Write the result; what was left alone keeps its bytes where nothing else is asked for."""
        if self._keeps_bytes(image.format_of(target)):
            image.write_parts([self._source_bytes()], target)
        else:
            image.save(self.dehazed.picture, target, self.settings.writing)
        _keep_private(target, self.source)

    def _encoded(self, format: str) -> bytes:
        if self._keeps_bytes(format):
            return self._source_bytes()
        return image.encode(self.dehazed.picture, format, self.settings.writing)

    def _keeps_bytes(self, format: str) -> bool:
        return self.dehazed.left_alone and format == self.format and self.settings.writing == UNCHANGED

    def _source_bytes(self) -> bytes:
        try:
            return self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read {self.name} again to copy it: {error.strerror or error}") from error

    def report(self) -> FileReport:
        done = self.dehazed
        return FileReport(self.name, self.size, done.haze_score, self.seconds, left_alone=done.left_alone)

    def release(self) -> None:
        """Let the picture go, whoever still holds the task."""
        vars(self).clear()

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step and time it, unless one before has failed."""
        start = time.perf_counter()
        try:
            if self.error is None:
                step()
        except Exception as error:  # whatever it is, it does not stop the others
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
                patience = task.seconds / 10  # a report need not wait for the next picture where to encode takes little
                writing.append(writers.submit(self._write, task))
                wait(writing, timeout=patience)
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
        try:
            task.attempt(task.write)
            return FileFailure(task.name, task.error) if task.error else task.report()
        finally:
            with self._freed:
                self._pixels -= task.pixels
                task.release()
                self._freed.notify()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def _keep_private(result: Place, source: Place | bytes) -> None:
    """Take from all but the owner of a result what they may not do with its source."""
    if not isinstance(result, Path) or not isinstance(source, Path):
        return
    with suppress(OSError):  # of a file system without permissions
        given = S_IMODE(result.stat().st_mode)
        kept = given & (source.stat().st_mode | S_IRWXU)
        if kept != given:
            result.chmod(kept)
