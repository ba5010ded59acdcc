"""Which pictures are meant, and where every result goes: decided before any work is done."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path, PurePath

from difflid.data.photos import photo_files
from difflid.dehazer import MAPS
from difflid.errors import ConfigError, DataError
from difflid.image import RAW_SUFFIXES, SUFFIXES, WRITABLE_SUFFIXES
from difflid.places import Place, Remote, place

__all__ = ["Job", "find_jobs", "is_video", "map_paths", "plan_outputs", "refusals", "undone"]

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

    source: Place
    target: Place


def plan_outputs(
    inputs: Sequence[str | Place],
    output: str | Place | None = None,
    *,
    maps: bool = False,
    recursive: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """Decide where every result goes.

    Args:
        inputs: pictures, videos, folders, and patterns such as ``trip/**/*.jpg``, here or at a URL. A folder stands for
            the pictures in it, sorted by name, hidden ones aside; a picture that is meant twice is dehazed once.
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
    jobs = find_jobs(inputs, output, recursive=recursive)
    for _, error in refusals(jobs, maps=maps, overwrite=overwrite):
        raise error
    return jobs


def find_jobs(
    inputs: Sequence[str | Place], output: str | Place | None = None, *, recursive: bool = False
) -> list[Job]:
    """Say where every result would go, whatever is there; see :func:`plan_outputs`."""
    where = None if output is None else place(output)
    return _jobs([path for given in inputs for path in _matches(place(given))], where, recursive)


def refusals(
    jobs: Collection[Job], *, maps: bool = False, overwrite: bool = False
) -> Iterator[tuple[Job, ConfigError | OSError]]:
    """Name the jobs that cannot be done, and why; where two would have one result, the second."""
    sources = {job.source.resolve() for job in jobs}
    there = set() if overwrite else _existing(target for job in jobs for target in _targets(job, maps))
    planned: dict[Place, Place] = {}
    for job in jobs:
        try:
            _check_video(job, maps)
            for target in _targets(job, maps):
                _check_target(target, sources, there)
                _check_other(planned.setdefault(target.resolve(), job.source), job.source, target)
        except (ConfigError, OSError) as error:
            yield job, error


def undone(jobs: Sequence[Job], *, maps: bool = False) -> list[Job]:
    """Leave out the jobs of which everything that they would write exists."""
    there = _existing(target for job in jobs for target in _targets(job, maps))
    return [job for job in jobs if not there.issuperset(_targets(job, maps))]


def _existing(targets: Iterable[Place]) -> set[Place]:
    """Tell which files exist; at a URL, by listing each folder once."""
    wanted = [*targets]
    found: set[Place] = {target for target in wanted if isinstance(target, Path) and target.exists()}
    for folder in {target.parent for target in wanted if isinstance(target, Remote) and target.writable}:
        with suppress(FileNotFoundError):  # some stores have no folder, or no bucket, before its first file
            found.update(folder.files())
    return found


def is_video(path: Place) -> bool:
    """Tell by its suffix whether a file is a video."""
    return path.suffix.lower() in VIDEO_SOURCES


def map_paths(target: Place) -> list[Place]:
    """Name the files of the maps beside the result ``target``."""
    return [target.with_name(f"{target.stem}.{name}.png") for name in MAPS]


def _targets(job: Job, maps: bool) -> list[Place]:
    return [job.target, *(map_paths(job.target) if maps else [])]


def _matches(given: Place) -> list[Place]:
    """Expand a pattern that the shell left as it is; a file may have the name of a pattern."""
    if not (given.has_magic if isinstance(given, Remote) else has_magic(str(given))) or given.exists():
        return [given]
    found = given.matches() if isinstance(given, Remote) else _matching(str(given))
    if not found:
        raise DataError(f"nothing matches {given}")
    return [*found]


def _matching(pattern: str) -> list[Path]:
    return sorted(Path(name) for name in glob(pattern, recursive=True))  # noqa: PTH207 (may be absolute)


def _jobs(inputs: Sequence[Place], output: Place | None, recursive: bool) -> list[Job]:
    if output is not None and _is_file_name(output) and _is_one_file(inputs):
        _check_suffix(inputs[0], output)
        return [Job(inputs[0], output)]
    if output is not None and not output.is_dir() and (_is_of_one(output) or output.exists()):
        raise ConfigError(f"{output} names one file; the results of several pictures need a folder")
    jobs: dict[tuple[Place, Place], Job] = {}  # one picture may be spelt in several ways
    for path in inputs:
        for job in _folder_jobs(path, output, recursive) if path.is_dir() else [_job(path, output)]:
            jobs.setdefault((job.source.resolve(), job.target.resolve()), job)
    return [*jobs.values()]


def _is_one_file(inputs: Sequence[Place]) -> bool:
    return len({path.resolve() for path in inputs}) == 1 and not inputs[0].is_dir()


def _check_suffix(source: Place, output: Place) -> None:
    if not is_video(source) and output.suffix.lower() not in WRITABLE_SUFFIXES:
        expected = ", ".join(sorted(WRITABLE_SUFFIXES))
        raise ConfigError(f"cannot write a picture to {output}: expected one of {expected}, or a folder that exists")


def _is_file_name(output: Place) -> bool:
    return bool(output.suffix) and not output.is_dir()


def _is_of_one(output: Place) -> bool:
    return is_video(output) or output.suffix.lower() in SUFFIXES


def _folder_jobs(folder: Place, output: Place | None, recursive: bool) -> Iterator[Job]:
    full = folder.resolve()  # "." has no name
    if output is None and not full.name:
        raise ConfigError(f"{folder} has no name to call the folder of its results after; choose an output")
    target = full.with_name(f"{full.name}-dehazed") if output is None else output
    results = None if target.resolve() == full else target.resolve()  # earlier results in the folder are no inputs
    for path, name in _pictures(folder, recursive):
        if not _is_in(path.resolve(), results):
            yield Job(path, (target / name).with_suffix(_suffix(path)))


def _pictures(folder: Place, recursive: bool) -> Iterator[tuple[Place, PurePath]]:
    """Say of each picture in a folder its name within the folder."""
    if isinstance(folder, Path):
        for file in photo_files(folder, recursive=recursive, suffixes=SUFFIXES):
            yield file, file.relative_to(folder)
        return
    found = [(file, file.relative_to(folder)) for file in folder.files(recursive=recursive)]
    seen = [(file, name) for file, name in found if not any(part.startswith(".") for part in name.parts)]
    pictures = [(file, name) for file, name in seen if file.suffix.lower() in SUFFIXES]
    if not pictures:
        raise DataError(f"no picture in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    yield from pictures


def _is_in(path: Place, folder: Place | None) -> bool:
    if isinstance(path, Remote):
        return isinstance(folder, Remote) and path.is_relative_to(folder)
    return isinstance(folder, Path) and path.is_relative_to(folder)


def _job(path: Place, output: Place | None) -> Job:
    if output is None:
        return Job(path, path.with_name(f"{path.stem}.dehazed{_suffix(path)}"))
    return Job(path, output / f"{path.stem}{_suffix(path)}")


def _suffix(path: Place) -> str:
    """Suffix of the result: nobody writes camera raw, TIFF keeps its depth; old containers become MKV."""
    if path.suffix.lower() in RAW_SUFFIXES:
        return ".tif"
    return ".mkv" if is_video(path) and path.suffix.lower() not in VIDEO_TARGETS else path.suffix


def _check_video(job: Job, maps: bool) -> None:
    if not is_video(job.source):
        return
    if isinstance(job.source, Remote) or isinstance(job.target, Remote):
        raise ConfigError(f"{job.source} is a video, and these are read and written on this machine only; copy it here")
    if job.target.suffix.lower() not in VIDEO_TARGETS:
        raise ConfigError(f"cannot write video to {job.target}: expected one of {', '.join(sorted(VIDEO_TARGETS))}")
    if maps:
        raise ConfigError(f"{job.source} is a video, and maps are made of pictures only; dehaze it without")


def _check_target(target: Place, sources: set[Place], there: set[Place]) -> None:
    if isinstance(target, Remote) and not target.writable:
        raise ConfigError(f"cannot write to {target}; choose an output elsewhere")
    if target.resolve() in sources:
        raise ConfigError(f"{target} is an input; choose another output")
    if isinstance(target, Path) and target.is_dir():
        raise ConfigError(f"{target} is a folder; choose another output")
    if target in there:
        raise ConfigError(f"{target} exists; choose another output, or ask to overwrite it")


def _check_other(first: Place, source: Place, target: Place) -> None:
    if first != source:
        raise ConfigError(f"{first} and {source} would both be written to {target}; dehaze them apart")
