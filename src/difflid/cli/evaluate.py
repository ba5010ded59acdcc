"""The verb ``evaluate``: numbers for models and methods on data sets, under a stated protocol."""

import sys
from pathlib import Path

import click

from difflid.cli.usage import claim, value_of

__all__ = ["evaluate"]

REPORT = ("results.json", "results.csv", "report.html")


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1)
@click.option("--data", "data", metavar="DATA", multiple=True, required=True, help="[RULE:]FOLDER_OR_TSV; repeatable.")
@click.option("--protocol", default="full", show_default=True, metavar="NAME", help="full, unrounded, luma or reduced.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FOLDER", help="Write files here.")
@click.option(
    "--command",
    "commands",
    metavar="[NAME=]CMD",
    multiple=True,
    help="Another program, with {in} and {out} for PNG files; no shell; repeatable.",
)
@click.option(
    "--metric",
    "metrics",
    metavar="NAME",
    multiple=True,
    help="lpips, or MODULE:FUNCTION of one's own, where the clear picture is known; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pictures of each set.")
@click.option("--device", help="Of the models, such as cpu, cuda or cuda:1.  [default: the fastest here]")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
def evaluate(
    models: tuple[str, ...],
    data: tuple[str, ...],
    protocol: str,
    report: Path | None,
    commands: tuple[str, ...],
    metrics: tuple[str, ...],
    limit: int | None,
    device: str | None,
    threads: int | None,
) -> None:
    """Measure models on data sets: PSNR, SSIM, MS-SSIM and CIEDE2000, or measures without reference.

    MODEL is a model folder, a published name, or a baseline: hazy (the input as it is), dark-channel,
    colour-attenuation, clahe. The others are compared with the first one.

    DATA is a folder with hazy/ and clear/ (same names), or a TSV file with hazy<TAB>clear. With RULE: it has the
    layout of a public data set: sots, its, ots, hsts, reside-6k, haze4k, o-haze, i-haze, dense-haze, nh-haze, d-hazy,
    rs-haze. clear:FOLDER are photographs without haze, compared with themselves; hazy:FOLDER are photographs whose
    clear picture nobody knows.

    --metric lpips needs pip install 'difflid[lpips]'. Any other is a function of the restored and the clear picture,
    both tensors (1, 3, H, W) in [0, 1].

    --report writes results.json, results.csv and report.html.
    """
    if not models and not commands:
        raise click.UsageError("name at least one MODEL or baseline, or give --command")
    if report:
        claim(report, *REPORT)
    import torch

    from difflid import evaluation
    from difflid.cli.devices import choose_device
    from difflid.errors import ModelError

    if metrics:
        sys.path.insert(0, str(Path.cwd()))  # a module may lie here, as with python -m
    if threads:
        torch.set_num_threads(threads)
    with value_of("--protocol"):
        conditions = evaluation.named_protocol(protocol)
    with value_of("--metric"):
        custom = [evaluation.open_metric(source) for source in metrics]
    with value_of("--command"):
        programs = [evaluation.command_method(command) for command in commands]
    with value_of("--device"):
        chosen = choose_device(device)
    sets = evaluation.open_sets(data, limit)
    if metrics and all(each.kind == "hazy" for each in sets):
        raise click.BadParameter(
            "it compares with the clear picture, which nobody knows of a hazy: set", param_hint="'--metric'"
        )
    methods = [*evaluation.open_methods(models, chosen), *programs]
    total = len(methods) * sum(len(each.pairs) for each in sets)
    with click.progressbar(length=total, label="evaluating", file=sys.stderr) as bar:
        results = evaluation.evaluate(
            methods, sets, conditions, custom_metrics=custom, progress=lambda _: bar.update(1)
        )
    click.echo(results.table())
    if report:
        results.save(report)
        evaluation.write_report(results, methods, sets, report / "report.html")
        click.echo(f"\nreport: {report / 'report.html'}")
    if results.failures:
        raise ModelError(f"left out of the results: {'; '.join(results.failures.values())}")
