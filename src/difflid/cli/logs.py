"""Showing the library's log to a person."""

import logging


def show_log() -> None:
    """Write what difflid logs to standard error, a line per event."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("difflid")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
