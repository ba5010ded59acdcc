"""``difflid study``: what the latents of a prior tell."""

from pathlib import Path

import click

from difflid.cli.usage import claim

__all__ = ["study"]

_TIMESTEPS = "0,50,100,200,300,500,700"
_LAST = 999  # time-step


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:  # noqa: ARG001
    try:
        timesteps = tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError as error:
        raise click.BadParameter(f"expected integers with commas between them, got {value!r}") from error
    if timesteps[0] < 0 or timesteps[-1] > _LAST:
        raise click.BadParameter(f"expected time-steps from 0 to {_LAST}, got {value!r}")
    return timesteps


@click.command()
@click.argument("prior", metavar="PRIOR")
@click.option("--photos", required=True, type=click.Path(path_type=Path), help="Folder of clear photographs.")
@click.option("--depth", type=click.Path(path_type=Path), help="Folder of their depth maps, the same stems.")
@click.option("--report", required=True, type=click.Path(path_type=Path), help="Write files here.")
@click.option("--timesteps", callback=_numbers, default=_TIMESTEPS, show_default=True, metavar="T,T,...")
@click.option(
    "--train-photos", type=click.IntRange(min=1), default=1500, show_default=True, help="At most, for decoders."
)
@click.option("--validation-photos", type=click.IntRange(min=10), default=100, show_default=True, help="At most.")
@click.option("--versions", type=click.IntRange(min=2), default=8, show_default=True, help="Hazy versions of each.")
@click.option("--steps", type=click.IntRange(min=1), default=400, show_default=True, help="Training of a decoder.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
def study(
    prior: str, photos: Path, depth: Path | None, report: Path, threads: int | None, **options: "int | tuple[int, ...]"
) -> None:
    """Find out what the latents of PRIOR tell of a picture and of its haze, at which time-steps.

    PRIOR is a prior folder, or the name of a model that comes with difflid: its prior is meant.

    Decoders learn from most of the photographs; what is reported is of the others, one in 32, at least 10. --report
    writes study.json and report.html.
    """
    claim(report, "study.json", "report.html")
    import torch

    from difflid.cli.logs import show_log
    from difflid.prior import UNetPrior
    from difflid.study import StudyConfig, about, sentences, study_prior, write_report
    from difflid.zoo import embedded_models, find_model, find_prior

    if threads:
        torch.set_num_threads(threads)
    show_log()
    folder = find_prior(find_model(prior)) if prior in embedded_models() else Path(prior)
    loaded = UNetPrior.load(folder)
    found, pictures = study_prior(loaded, photos, depth, StudyConfig(**options))  # type: ignore[arg-type]
    facts = about(folder, prior)
    found.save(report, facts)
    write_report(found, pictures, report / "report.html", facts)
    click.echo("\n".join(sentences(found)))
    click.echo(f"report: {report / 'report.html'}")
