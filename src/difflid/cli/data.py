"""``difflid data``: prepare data sets."""

from pathlib import Path

import click

from difflid.cli.usage import value_of

__all__ = ["data"]


@click.group()
def data() -> None:
    """Prepare data sets for training."""


@data.command()
@click.argument("source", metavar="FOLDER_OR_TSV", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the shards.")
@click.option("--rule", default="folder", show_default=True, help="How the folder names its files: its, ots, ...")
@click.option("--names", multiple=True, help="Only these: a pattern or a range of scenes (0001..0900); repeatable.")
@click.option("--shard-megabytes", type=click.IntRange(min=1), default=256, show_default=True)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the order in which they are packed."
)
def pack(source: Path, output: Path, rule: str, names: tuple[str, ...], shard_megabytes: int, seed: int) -> None:
    """Pack pairs of hazy and clear pictures into tar files for training on large sets, none of them damaged."""
    from difflid.data.real_pairs import PairSet
    from difflid.data.shards import write_shards

    with value_of("--rule"):
        pairs = PairSet(str(source), rule, names).pairs()
    count = write_shards(pairs, output, shard_bytes=shard_megabytes * 10**6, seed=seed)
    click.echo(f"{len(pairs)} pairs in {count} shards in {output}")
