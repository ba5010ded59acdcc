"""``difflid train``."""

from pathlib import Path

import click


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting of CONFIG.")
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
def train(config: Path, overrides: tuple[str, ...], dry_run: bool, threads: int | None) -> None:
    """Train a dehazing network by the recipe CONFIG; the same command resumes."""
    import torch

    from difflid.cli.logs import progress_bar, say_once, show_log
    from difflid.training.config import dump_config, read_config
    from difflid.training.restoration import RestorationTrainingConfig, train_restoration

    resolved = read_config(RestorationTrainingConfig, config, overrides)
    if dry_run:
        click.echo(dump_config(resolved))
        return
    if threads:
        torch.set_num_threads(threads)
    show_log()
    with progress_bar(resolved.loop.images) as progress:
        folder = train_restoration(resolved, progress)
    say_once(f"model: {folder}")
