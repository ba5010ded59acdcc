"""What is said of pictures and videos on their way: a line each, bars on a terminal, and a summary."""

import time
from typing import TYPE_CHECKING, Any, Self, TextIO

import click

from difflid.errors import DifflidError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from difflid.inference import FileFailure, FileReport

__all__ = ["Reports", "line"]

_HAZE = ((0.15, "light haze"), (0.4, "haze"), (1.0, "dense haze"))  # haze score up to which a word holds
_BAR = "{n_fmt}/{total_fmt} {unit} |{bar:30}| {remaining} left"


class Reports:
    """Say one line per picture or video and, of several, a summary that lists what failed.

    Lines go to the standard output, all else to the standard error; the bar to ``file``, if that is a terminal. The
    ``count`` is None where nobody knows how many there will be.
    """

    def __init__(self, count: int | None, *, skipped: int = 0, file: TextIO | None = None) -> None:
        self.failed: list[str] = []
        self._count, self._skipped = count, skipped
        self._done, self._file = 0, file

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        self._bar = self._show_bar("pictures", self._count, hidden=self._count is None or self._count < 2)
        self._frames = self._show_bar("frames", None, hidden=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self._frames.close()
        self._bar.close()
        if self._count != 1 or self._skipped:
            self._summarise()

    def _show_bar(self, unit: str, total: int | None, *, hidden: bool = False) -> Any:
        from tqdm import tqdm

        disable = hidden or None  # None: where there is no terminal
        return tqdm(total=total, unit=unit, disable=disable, leave=False, file=self._file, bar_format=_BAR)

    def count_frames(self, done: int, expected: int | None) -> None:
        """Show how far a video is."""
        if done == 1:
            self._frames = self._show_bar("frames", expected)
        self._frames.update()

    def tell(self, results: "Iterable[FileReport | FileFailure]") -> None:
        """Say what became of each, as soon as it is known."""
        from difflid.inference import FileFailure

        for result in results:
            self._frames.close()
            if isinstance(result, FileFailure):
                self.failed.append(_reason(result))
                self._say(f"difflid: error: {self.failed[-1]}", err=True)
            else:
                self._done += 1
                self._say(line(result))
            self._bar.update()

    def _say(self, text: str, *, err: bool = False) -> None:
        with self._bar.external_write_mode():
            click.echo(text, err=err)

    def _summarise(self) -> None:
        counts = {"dehazed": self._done, "skipped": self._skipped, "failed": len(self.failed)}
        said = ", ".join(f"{count} {word}" for word, count in counts.items() if count or word == "dehazed")
        click.echo(f"difflid: {said} in {time.perf_counter() - self._start:.1f} s", err=True)
        for reason in self.failed:
            click.echo(f"  failed: {reason}", err=True)


def line(report: "FileReport") -> str:
    """Say what was done with a picture or video."""
    width, height = report.size
    length, pace = "", ""
    if report.frames > 1:
        length, pace = f"  {report.frames} frames", f" ({report.seconds / report.frames:.2f} s per frame)"
    damage = f"  {report.damaged} damaged parts left out" if report.damaged else ""
    damage += f"  {report.dropped} frames dropped" if report.dropped else ""
    return f"{report.name}  {width}x{height}{length}  {_haze(report)}  {report.seconds:.1f} s{pace}{damage}"


def _haze(report: "FileReport") -> str:
    from difflid.dehazer import NO_HAZE

    score = report.haze_score
    if score >= NO_HAZE:
        return f"{next(word for limit, word in _HAZE if score <= limit)} ({score:.2f})"
    left = ", left as it is" if report.left_alone else ""
    return f"no haze found{left} ({score:.3f})"


def _reason(failure: "FileFailure") -> str:
    """One line that names the picture."""
    reason = " ".join(str(failure.error).split())
    if not isinstance(failure.error, DifflidError):  # such as a MemoryError
        reason = f"{type(failure.error).__name__}: {reason}".removesuffix(": ")
    return reason if failure.name in reason else f"{failure.name}: {reason}"
