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
from difflid.evaluation.custom import CustomMetric
from difflid.evaluation.protocol import Protocol
from difflid.evaluation.results import Kind, MethodInfo, Results, Row, SetInfo

__all__ = ["Case", "EvaluationSet", "evaluate", "load_case", "open_set", "open_sets", "restored"]

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


@dataclass(frozen=True)
class Case:
    """One picture of a set and what it is compared with, both (1, 3, H, W) in [0, 1]."""

    test_set: EvaluationSet
    pair: Pair
    hazy: Tensor
    clear: Tensor


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
    custom_metrics: Sequence[CustomMetric] = (),
    progress: Callable[[Row], None] | None = None,
) -> Results:
    """Measure every method on every picture of every set, one picture at a time.

    A method that fails on one picture is left out of the results, which say why.

    Args:
        methods: the first one is what the others are compared with.
        sets: see `open_set`.
        protocol: how to measure.
        custom_metrics: measured besides, where the clear picture is known.
        progress: called with each row when it is known.

    Raises:
        ConfigError: nothing to do, two methods, sets or scores of one name, or a custom metric fails.
        DataError: a picture cannot be read, does not fit its partner, or is too small to measure.
        ModelError: every method fails, or gives a picture of another size.
    """
    _check_names("method", [method.name for method in methods])
    _check_names("data set", [test_set.name for test_set in sets])
    rows: list[Row] = []
    at_work, failures = list(methods), dict[str, str]()
    for case in (load_case(test_set, pair, protocol) for test_set in sets for pair in test_set.pairs):
        for method in tuple(at_work):
            try:
                row = _row(method, case, protocol, custom_metrics)
            except ModelError as error:
                at_work.remove(method)
                failures[method.name] = str(error)
                continue
            rows.append(row)
            if progress:
                progress(row)
        if not at_work:
            raise ModelError("; ".join(failures.values()))
    return Results(
        protocol,
        tuple(MethodInfo(method.name, dict(method.weights_sha256), method.device) for method in at_work),
        tuple(SetInfo(each.name, each.kind, len(each.pairs)) for each in sets),
        tuple(row for row in rows if row.method not in failures),
        _versions(),
        {metric.name: metric.source for metric in custom_metrics},
        failures,
    )


def load_case(test_set: EvaluationSet, pair: Pair, protocol: Protocol) -> Case:
    """Read a picture of a set and what it is compared with, as the protocol wants them."""
    if test_set.kind == "pairs":
        hazy, clear = load_pair(pair)
        return Case(test_set, pair, protocol.prepared(hazy), protocol.prepared(clear))
    photo = protocol.prepared(load_photo(pair.hazy))
    return Case(test_set, pair, photo, photo)


def restored(method: Method, hazy: Tensor, protocol: Protocol) -> Tensor:
    """Run a method on (1, 3, H, W) and finish its picture as the protocol says.

    Raises:
        ModelError: the method fails, or its result has another size or values that are no numbers.
    """
    try:
        result = method.restore(hazy).detach().to("cpu", torch.float32)
    except (MemoryError, RuntimeError) as error:  # torch's errors are RuntimeErrors, also those of a full GPU
        raise ModelError(f"{method.name} failed: {str(error) or 'out of memory'}") from error
    if result.shape != hazy.shape:
        raise ModelError(f"{method.name} gave {tuple(result.shape)} for a picture of {tuple(hazy.shape)}")
    if not result.isfinite().all():
        raise ModelError(f"{method.name} gave values that are no numbers (nan or inf)")
    return protocol.finished(result)


def _row(method: Method, case: Case, protocol: Protocol, custom_metrics: Sequence[CustomMetric]) -> Row:
    try:
        start = time.perf_counter()
        result = restored(method, case.hazy, protocol)
        seconds = time.perf_counter() - start
        scores = _scores(result, case, protocol, custom_metrics)
    except (ConfigError, DataError, ModelError) as error:
        raise type(error)(f"{case.pair.hazy}: {error}") from error
    height, width = case.hazy.shape[2:]
    return Row(method.name, case.test_set.name, case.pair.name, width, height, seconds, scores)


def _scores(result: Tensor, case: Case, protocol: Protocol, custom_metrics: Sequence[CustomMetric]) -> dict[str, float]:
    if case.test_set.kind == "hazy":
        return protocol.judge(result, case.hazy)
    scores = protocol.compare(result, case.clear)
    if case.test_set.kind == "pairs":
        scores["gain"] = scores["psnr"] - protocol.psnr(case.hazy, case.clear)
    for metric in custom_metrics:
        if metric.name in scores:
            raise ConfigError(f"there is a score {metric.name} already; give the function of {metric.source} another")
        scores[metric.name] = metric.measure(protocol.cropped(result), protocol.cropped(case.clear))
    return scores


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
    packages = {name: version(name) for name in ("difflid", "torch", "diffusers", "numpy", "pillow", "safetensors")}
    return packages | {"python": platform.python_version()}
