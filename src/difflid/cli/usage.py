"""Which errors are of the command line (exit code 2) and which of what it was asked to do (1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from difflid.errors import ConfigError, DataError

__all__ = ["claim", "value_of"]


@contextmanager
def value_of(option: str) -> Iterator[None]:
    """Say of a value that is refused which option it was given to, as click does."""
    try:
        yield
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint=f"'{option}'") from error


def claim(folder: Path, *results: str) -> None:
    """Make the folder of a report before the work is done that goes into it.

    Raises:
        DataError: it cannot be made, or holds one of the ``results``.
    """
    if any((folder / name).exists() for name in results):
        raise DataError(f"{folder} already holds a report; name another folder or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder}: {error.strerror or error}") from error
