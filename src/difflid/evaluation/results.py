"""What an evaluation found: one row per method and picture, means, differences with their intervals, and files."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from difflid.errors import DataError
from difflid.evaluation.protocol import Protocol
from difflid.files import whole

__all__ = [
    "Difference",
    "Kind",
    "MethodInfo",
    "Results",
    "Row",
    "SetInfo",
    "Summary",
    "described",
    "heading",
    "shown",
    "write_text",
]

Kind = Literal["pairs", "clear", "hazy"]
DIGITS = {"psnr": 2, "ssim": 4, "ms_ssim": 4, "ciede2000": 2, "gain": 2, "lpips": 4}  # shown; others 3
RESAMPLES, AT_ONCE, BOOTSTRAP_SEED = 10_000, 100, 0


@dataclass(frozen=True)
class MethodInfo:
    """What was evaluated."""

    name: str
    weights_sha256: Mapping[str, str]  # file in the model's folder -> digest; empty for a method without weights
    device: str


@dataclass(frozen=True)
class SetInfo:
    """On what it was evaluated."""

    name: str
    kind: Kind
    pictures: int


@dataclass(frozen=True)
class Row:
    """One method on one picture."""

    method: str
    set: str
    picture: str
    width: int
    height: int
    seconds: float
    scores: dict[str, float]  # gain is the PSNR over that of the hazy input, in dB


@dataclass(frozen=True)
class Summary:
    """One method on one set: the mean of each score over the pictures that have it."""

    method: str
    set: str
    pictures: int
    seconds_per_megapixel: float
    scores: dict[str, float]
    counts: dict[str, int]  # pictures that have each score

    def heading(self, score: str) -> str:
        """Name a mean for a reader, with the number of its pictures where not all have the score."""
        count = self.counts[score]
        return heading(score) if count == self.pictures else f"{heading(score)} ({count} of {self.pictures})"


@dataclass(frozen=True)
class Difference:
    """PSNR of a method less that of the first method on the same pictures, in dB, with its 95 % interval."""

    method: str
    against: str
    set: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """All that was found, and under which conditions."""

    protocol: Protocol
    methods: tuple[MethodInfo, ...]
    sets: tuple[SetInfo, ...]
    rows: tuple[Row, ...]
    versions: dict[str, str]
    custom_metrics: Mapping[str, str] = field(default_factory=dict)  # name -> MODULE:FUNCTION
    failures: Mapping[str, str] = field(default_factory=dict)  # method that was left out -> on which file, and why

    def of(self, method: str, set_name: str) -> list[Row]:
        """Give the rows of one method on one set, sorted by picture."""
        chosen = [row for row in self.rows if (row.method, row.set) == (method, set_name)]
        return sorted(chosen, key=lambda row: row.picture)

    def scores_of(self, set_name: str) -> list[str]:
        """Name the scores of a set; whether a picture has one does not depend on the method."""
        return list(dict.fromkeys(name for row in self.rows if row.set == set_name for name in row.scores))

    def summary(self, method: str, set_name: str) -> Summary:
        """Average one method over one set."""
        rows = self.of(method, set_name)
        values = {name: [row.scores[name] for row in rows if name in row.scores] for name in self.scores_of(set_name)}
        pixels = sum(row.width * row.height for row in rows)
        return Summary(
            method,
            set_name,
            len(rows),
            math.fsum(row.seconds for row in rows) / pixels * 1e6,
            {name: _mean(each) for name, each in values.items()},
            {name: len(each) for name, each in values.items()},
        )

    def summaries(self) -> list[Summary]:
        """Average every method over every set."""
        return [self.summary(method.name, each.name) for each in self.sets for method in self.methods]

    @cached_property
    def differences(self) -> list[Difference]:
        """Compare each further method with the first one on each set that has clear pictures."""
        return [
            self._difference(method.name, each.name)
            for each in self.sets
            if each.kind != "hazy"
            for method in self.methods[1:]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Give everything in the form of the JSON file."""
        return {
            "protocol": self.protocol.described(),
            "versions": self.versions,
            "custom_metrics": dict(self.custom_metrics),
            "methods": [asdict(method) for method in self.methods],
            "failures": dict(self.failures),
            "sets": [asdict(each) for each in self.sets],
            "summary": [asdict(summary) for summary in self.summaries()],
            "psnr_differences": [asdict(difference) for difference in self.differences],
            "rows": [asdict(row) for row in self.rows],
        }

    def to_csv(self) -> str:
        """Give the rows as CSV; a score that a picture does not have stays empty."""
        text = io.StringIO()
        fields = [each.name for each in dataclass_fields(Row) if each.name != "scores"]
        scores = dict.fromkeys(name for row in self.rows for name in row.scores)
        writer = csv.DictWriter(text, [*fields, *scores], restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            flat = asdict(row)
            writer.writerow(flat | flat.pop("scores"))
        return text.getvalue()

    def table(self) -> str:
        """Give the means as plain text: one block per set, one line per method."""
        return "\n\n".join(self._block(each) for each in self.sets)

    def save(self, folder: Path) -> None:
        """Write results.json and results.csv.

        Raises:
            DataError: a file cannot be written.
        """
        write_text(folder / "results.json", json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        write_text(folder / "results.csv", self.to_csv())

    def _difference(self, method: str, set_name: str) -> Difference:
        against = self.methods[0].name
        pairs = zip(self.of(method, set_name), self.of(against, set_name), strict=True)
        values = [row.scores["psnr"] - first.scores["psnr"] for row, first in pairs]
        return Difference(method, against, set_name, _mean(values), *_interval(values))

    def _block(self, info: SetInfo) -> str:
        summaries = [self.summary(method.name, info.name) for method in self.methods]
        names = list(summaries[0].scores)
        lines = [[f"{info.name} ({info.kind}, {info.pictures})", *map(summaries[0].heading, names), "s/MP"]]
        lines += [
            [each.method, *(shown(name, each.scores[name]) for name in names), f"{each.seconds_per_megapixel:.2f}"]
            for each in summaries
        ]
        return "\n".join([_aligned(lines), *(described(each) for each in self.differences if each.set == info.name)])


def heading(score: str) -> str:
    """Name a score for a reader."""
    names = {
        "psnr": "PSNR",
        "ssim": "SSIM",
        "ms_ssim": "MS-SSIM",
        "ciede2000": "CIEDE2000",
        "gain": "gain/dB",
        "lpips": "LPIPS",
        "dark_channel": "dark channel",
        "fog_density": "fog density",
    }
    return names.get(score, score)


def shown(score: str, value: float) -> str:
    """Write a score with the digits that mean something."""
    return f"{value:.{DIGITS.get(score, 3)}f}"


def described(difference: Difference) -> str:
    """Write a difference as a line for a reader."""
    interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    return f"  {difference.method} - {difference.against}: {difference.mean:+.2f} dB PSNR, 95 % {interval}"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        DataError: the disk is full, or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            part.write_text(text, encoding="utf-8", errors="surrogateescape")  # of names that are not UTF-8
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)  # exact sum: the order of the pictures does not matter


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Give the 95 % interval of the mean by the percentile bootstrap over pictures (Efron 1979)."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    array, size = np.asarray(values), len(values)
    means = [array[generator.integers(0, size, (AT_ONCE, size))].mean(axis=1) for _ in range(RESAMPLES // AT_ONCE)]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )
