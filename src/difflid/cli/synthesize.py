"""``difflid synthesize``."""

from pathlib import Path

import click


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for hazy/ and clear/.")
@click.option("--depth", type=click.Path(path_type=Path), help="Folder of depth maps with the same stems.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="Hazy versions per photo.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--sheet", type=click.Path(path_type=Path), help="Also write a contact sheet here.")
def synthesize(photos: Path, output: Path, depth: Path | None, count: int, seed: int, sheet: Path | None) -> None:
    """Put synthetic haze on the clear PHOTOS and write pairs."""
    from difflid.data.synthetic_pairs import write_pairs, write_sheet

    names = write_pairs(photos, output, depth=depth, count=count, seed=seed)
    if sheet:
        write_sheet(output, names, sheet)
    click.echo(f"{len(names)} pairs in {output}")
