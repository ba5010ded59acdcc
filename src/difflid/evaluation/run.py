"""Run methods over data sets and measure what comes out."""

import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from difflid.data.pairs import DATA_SETS, Pair, find_pairs, load_pair, load_photo, read_pairs
from difflid.data.photos import photo_files
from difflid.errors import ConfigError, DataError, ModelError
from difflid.evaluation.baselines import Method
from difflid.evaluation.protocol import Protocol
from difflid.evaluation.results import Kind, MethodInfo, Results, Row, SetInfo

__all__ = ["EvaluationSet", "evaluate", "load_case", "open_set", "open_sets", "restored"]

PHOTO_KINDS: dict[str, Kind] = {"clear": "clear", "hazy": "hazy"}


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures to evaluate on.

    ``pairs``: hazy pictures and their clear ones. ``clear``: photographs without haze, each its own clear one: how much
    does a method change what it should leave alone? ``hazy``: nobody knows the clear picture.
    """

    name: str
    kind: Kind
    pairs: tuple[Pair, ...]  # of ``clear`` and ``hazy``: both sides are the same file


def open_set(spec: str, limit: int | None = None) -> EvaluationSet:
    """Open ``[RULE:]FOLDER_OR_TSV``; RULE is one of `DATA_SETS`, ``clear`` or ``hazy``, and ``folder`` if not given.

    Args:
        spec: what to open.
        limit: only so many pictures, the first by name.

    Raises:
        DataError: files are missing or do not match.
    """
    rule, colon, rest = spec.partition(":")
    known = bool(colon) and (rule in DATA_SETS or rule in PHOTO_KINDS)
    rule, path = (rule, Path(rest)) if known else ("folder", Path(spec))
    if not path.exists():
        raise DataError(f"no such folder or TSV file: {path} (rules: {', '.join([*DATA_SETS, *PHOTO_KINDS])})")
    named = rule if rule in DATA_SETS and rule != "folder" else path.resolve().stem
    return EvaluationSet(named, PHOTO_KINDS.get(rule, "pairs"), tuple(_open(rule, path)[:limit]))


def open_sets(specs: Sequence[str], limit: int | None = None) -> list[EvaluationSet]:
    """Open several sets; those of one name are called by their whole specification."""
    sets = [open_set(spec, limit) for spec in specs]
    count = Counter(each.name for each in sets)
    return [replace(each, name=spec) if count[each.name] > 1 else each for each, spec in zip(sets, specs, strict=True)]


def evaluate(
    methods: Sequence[Method],
    sets: Sequence[EvaluationSet],
    protocol: Protocol,
    *,
    progress: Callable[[Row], None] | None = None,
) -> Results:
    """Measure every method on every picture of every set, one picture at a time.

    Args:
        methods: the first one is what the others are compared with.
        sets: see `open_set`.
        protocol: how to measure.
        progress: called with each row when it is known.

    Raises:
        ConfigError: nothing to do, or two methods or sets of one name.
        DataError: a picture cannot be read, does not fit its partner, or is too small to measure.
        ModelError: a method fails, or gives a picture of another size.
    """
    _check_names("method", [method.name for method in methods])
    _check_names("data set", [test_set.name for test_set in sets])
    rows = []
    for test_set in sets:
        for pair in test_set.pairs:
            hazy, clear = load_case(test_set, pair)
            for method in methods:
                rows.append(_row(method, test_set, pair, hazy, clear, protocol))
                if progress:
                    progress(rows[-1])
    return Results(
        protocol,
        tuple(MethodInfo(method.name, dict(method.weights_sha256)) for method in methods),
        tuple(SetInfo(each.name, each.kind, len(each.pairs)) for each in sets),
        tuple(rows),
        _versions(),
    )


def load_case(test_set: EvaluationSet, pair: Pair) -> tuple[Tensor, Tensor]:
    """Read the hazy picture and what it is compared with, both (1, 3, H, W)."""
    if test_set.kind == "pairs":
        return load_pair(pair)
    photo = load_photo(pair.hazy)
    return photo, photo


def restored(method: Method, hazy: Tensor, protocol: Protocol) -> Tensor:
    """Run a method on (1, 3, H, W) and finish its picture as the protocol says.

    Raises:
        ModelError: the result has another size, or values that are no numbers.
    """
    result = method.restore(hazy).detach().to("cpu", torch.float32)
    if result.shape != hazy.shape:
        raise ModelError(f"{method.name} gave {tuple(result.shape)} for a picture of {tuple(hazy.shape)}")
    if not result.isfinite().all():
        raise ModelError(f"{method.name} gave values that are no numbers (nan or inf)")
    return protocol.finished(result)


def _row(method: Method, test_set: EvaluationSet, pair: Pair, hazy: Tensor, clear: Tensor, protocol: Protocol) -> Row:
    start = time.perf_counter()
    try:
        result = restored(method, hazy, protocol)
    except ModelError as error:
        raise ModelError(f"{pair.hazy}: {error}") from error
    seconds = time.perf_counter() - start
    try:
        scores = _scores(test_set.kind, result, hazy, clear, protocol)
    except DataError as error:
        raise DataError(f"{pair.hazy}: {error}") from error
    return Row(method.name, test_set.name, pair.name, hazy.shape[3], hazy.shape[2], seconds, scores)


def _scores(kind: Kind, result: Tensor, hazy: Tensor, clear: Tensor, protocol: Protocol) -> dict[str, float]:
    if kind == "hazy":
        return protocol.judge(result, hazy)
    scores = protocol.compare(result, clear)
    return scores | {"gain": scores["psnr"] - protocol.psnr(hazy, clear)} if kind == "pairs" else scores


def _open(rule: str, path: Path) -> list[Pair]:
    if rule in PHOTO_KINDS:
        return [Pair(file.name, file, file) for file in photo_files(path)]
    if path.is_dir():
        return find_pairs(path, DATA_SETS[rule])
    return [replace(pair, crop=DATA_SETS[rule].crop) for pair in read_pairs(path)]


def _check_names(what: str, names: Sequence[str]) -> None:
    if not names:
        raise ConfigError(f"expected at least one {what}, got none")
    if len(set(names)) < len(names):
        raise ConfigError(f"each {what} needs a name of its own, got {', '.join(names)}")


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("difflid", "torch", "numpy")}
    return packages | {"python": platform.python_version()}
