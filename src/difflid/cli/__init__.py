"""The command line: verbs, each in a module of its own that is imported when it is called.

The modules import only click; whatever a verb needs, it imports when it runs. So ``difflid --help`` is immediate.
"""

import logging
import os
import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from difflid.errors import DifflidError

__all__ = ["main"]

_VERBS = {
    "dehaze": "Remove the haze from pictures.",
    "live": "Remove the haze from a camera, a network stream or a pipe.",
    "train": "Train a dehazing network on pairs of hazy and clear pictures.",
    "prior": "Train, convert, import and show priors.",
    "evaluate": "Measure models on pairs of hazy and clear pictures.",
    "study": "Find out what the latents of a prior tell.",
    "data": "Prepare data sets for training.",
    "synthesize": "Make hazy pictures from clear ones.",
    "info": "Show versions, devices and the models at hand.",
}


class _Failure(click.ClickException):
    """An error of difflid, in one line."""

    def show(self, file: Any = None) -> None:
        click.echo(f"difflid: error: {self.format_message()}", err=True, file=file)


class _Verbs(click.Group):
    """A group whose commands are modules of this package, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        command: click.Command = getattr(import_module(f"difflid.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Turn what stops a verb on purpose into one line and an exit code."""
        warnings.filterwarnings("ignore", module="PIL")  # what matters of a damaged file comes as an ImageError
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # as above
        _yield_processors()
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="surrogateescape")  # names of files are bytes, which need not be UTF-8
        try:
            return super().invoke(ctx)
        except DifflidError as error:
            raise _Failure(str(error)) from error
        except OSError as error:  # of the standard output, say: it is full, or nobody reads it
            raise _Failure(f"cannot read or write: {error}") from error
        except KeyboardInterrupt:
            ctx.exit(130)


def _yield_processors() -> None:
    """Have torch's threads sleep soon when they wait for each other, before torch is imported.

    libgomp spins 300,000 times, some milliseconds, if nothing is said. Where another program, a film's codec or the
    writer of a picture wants the processors too, all then wait for a thread that cannot run.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="difflid")
def main() -> None:
    """Remove haze, fog and smoke veil from photographs."""
