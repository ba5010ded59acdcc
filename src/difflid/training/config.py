"""Configurations: dataclasses read from TOML, with overrides, where an unknown key is an error."""

import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from difflid.errors import ConfigError

__all__ = [
    "Amount",
    "Count",
    "LoopConfig",
    "Natural",
    "Part",
    "Range",
    "Share",
    "changes",
    "dump_config",
    "dumped_config",
    "may_change",
    "read_config",
]

Config = TypeVar("Config")


@dataclass(frozen=True)
class Range:
    """The values that a number in a file or an override may have, both ends among them."""

    least: float
    most: float = math.inf

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.most == math.inf else f"from {self.least:g} to {self.most:g}"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Amount = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Part = Annotated[float, Range(0.01, 1)]

# What a run that has begun may be told anew: how long, how fast, where, and how it is watched. Not which image has
# which number, what the model is, and what it is trained for.
CHANGEABLE = ("loop.*", "validation_*", "train_pairs.*.in_memory", "latent_cache")
KEPT = ("loop.batch", "loop.learn", "loop.seed")


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train; shared by the prior and the dehazing network."""

    run: str  # folder of the run: checkpoint, resolved configuration, stats.jsonl
    images: Count  # length of the training, in images
    batch: Count = 16  # images per step, of all processes together
    accumulate: Count = 1  # parts in which a process computes its share of a step, one after the other
    rate: Amount = 4e-4  # peak learning rate of AdamW
    rate_end: Share = 0.0  # learning rate at the end of the cosine, as a share of the peak
    warmup: Natural = 1_000  # images over which the rate rises to its peak
    weight_decay: Amount = 1e-2  # of AdamW
    clip: Amount = 1.0  # largest norm of the gradient
    ema: Amount = 0.03  # half-life of the weight average, as a share of the images seen so far
    learn: tuple[str, ...] = ()  # how the names of the weights begin that learn, the others rest; (): all learn
    seed: Natural = 0  # of weights, data order and noise
    device: str = "cpu"  # where torch computes: "cpu", "cuda", ...; of several, each process takes its own
    bfloat16: bool = True  # mixed precision, where the device computes it itself; elsewhere float32 all the same
    compile: bool = False  # torch.compile the network
    workers: Natural = 1  # processes that prepare batches; 0: in the training process
    checkpoint_every: Count = 4_000  # images between checkpoints
    validate_every: Count = 8_000  # images between validations
    tensorboard: bool = False  # also write scalars and validation pictures for TensorBoard


def read_config(kind: type[Config], path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file into the dataclass ``kind``; each override is ``key=value`` or ``table.key=value``.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown or missing, or a value has the wrong type or is
            out of its range.
    """
    try:
        tree = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    for override in overrides:
        _apply(tree, override)
    return _build(kind, tree, "")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"an override is key=value, got {override!r}")
    *tables, name = key.strip().split(".")
    for table in tables:
        tree = tree.setdefault(table, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{key!r}: {table!r} is a value, not a table")
    try:
        tree[name] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        tree[name] = text  # a bare word is a string


def _build(kind: type[Config], tree: Mapping[str, Any], where: str) -> Config:
    types = get_type_hints(kind, include_extras=True)
    unknown = [key for key in tree if key not in types]
    if unknown:
        closest = difflib.get_close_matches(unknown[0], types, n=1)
        hint = f"; did you mean {where}{closest[0]}?" if closest else f"; known: {', '.join(types)}"
        raise ConfigError(f"unknown key {where}{unknown[0]}{hint}")
    values = {key: _convert(types[key], value, f"{where}{key}") for key, value in tree.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"configuration {where or 'file'}: {error}") from error


def _convert(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is Annotated:
        kind, limits = get_args(kind)
        return _within(limits, _convert(kind, value, where), where)
    if isinstance(kind, UnionType):  # with None
        return None if value is None else _convert(get_args(kind)[0], value, where)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a table of settings, got {value!r}")
        return _build(kind, value, f"{where}.")  # type: ignore[arg-type]
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a table, got {value!r}")
        return {key: _convert(get_args(kind)[1], each, f"{where}.{key}") for key, each in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        return tuple(_convert(get_args(kind)[0], each, f"{where}[{index}]") for index, each in enumerate(value))
    if kind in (bool, float, int, str) and type(value) is not kind:
        raise ConfigError(f"{where} must be of type {kind.__name__}, got {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _within(limits: Range, value: float, where: str) -> float:
    if not limits.least <= value <= limits.most:
        raise ConfigError(f"{where} must be {limits}, got {value}")
    return value


def dump_config(config: Any) -> str:
    """Write a resolved configuration as JSON, for people and for the run folder."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def dumped_config(kind: type[Config], path: Path) -> Config:
    """Read what `dump_config` wrote; a key that it has not, from before there was such a key, has its default.

    Raises:
        ConfigError: the file is missing, damaged, or of another kind of configuration.
    """
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    return _build(kind, tree, "")


def changes(before: Any, after: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    """Name the keys that differ between two configurations of one kind, with both values."""
    ours, theirs = _tables(before), _tables(after)
    if ours is None or theirs is None or ours.keys() != theirs.keys():
        return {} if before == after else {where: (before, after)}
    inner = [changes(ours[key], theirs[key], f"{where}.{key}".lstrip(".")) for key in ours]
    return {key: values for each in inner for key, values in each.items()}


def _tables(value: Any) -> Mapping[str, Any] | None:
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return value if isinstance(value, Mapping) else None


def may_change(key: str) -> bool:
    """Tell whether a run that has begun may go on with another value of a key."""
    return key not in KEPT and any(fnmatchcase(key, pattern) for pattern in CHANGEABLE)
