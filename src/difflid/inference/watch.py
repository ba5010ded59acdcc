"""A folder that is watched: pictures are taken when they have arrived."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from difflid.errors import DataError
from difflid.inference.plan import Job, find_jobs, refusals, undone
from difflid.inference.settings import FileFailure
from difflid.places import Place

__all__ = ["watch_folder"]

INTERVAL = 1.0  # seconds between two looks

_State = tuple[int, int, bool]  # size, time of the last change, and whether it can have no result


def watch_folder(
    folder: Path,
    output: Place | None = None,
    *,
    maps: bool = False,
    recursive: bool = False,
    overwrite: bool = False,
    wait: Callable[[], None] = lambda: time.sleep(INTERVAL),
) -> Iterator[tuple[list[Job], list[FileFailure]]]:
    """Yield what has arrived in ``folder`` and has no result, and what can have none, again and again, without end.

    A picture has arrived when two looks found it of one size and one time of change. It is given once, and again when
    it has changed and ``overwrite`` is asked for. One whose result would be that of another is a failure.

    Args:
        folder: is looked at as by :func:`difflid.inference.plan_outputs`.
        output: see there.
        maps: see there.
        recursive: see there.
        overwrite: also give what has its result.
        wait: is called between two looks.

    Raises:
        ConfigError: see there.
    """
    before: dict[Job, _State] = {}
    told: dict[Job, _State] = {}
    taken: set[Job] = set()
    while True:
        jobs = sorted(_jobs(folder, output, recursive), key=lambda job: job not in taken)  # these come first
        refused = dict(refusals(jobs, maps=maps, overwrite=True))
        now = {job: _state(Path(str(job.source)), job in refused) for job in jobs}
        arrived = [job for job in jobs if now[job][0] and now[job] == before.get(job) and now[job] != told.get(job)]
        ready = [job for job in arrived if job not in refused]
        ready = ready if overwrite else undone(ready, maps=maps)
        failed = [job for job in arrived if job in refused]
        if ready or failed:
            told |= {job: now[job] for job in ready + failed}
            taken.update(ready)
            yield ready, [FileFailure(str(job.source), refused[job]) for job in failed]
        before = now
        wait()


def _jobs(folder: Path, output: Place | None, recursive: bool) -> list[Job]:
    try:
        return find_jobs([folder], output, recursive=recursive)
    except DataError:
        return []  # no picture yet


def _state(path: Path, refused: bool) -> _State:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, refused  # it has been taken away
    return found.st_size, found.st_mtime_ns, refused
