"""A folder that is watched: pictures are taken when they have arrived."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from difflid.errors import DataError
from difflid.inference.plan import Job, plan_outputs, undone
from difflid.places import Place

__all__ = ["watch_folder"]

INTERVAL = 1.0  # seconds between two looks

_State = tuple[int, int]  # size and time of the last change


def watch_folder(
    folder: Path,
    output: Place | None = None,
    *,
    maps: bool = False,
    recursive: bool = False,
    overwrite: bool = False,
    wait: Callable[[], None] = lambda: time.sleep(INTERVAL),
) -> Iterator[list[Job]]:
    """Yield what has arrived in ``folder`` and has no result, again and again, without end.

    A picture has arrived when two looks found it of one size and one time of change. It is given once, and again when
    it has changed and ``overwrite`` is asked for.

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
    given: dict[Job, _State] = {}
    while True:
        now = {job: _state(Path(str(job.source))) for job in _jobs(folder, output, maps=maps, recursive=recursive)}
        arrived = {job: state for job, state in now.items() if state[0] and state == before.get(job)}
        due = [*arrived] if overwrite else undone([*arrived], maps=maps)
        if ready := [job for job in due if given.get(job) != arrived[job]]:
            given |= {job: arrived[job] for job in ready}
            yield ready
        before = now
        wait()


def _jobs(folder: Path, output: Place | None, *, maps: bool, recursive: bool) -> list[Job]:
    try:
        return plan_outputs([folder], output, maps=maps, recursive=recursive, overwrite=True)
    except DataError:
        return []  # no picture yet


def _state(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError:
        return 0, 0  # it has been taken away
    return found.st_size, found.st_mtime_ns
