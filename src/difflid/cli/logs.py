"""What a person sees of a verb that runs for long."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


def show_log() -> None:
    """Write what difflid logs to standard error, a line per event."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("difflid")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


@contextmanager
def progress_bar(images: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many of the images were seen, how fast and how long still; log lines go above it."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    hidden = None if _is_first() else True  # None: hidden unless it is a terminal
    bar = None

    def seen(so_far: int) -> None:
        nonlocal bar
        if bar is None:  # loading data has no part in the rate
            bar = tqdm(total=images, initial=so_far, unit="img", disable=hidden)
        bar.update(so_far - bar.n)

    with logging_redirect_tqdm([logging.getLogger("difflid")]):
        yield seen
        if bar is not None:
            bar.close()


def say_once(text: str) -> None:
    """Print a line, in the first process alone where ``torchrun`` or ``accelerate launch`` started several."""
    if _is_first():
        click.echo(text)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"
