"""What a person sees of a verb that runs for long."""

import logging
import os

import click


def show_log() -> None:
    """Write what difflid logs to standard error, a line per event."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("difflid")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def say_once(text: str) -> None:
    """Print a line, in the first process alone where ``torchrun`` or ``accelerate launch`` started several."""
    if os.environ.get("RANK", "0") == "0":
        click.echo(text)
