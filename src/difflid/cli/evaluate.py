"""The verb ``evaluate``: numbers for models and methods on data sets, under a stated protocol."""

import sys
from pathlib import Path

import click

__all__ = ["evaluate"]


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1)
@click.option("--data", "data", metavar="DATA", multiple=True, required=True, help="[RULE:]FOLDER_OR_TSV; repeatable.")
@click.option("--protocol", default="full", show_default=True, metavar="NAME", help="full or unrounded.")
@click.option("--report", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER", help="Write files here.")
@click.option("--command", metavar="CMD", help="Another program, with {in} and {out} for PNG files; no shell.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pictures of each set.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
def evaluate(
    models: tuple[str, ...],
    data: tuple[str, ...],
    protocol: str,
    report: Path | None,
    command: str | None,
    limit: int | None,
    threads: int | None,
) -> None:
    """Measure models on data sets: PSNR, SSIM and CIEDE2000, or measures without reference.

    MODEL is a model folder, a published name, or a baseline: hazy (the input as it is), dark-channel,
    colour-attenuation. The others are compared with the first one.

    DATA is a folder with hazy/ and clear/ (same names), or a TSV file with hazy<TAB>clear. With RULE: it has the
    layout of a public data set: sots, its, ots, hsts, reside-6k, haze4k, o-haze, i-haze, dense-haze, nh-haze, d-hazy,
    rs-haze. clear:FOLDER are photographs without haze, compared with themselves; hazy:FOLDER are photographs whose
    clear picture nobody knows.

    --report writes results.json, results.csv and report.html.
    """
    if not models and not command:
        raise click.UsageError("name at least one MODEL or baseline, or give --command")
    if report and (report / "results.json").exists():
        raise click.UsageError(f"{report} already holds a report; name another folder or remove it")
    import torch

    from difflid import evaluation

    if threads:
        torch.set_num_threads(threads)
    conditions, sets = evaluation.named_protocol(protocol), evaluation.open_sets(data, limit)
    methods = [*evaluation.open_methods(models), *([evaluation.command_method(command)] if command else [])]
    total = len(methods) * sum(len(each.pairs) for each in sets)
    with click.progressbar(length=total, label="evaluating", file=sys.stderr) as bar:
        results = evaluation.evaluate(methods, sets, conditions, progress=lambda _: bar.update(1))
    click.echo(results.table())
    if report:
        results.save(report)
        evaluation.write_report(results, methods, sets, report / "report.html")
        click.echo(f"\nreport: {report / 'report.html'}")
