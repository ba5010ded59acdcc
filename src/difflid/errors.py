"""Everything difflid raises on purpose. Each message says what was expected, what came and what to do."""

from collections.abc import Sequence

__all__ = [
    "SHOWN",
    "ConfigError",
    "DataError",
    "DifflidError",
    "ImageError",
    "MissingExtra",
    "ModelError",
    "TrainingError",
    "VideoError",
    "listed",
]

SHOWN = 5  # names, or other errors, in one


class DifflidError(Exception):
    """Base of all errors raised by difflid."""


class ImageError(DifflidError):
    """A picture cannot be read, decoded or written."""


class VideoError(DifflidError):
    """A video cannot be read, dehazed or written."""


class ModelError(DifflidError):
    """A model or prior folder is missing, damaged, or does not fit what it is combined with."""


class ConfigError(DifflidError):
    """A configuration has an unknown key or an illegal value."""


class DataError(DifflidError):
    """A data set is missing, empty, or its files do not match each other."""


class TrainingError(DifflidError):
    """A training cannot go on: its loss is no number, or its run folder cannot be written."""


class MissingExtra(DifflidError):
    """An optional dependency is needed; the message says how to install it, mostly by the exact line."""

    def __init__(self, feature: str, extra: str, *, install: str = "") -> None:
        how = install or f"pip install 'difflid[{extra}]'"
        super().__init__(f"{feature} needs an optional dependency: {how}")


def listed(names: Sequence[str]) -> str:
    """Name the first few for an error, and say how many there are."""
    return f"{', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''} ({len(names)} in all)"
