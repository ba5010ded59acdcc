"""``difflid prior``: train, convert, import and show priors."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from difflid.errors import DataError

if TYPE_CHECKING:
    from difflid.prior import UNetPrior

__all__ = ["prior"]

_DTYPE = click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True, help="Of the file."
)
_GUIDE_SIZE = click.option("--guide-size", type=click.IntRange(min=1), help="Side of the guide in pixels.")


@click.group()
def prior() -> None:
    """Train, convert, import and show priors (frozen diffusion models)."""


@prior.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
def train(config: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Train a prior as the TOML file CONFIG says, or carry on a run that was cut off."""
    from difflid.cli.logs import progress_bar, say_once, show_log
    from difflid.training.config import dump_config, read_config
    from difflid.training.prior import PriorTrainingConfig, train_prior

    resolved = read_config(PriorTrainingConfig, config, overrides)
    if dry_run:
        click.echo(dump_config(resolved))
        return
    show_log()
    with progress_bar(resolved.loop.images) as progress:
        folder = train_prior(resolved, progress)
    say_once(f"prior: {folder}")


@prior.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--schedule", type=click.Choice(["linear", "cosine"]), help="Of the betas.")
@click.option("--qkv-order", type=click.Choice(["legacy", "new"]), help="Order of the attention's rows.")
@click.option("--head-channels", type=click.IntRange(min=1), help="Channels of one attention head.")
@click.option("--heads", type=click.IntRange(min=1), help="Heads of every attention, instead of --head-channels.")
@click.option("--class-label", type=int, help="Class of a class-conditional model.  [default: the mean of all]")
@_GUIDE_SIZE
@_DTYPE
def convert(checkpoint: Path, out: Path, *, class_label: int | None, dtype: str, **options: "int | str | None") -> None:
    """Make a prior folder OUT of an OpenAI guided-diffusion CHECKPOINT (.pt).

    The models of the release are recognised; for others, what their shapes do not tell is asked for.
    """
    from difflid.prior import CheckpointOptions, convert_checkpoint

    _refuse_existing(out)
    known = CheckpointOptions(**options)  # type: ignore[arg-type]
    _save(convert_checkpoint(checkpoint, known, class_label=class_label), out, dtype)


@prior.command(name="import")
@click.argument("source", metavar="HUB_ID_OR_FOLDER")
@click.argument("out", type=click.Path(path_type=Path))
@_GUIDE_SIZE
@_DTYPE
def import_(source: str, out: Path, guide_size: int | None, dtype: str) -> None:
    """Make a prior folder OUT of a diffusers UNet2DModel and its scheduler."""
    from difflid.prior import import_unet

    _refuse_existing(out)
    _save(import_unet(source, guide_size=guide_size), out, dtype)


@prior.command()
@click.argument("folder", metavar="PRIOR", type=click.Path(path_type=Path))
def show(folder: Path) -> None:
    """Say what the prior folder PRIOR is."""
    from difflid.prior import UNetPrior

    _describe(UNetPrior.load(folder), folder)


def _refuse_existing(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists already: choose another folder or remove it")


def _save(converted: "UNetPrior", out: Path, dtype: str) -> None:
    import torch
    from safetensors import SafetensorError

    try:
        converted.save(out, dtype=getattr(torch, dtype))
    except (OSError, SafetensorError) as error:  # the disk is full, say
        raise DataError(f"cannot write {out}: {error}") from error
    _describe(converted, out)


def _describe(shown: "UNetPrior", folder: Path) -> None:
    from difflid.files import sha256

    spec, config = shown.spec, shown.config
    betas = "" if config.schedule == "cosine" else f", betas {config.beta_start:g} to {config.beta_end:g}"
    lines = {
        "folder": folder,
        "guide": f"{spec.guide_size} x {spec.guide_size} pixels",
        "latents": f"{spec.channels} x {spec.grid} x {spec.grid} per time-step (1/{spec.reduction})",
        "parameters": f"{sum(weight.numel() for weight in shown.parameters()):,}",
        "schedule": f"{config.schedule}{betas}",
        "noise seed": config.noise_seed,
        "sha256": sha256(folder / "model.safetensors"),
    }
    for name, value in lines.items():
        click.echo(f"{name:<11} {value}")
