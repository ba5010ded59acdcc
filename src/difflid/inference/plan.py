"""Which pictures are meant, and where every result goes: decided before any work is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from difflid.data.photos import photo_files
from difflid.dehazer import MAPS
from difflid.errors import ConfigError, DataError
from difflid.image import RAW_SUFFIXES, SUFFIXES

__all__ = ["Job", "is_done", "is_video", "map_paths", "plan_outputs"]

VIDEO_TARGETS = {".m4v", ".mkv", ".mov", ".mp4", ".webm"}  # containers for the codecs of today
VIDEO_SOURCES = VIDEO_TARGETS | {
    ".3g2",
    ".3gp",
    ".asf",
    ".avi",
    ".f4v",
    ".flv",
    ".gif",
    ".m2ts",
    ".mpeg",
    ".mpg",
    ".mts",
    ".mxf",
    ".nut",
    ".ogv",
    ".ts",
    ".vob",
    ".wmv",
    ".y4m",
}


@dataclass(frozen=True)
class Job:
    """A picture or video to dehaze and where the result goes."""

    source: Path
    target: Path


def plan_outputs(
    inputs: Sequence[Path],
    output: Path | None = None,
    *,
    maps: bool = False,
    recursive: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """Decide where every result goes.

    Args:
        inputs: pictures, videos, folders, and patterns such as ``trip/**/*.jpg``. A folder stands for the pictures in
            it, sorted by name, hidden ones aside; a picture that is meant twice is dehazed once.
        output: a file for one picture or video; otherwise a folder, in which the names are those of the inputs, but
            ``STEM.mkv`` of a video in an old container. None: beside each input, ``STEM.dehazed.SUFFIX``; for a
            folder, ``FOLDER-dehazed``.
        maps: plan for the maps too.
        recursive: a folder stands for the pictures in its sub-folders too; the results keep the sub-folders.
        overwrite: allow results that exist; inputs are never overwritten.

    Raises:
        ConfigError: two results would have one name, a result is an input or exists, OUTPUT is of the wrong kind, or
            maps of a video are asked for.
        DataError: a folder has no picture, or nothing matches a pattern.
    """
    jobs = _jobs([path for given in inputs for path in _matches(given)], output, recursive)
    sources = {job.source.resolve() for job in jobs}
    planned: dict[Path, Path] = {}
    for job in jobs:
        _check_video(job, maps)
        for target in _targets(job, maps):
            _check_target(target, sources, overwrite)
            other = planned.setdefault(target.resolve(), job.source)
            if other != job.source:
                raise ConfigError(f"{other} and {job.source} would both be written to {target}; dehaze them apart")
    return jobs


def is_done(job: Job, *, maps: bool = False) -> bool:
    """Tell whether everything that ``job`` would write exists."""
    return all(target.exists() for target in _targets(job, maps))


def is_video(path: Path) -> bool:
    """Tell by its suffix whether a file is a video."""
    return path.suffix.lower() in VIDEO_SOURCES


def map_paths(target: Path) -> list[Path]:
    """Name the files of the maps beside the result ``target``."""
    return [target.with_name(f"{target.stem}.{name}.png") for name in MAPS]


def _targets(job: Job, maps: bool) -> list[Path]:
    return [job.target, *(map_paths(job.target) if maps else [])]


def _matches(given: Path) -> list[Path]:
    """Expand a pattern that the shell left as it is; a file may have the name of a pattern."""
    if not has_magic(str(given)) or given.exists():
        return [given]
    found = sorted(Path(name) for name in glob(str(given), recursive=True))  # noqa: PTH207 (may be absolute)
    if not found:
        raise DataError(f"nothing matches {given}")
    return found


def _jobs(inputs: Sequence[Path], output: Path | None, recursive: bool) -> list[Job]:
    if len(inputs) == 1 and output is not None and not inputs[0].is_dir() and _is_file_name(output):
        return [Job(inputs[0], output)]
    if output is not None and not output.is_dir() and (output.exists() or _is_of_one(output)):
        raise ConfigError(f"{output} names one file; the results of several pictures need a folder")
    jobs = (
        job
        for path in inputs
        for job in (_folder_jobs(path, output, recursive) if path.is_dir() else [_job(path, output)])
    )
    return list(dict.fromkeys(jobs))


def _is_file_name(output: Path) -> bool:
    return bool(output.suffix) and not output.is_dir()


def _is_of_one(output: Path) -> bool:
    return is_video(output) or output.suffix.lower() in SUFFIXES


def _folder_jobs(folder: Path, output: Path | None, recursive: bool) -> Iterator[Job]:
    full = folder.resolve()  # "." has no name
    target = full.with_name(f"{full.name}-dehazed") if output is None else output
    results = None if target.resolve() == full else target.resolve()  # earlier results in the folder are no inputs
    for path in photo_files(folder, recursive=recursive, suffixes=SUFFIXES):
        if results is None or not path.resolve().is_relative_to(results):
            yield Job(path, (target / path.relative_to(folder)).with_suffix(_suffix(path)))


def _job(path: Path, output: Path | None) -> Job:
    if output is None:
        return Job(path, path.with_name(f"{path.stem}.dehazed{_suffix(path)}"))
    return Job(path, output / f"{path.stem}{_suffix(path)}")


def _suffix(path: Path) -> str:
    """Suffix of the result: nobody writes camera raw, TIFF keeps its depth; old containers become MKV."""
    if path.suffix.lower() in RAW_SUFFIXES:
        return ".tif"
    return ".mkv" if is_video(path) and path.suffix.lower() not in VIDEO_TARGETS else path.suffix


def _check_video(job: Job, maps: bool) -> None:
    if not is_video(job.source):
        return
    if job.target.suffix.lower() not in VIDEO_TARGETS:
        raise ConfigError(f"cannot write video to {job.target}: expected one of {', '.join(sorted(VIDEO_TARGETS))}")
    if maps:
        raise ConfigError(f"{job.source} is a video, and maps are made of pictures only; dehaze it without")


def _check_target(target: Path, sources: set[Path], overwrite: bool) -> None:
    if target.resolve() in sources:
        raise ConfigError(f"{target} is an input; choose another output")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; choose another output")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; choose another output, or ask to overwrite it")
