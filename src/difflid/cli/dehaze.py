"""``difflid dehaze``: pictures in, pictures out; video too."""

import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import click

from difflid.cli.model import load_dehazer
from difflid.cli.reports import Reports, line
from difflid.errors import ConfigError, ImageError
from difflid.places import Place, Remote, place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from difflid.dehazer import Dehazer, Detail
    from difflid.inference import FileFailure, Job, Settings

__all__ = ["dehaze"]

_STREAM = Path("-")


def _place(context: click.Context, parameter: click.Parameter, value: str | None) -> Place | None:  # noqa: ARG001
    if value == "" or "\0" in (value or ""):  # an empty name would be the folder where one is
        raise click.BadParameter("it is no name of a file or folder")
    try:
        return None if value is None else place(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


def _places(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[Place | None, ...]:
    return tuple(_place(context, parameter, each) for each in value)


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", callback=_places)
@click.option(
    "-o",
    "--output",
    metavar="OUTPUT",
    callback=_place,
    help="A file for one picture or video, else a folder. Without it: STEM.dehazed.SUFFIX beside it, FOLDER-dehazed.",
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
@click.option("-r", "--recursive", is_flag=True, help="Take the pictures in sub-folders too, and keep the sub-folders.")
@click.option(
    "--detail",
    type=click.Choice(["auto", "exact", "fast"]),
    default="auto",
    show_default=True,
    help="exact: look at every pixel; fast: look at a reduced copy, dehaze every pixel; auto: fast from 8 megapixels.",
)
@click.option("--maps", is_flag=True, help="Also write STEM.transmission.png, STEM.depth.png and STEM.airlight.png.")
@click.option("--white-balance", is_flag=True, help="Take the colour of the haze for white.")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG, WebP, AVIF and HEIC.  [default: 95; 90]")
@click.option(
    "--subsampling",
    type=click.Choice(["4:4:4", "4:2:2", "4:2:0"]),
    help="Of the colours of JPEG and AVIF.  [default: that of a JPEG, else 4:4:4]",
)
@click.option("--strip", is_flag=True, help="Drop EXIF, GPS and XMP; the colour profile stays.")
@click.option("--device", help="Such as cpu, cuda or cuda:1.  [default: the fastest here]")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Processor threads to use.")
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@click.option("--skip-existing", is_flag=True, help="Leave out what has its result already.")
@click.option("--watch", is_flag=True, help="Go on with what arrives in the folder INPUT, until Ctrl-C.")
@click.option(
    "--smoothing",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="Of video: how long what was seen counts; 0: every frame for itself.",
)
@click.option("--codec", help="Of video: h264, hevc, av1, vp9 or an encoder of FFmpeg.  [default: by suffix and depth]")
@click.option("--crf", type=click.IntRange(0, 63), help="Of video: quality as the codec counts it; lower is better.")
def dehaze(
    inputs: tuple[Place, ...],
    output: Place | None,
    model: str | None,
    strength: float,
    tile: int | None,
    detail: "Detail",
    maps: bool,
    white_balance: bool,
    quality: int | None,
    subsampling: str | None,
    strip: bool,
    device: str | None,
    threads: int | None,
    recursive: bool,
    overwrite: bool,
    skip_existing: bool,
    watch: bool,
    smoothing: float,
    codec: str | None,
    crf: int | None,
) -> None:
    """Remove the haze from pictures and videos, from all pictures in a folder, or from those a quoted pattern matches.

    `-` as the only INPUT reads a picture from the standard input, `-o -` writes it to the standard output. INPUT and
    OUTPUT may be URLs that fsspec opens, such as s3://BUCKET/FOLDER or https://HOST/PHOTO.
    """
    from difflid.image import Writing
    from difflid.inference import Settings, dehaze_file, dehaze_files, plan_outputs, undone, watch_folder

    if math.isnan(strength) or math.isnan(smoothing):
        raise click.UsageError("--strength and --smoothing are numbers, got nan")
    if overwrite and skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    settings = Settings(
        strength=strength,
        tile=tile,
        detail=detail,
        maps=maps,
        white_balance=white_balance,
        writing=Writing(quality=quality, subsampling=subsampling, metadata=not strip),
        smoothing=smoothing,
        codec=codec,
        crf=crf,
    )
    if watch:
        if len(inputs) > 1 or isinstance(inputs[0], Remote) or not inputs[0].is_dir():
            raise click.UsageError("--watch needs one folder of this machine as INPUT")
        if output == _STREAM:
            raise click.UsageError("--watch needs a folder as OUTPUT")
        folder = watch_folder(inputs[0], output, maps=maps, recursive=recursive, overwrite=overwrite)
        _exit(_watch(load_dehazer(model, device, threads), folder, settings))
    if _STREAM in (*inputs, output):
        source, target = _streams(inputs, output, maps, overwrite)
        dehazer = load_dehazer(model, device, threads)
        try:
            click.echo(line(dehaze_file(dehazer, source, target, settings)), err=True)
        except (MemoryError, RuntimeError) as error:  # it is too large
            raise ImageError(f"cannot dehaze the picture: {error or 'not enough memory'}") from error
        return
    jobs = plan_outputs(inputs, output, maps=maps, recursive=recursive, overwrite=overwrite or skip_existing)
    missing = undone(jobs, maps=maps) if skip_existing else jobs
    with Reports(len(missing), skipped=len(jobs) - len(missing)) as reports:
        if missing:
            dehazer = load_dehazer(model, device, threads)
            reports.tell(dehaze_files(dehazer, missing, settings, progress=reports.count_frames))
    _exit(reports)


def _watch(
    dehazer: "Dehazer", arrivals: "Iterator[tuple[list[Job], list[FileFailure]]]", settings: "Settings"
) -> Reports:
    from difflid.inference import dehaze_files

    click.echo("difflid: watching; Ctrl-C ends it", err=True)
    with Reports(None) as reports, suppress(KeyboardInterrupt):
        for jobs, failures in arrivals:
            reports.tell(failures)
            reports.tell(dehaze_files(dehazer, jobs, settings))
    return reports


def _exit(reports: Reports) -> NoReturn:
    click.get_current_context().exit(1 if reports.failed else 0)


def _streams(
    inputs: tuple[Place, ...], output: Place | None, maps: bool, overwrite: bool
) -> tuple[Place | bytes, Place | BinaryIO]:
    """Take the source, the target or both from the standard streams."""
    from difflid.inference.plan import is_video, plan_outputs

    if len(inputs) > 1:
        raise click.UsageError("with - there can be only one INPUT and one OUTPUT")
    if inputs[0].is_dir() or is_video(inputs[0]) or (output is not None and is_video(output)):
        raise click.UsageError("only a picture goes through the standard streams, no folder and no video")
    source = sys.stdin.buffer.read() if inputs == (_STREAM,) else inputs[0]
    if output is None or output == _STREAM:
        if maps:
            raise click.UsageError("--maps needs a file as OUTPUT")
        return source, sys.stdout.buffer
    if output.is_dir() or not output.suffix:
        raise click.UsageError("with - as INPUT, OUTPUT must be a file with a suffix such as .jpg")
    (job,) = plan_outputs(inputs, output, maps=maps, overwrite=overwrite)
    return source, job.target
