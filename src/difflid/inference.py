"""Pictures and folders of pictures through a dehazer, file by file."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from difflid import image
from difflid.data.photos import photo_files
from difflid.dehazer import Dehazer, Restoration
from difflid.errors import ConfigError, DifflidError, ImageError

__all__ = ["FileFailure", "FileReport", "Job", "dehaze_file", "dehaze_files", "plan_outputs"]

MAPS = ("transmission", "airlight")


@dataclass(frozen=True)
class Job:
    """A picture to dehaze and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class FileReport:
    """What was done with one picture."""

    name: str
    size: tuple[int, int]  # width and height
    haze_score: float  # share of veil in [0, 1]
    seconds: float


@dataclass(frozen=True)
class FileFailure:
    """A picture that could not be dehazed."""

    name: str
    error: Exception


def plan_outputs(
    inputs: Sequence[Path], output: Path | None = None, *, maps: bool = False, overwrite: bool = False
) -> list[Job]:
    """Decide where every result goes, before any work is done.

    Args:
        inputs: pictures and folders; a folder stands for the pictures directly in it, sorted by name.
        output: a file for one picture; otherwise a folder, in which the names are those of the inputs. None: beside
            each picture, ``STEM.dehazed.SUFFIX``; for a folder, ``FOLDER-dehazed``.
        maps: plan for the maps too.
        overwrite: allow results that exist; inputs are never overwritten.

    Raises:
        ConfigError: two results would have one name, a result is an input or exists, or OUTPUT is of the wrong kind.
        DataError: a folder has no picture.
    """
    jobs = _jobs(inputs, output)
    sources = {job.source.resolve() for job in jobs}
    planned: dict[Path, Path] = {}
    for job in jobs:
        for target in (job.target, *_map_paths(job.target, maps)):
            _check_target(target, sources, overwrite)
            other = planned.setdefault(target.resolve(), job.source)
            if other is not job.source:
                raise ConfigError(f"{other} and {job.source} would both be written to {target}; dehaze them apart")
    return jobs


def _jobs(inputs: Sequence[Path], output: Path | None) -> list[Job]:
    if len(inputs) == 1 and output is not None and not inputs[0].is_dir() and _is_file_name(output):
        return [Job(inputs[0], output)]
    if output is not None and output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file; the results of several pictures need a folder")
    return [job for path in inputs for job in (_folder_jobs(path, output) if path.is_dir() else [_job(path, output)])]


def _is_file_name(output: Path) -> bool:
    return bool(output.suffix) and not output.is_dir()


def _folder_jobs(folder: Path, output: Path | None) -> list[Job]:
    full = folder.resolve()  # "." has no name
    target = full.with_name(f"{full.name}-dehazed") if output is None else output
    return [Job(path, target / path.name) for path in photo_files(folder)]


def _job(path: Path, output: Path | None) -> Job:
    return Job(path, path.with_name(f"{path.stem}.dehazed{path.suffix}") if output is None else output / path.name)


def _map_paths(target: Path, maps: bool) -> list[Path]:
    return [target.with_name(f"{target.stem}.{name}.png") for name in MAPS] if maps else []


def _check_target(target: Path, sources: set[Path], overwrite: bool) -> None:
    if target.resolve() in sources:
        raise ConfigError(f"{target} is an input; choose another output")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; choose another output")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; choose another output, or ask to overwrite it")


def dehaze_files(
    dehazer: Dehazer, jobs: Iterable[Job], *, strength: float = 1.0, tile: int | None = None, maps: bool = False
) -> Iterator[FileReport | FileFailure]:
    """Dehaze one picture after the other; a bad one, or one too large for the memory, does not stop the others."""
    for job in jobs:
        try:
            yield dehaze_file(dehazer, job.source, job.target, strength=strength, tile=tile, maps=maps)
        except (DifflidError, MemoryError, RuntimeError) as error:
            yield FileFailure(str(job.source), error)


def dehaze_file(
    dehazer: Dehazer,
    source: Path | bytes,
    target: Path | BinaryIO,
    *,
    strength: float = 1.0,
    tile: int | None = None,
    maps: bool = False,
) -> FileReport:
    """Dehaze one picture.

    Args:
        dehazer: the model.
        source: a file, or an encoded picture.
        target: a file, in the format of its suffix, or a stream, in the format of the source.
        strength: see :meth:`difflid.dehazer.Dehazer.restore`.
        tile: see :meth:`difflid.dehazer.Dehazer.restore`.
        maps: write ``STEM.transmission.png`` and ``STEM.airlight.png`` beside the target file, 8 bit.

    Raises:
        ImageError: the picture cannot be read or written.
    """
    start = time.perf_counter()
    picture = image.load(source)
    restoration = _restore(dehazer, picture, strength, tile)
    _write(image.replace_pixels(picture, image.to_pixels(restoration.clear)), target)
    if maps and isinstance(target, Path):
        for path, values in zip(
            _map_paths(target, maps), (restoration.transmission, restoration.airlight), strict=True
        ):
            image.save(_map(image.to_pixels(values)), path)
    name = str(source) if isinstance(source, Path) else "-"
    return FileReport(name, picture.size, float(restoration.haze_score[0]), time.perf_counter() - start)


def _restore(dehazer: Dehazer, picture: image.Picture, strength: float, tile: int | None) -> Restoration:
    tensor = image.to_tensor(picture.pixels).to(next(dehazer.parameters()).device)
    return dehazer.restore(tensor, dehazer.encode(tensor), strength=strength, tile=tile)


def _write(picture: image.Picture, target: Path | BinaryIO) -> None:
    if not isinstance(target, Path):
        target.write(image.encode(picture, picture.format or "PNG"))
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot make the folder {target.parent}: {error.strerror or error}") from error
    image.save(picture, target)


def _map(values: image.Pixels) -> image.Picture:
    samples = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return image.from_samples(samples, "L" if samples.shape[-1] == 1 else "RGB")
