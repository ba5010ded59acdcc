"""``difflid dehaze``: pictures in, pictures out."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

if TYPE_CHECKING:
    from difflid.dehazer import Dehazer
    from difflid.inference import FileFailure, FileReport

__all__ = ["dehaze"]

_STREAM = Path("-")
_HAZE = ((0.15, "light haze"), (0.4, "haze"), (1.0, "dense haze"))  # haze score up to which a word holds


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A file for one picture, else a folder. Without it: STEM.dehazed.SUFFIX beside the picture, FOLDER-dehazed.",
)
@click.option("--model", metavar="NAME_OR_FOLDER", help="A model at hand, or a model folder.")
@click.option(
    "--strength",
    type=click.FloatRange(-1, 2),
    default=1.0,
    show_default=True,
    help="1 removes the haze, 0 nothing; beyond 1 goes further, below 0 adds haze.",
)
@click.option(
    "--tile", type=click.IntRange(min=0), metavar="PIXELS", help="Side of a tile; 0: the whole picture at once."
)
@click.option("--maps", is_flag=True, help="Also write STEM.transmission.png and STEM.airlight.png.")
@click.option("--device", help="Such as cpu, cuda or cuda:1.  [default: the fastest here]")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Processor threads to use.")
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
def dehaze(
    inputs: tuple[Path, ...],
    output: Path | None,
    model: str | None,
    strength: float,
    tile: int | None,
    maps: bool,
    device: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Remove the haze from pictures, or from all pictures in a folder.

    `-` as the only INPUT reads a picture from the standard input, `-o -` writes it to the standard output.
    """
    from difflid.inference import dehaze_file, dehaze_files, plan_outputs

    if _STREAM not in (*inputs, output):
        jobs = plan_outputs(inputs, output, maps=maps, overwrite=overwrite)
        dehazer = _load(model, device, threads)
        _report(dehaze_files(dehazer, jobs, strength=strength, tile=tile, maps=maps), len(jobs))
        return
    source, target = _streams(inputs, output, maps, overwrite)
    report = dehaze_file(_load(model, device, threads), source, target, strength=strength, tile=tile, maps=maps)
    click.echo(_line(report), err=True)


def _streams(
    inputs: tuple[Path, ...], output: Path | None, maps: bool, overwrite: bool
) -> tuple[Path | bytes, Path | BinaryIO]:
    """Take the source, the target or both from the standard streams."""
    from difflid.inference import plan_outputs

    if len(inputs) > 1:
        raise click.UsageError("with - there can be only one INPUT and one OUTPUT")
    source = sys.stdin.buffer.read() if inputs == (_STREAM,) else inputs[0]
    if output is None or output == _STREAM:
        if maps:
            raise click.UsageError("--maps needs a file as OUTPUT")
        return source, sys.stdout.buffer
    if output.is_dir() or not output.suffix:
        raise click.UsageError("with - as INPUT, OUTPUT must be a file with a suffix such as .jpg")
    (job,) = plan_outputs(inputs, output, maps=maps, overwrite=overwrite)
    return source, job.target


def _load(model: str | None, device: str | None, threads: int | None) -> "Dehazer":
    import torch

    from difflid.cli.devices import choose_device
    from difflid.dehazer import Dehazer

    if threads:
        torch.set_num_threads(threads)
    return Dehazer.from_pretrained(model).to(choose_device(device))


def _report(results: "Iterable[FileReport | FileFailure]", count: int) -> None:
    """Say one line per picture, and at the end which failed."""
    from difflid.inference import FileFailure

    failed = []
    for result in results:
        if isinstance(result, FileFailure):
            failed.append(result.name)
            click.echo(f"difflid: error: {_reason(result)}", err=True)
        else:
            click.echo(_line(result))
    if failed and count > 1:
        click.echo(f"difflid: {len(failed)} of {count} pictures failed: {', '.join(failed)}", err=True)
    if failed:
        click.get_current_context().exit(1)


def _line(report: "FileReport") -> str:
    width, height = report.size
    return f"{report.name}  {width}x{height}  {_haze(report.haze_score)}  {report.seconds:.1f} s"


def _haze(score: float) -> str:
    from difflid.dehazer import NO_HAZE

    word = "no haze found" if score < NO_HAZE else next(word for limit, word in _HAZE if score <= limit)
    return f"{word} ({score:.2f})"


def _reason(failure: "FileFailure") -> str:
    """One line that names the picture."""
    reason = " ".join(str(failure.error).split()) or type(failure.error).__name__
    return reason if failure.name in reason else f"{failure.name}: {reason}"
