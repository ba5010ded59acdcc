"""``difflid live``: cameras, network streams and pipes, while they play."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from difflid.cli.model import load_dehazer
from difflid.cli.reports import line

if TYPE_CHECKING:
    from difflid.dehazer import Detail

__all__ = ["live"]


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("-o", "--output", required=True, metavar="FILE", help="A video file; -: the standard output.")
@click.option("--model", metavar="NAME_OR_FOLDER", help="A model at hand, or a model folder.")
@click.option("--strength", type=click.FloatRange(-1, 2), default=1.0, show_default=True, help="As of dehaze.")
@click.option("--detail", type=click.Choice(["auto", "exact", "fast"]), default="auto", help="As of dehaze.")
@click.option("--smoothing", type=click.FloatRange(min=0), default=0.5, metavar="SECONDS", help="As of dehaze.")
@click.option("--codec", help="As of dehaze.")
@click.option("--crf", type=click.IntRange(0, 63), help="As of dehaze.")
@click.option(
    "--drop/--no-drop",
    default=None,
    help="Drop the frames that come while another is computed.  [default: of cameras, RTSP, RTMP, RTP, SRT, UDP]",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up when nothing has come for so long.",
)
@click.option("--input-format", metavar="NAME", help="Of FFmpeg: container or device of SOURCE.  [default: found out]")
@click.option("--input-option", "options", multiple=True, metavar="KEY=VALUE", help="Of FFmpeg, such as framerate=15.")
@click.option(
    "--stream-as",
    type=click.Choice(["matroska", "mpegts"]),
    default="matroska",
    show_default=True,
    help="Container on the standard output.",
)
@click.option("--overwrite", is_flag=True, help="Replace a result that exists.")
@click.option("--device", help="As of dehaze.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Processor threads to use.")
def live(
    source: str,
    output: str,
    model: str | None,
    strength: float,
    detail: "Detail",
    smoothing: float,
    codec: str | None,
    crf: int | None,
    drop: bool | None,
    patience: float,
    input_format: str | None,
    options: tuple[str, ...],
    stream_as: str,
    overwrite: bool,
    device: str | None,
    threads: int | None,
) -> None:
    """Remove the haze from what plays: a camera, an address, a pipe; until it ends, or Ctrl-C.

    SOURCE is a camera such as /dev/video0, an address (rtsp, http, udp, tcp, ...), or - for the standard input.
    """
    from difflid.inference import Settings
    from difflid.inference.live import Source, dehaze_live

    if any("=" not in option for option in options):
        raise click.UsageError("--input-option is KEY=VALUE")
    target = stream_as if output == "-" else Path(output)
    if isinstance(target, Path) and target.exists() and not overwrite:
        raise click.UsageError(f"{target} exists; choose another output, or ask to overwrite it")
    plays = Source(source, input_format, dict(option.split("=", 1) for option in options), drop)
    settings = Settings(strength=strength, detail=detail, smoothing=smoothing, codec=codec, crf=crf)
    dehazer = load_dehazer(model, device, threads)
    with _stopped_by_signals() as stop, _counter() as count:
        report = dehaze_live(dehazer, plays, target, settings, stop=stop, patience=patience, progress=count)
    click.echo(line(report), err=output == "-")


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Let Ctrl-C, or a request to end, complete the file; the second time they end at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, frame: Any) -> None:  # noqa: ARG001
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _counter() -> Iterator[Any]:
    """Count the frames on a terminal."""
    from tqdm import tqdm

    with tqdm(unit=" frames", disable=None, leave=False, file=sys.stderr) as bar:

        def count(done: int, dropped: int) -> None:
            bar.update(done - bar.n)
            bar.set_postfix(dropped=dropped)

        yield count
