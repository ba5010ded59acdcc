"""Fit `difflid.evaluation.fog`: ridge regression of the veil's log-odds on the statistics of synthetic haze.

    python scripts/fit_fog_density.py PHOTOS --depth DEPTH

Writes src/difflid/evaluation/fog_density.json. The error in it is on the validation photographs of
`split_photos`, which are not fitted on.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

import difflid.evaluation
from difflid.data.dataset import hazy_version, load_photos
from difflid.data.photos import photo_files, split_photos
from difflid.evaluation.fog import fog_statistics

OUTPUT = Path(difflid.evaluation.__file__).with_name("fog_density.json")
CLEAR_SHARE = 0.15
SOFTENING = 0.02  # added to veil and transmission, so that the log-odds of 0 and 1 are finite
RIDGE = 1.0  # on standardised statistics

Array = NDArray[np.float64]


def measured(files: Sequence[Path], depth: Path | None, versions: int, seed: int) -> tuple[list[str], Array, Array]:
    """Give the names of the statistics, the statistics (N, 12) and the mean veil (N,) of hazy versions."""
    found, veils = [], []
    for place, file in enumerate(files):
        (photo,) = load_photos([file], depth)
        for index in range(versions):
            rng = np.random.default_rng((seed, place, index))
            hazy, _, haze = hazy_version(photo, rng, clear_share=CLEAR_SHARE)
            levels = torch.from_numpy(hazy).mul(255).round().div(255)
            found.append(fog_statistics(levels.permute(2, 0, 1).unsqueeze(0)))
            veils.append(float((1 - np.exp(-haze.optical_depth)).mean()))
    return list(found[0]), np.array([list(each.values()) for each in found]), np.array(veils)


def fitted(statistics: Array, veils: Array) -> tuple[Array, float]:
    """Give weights and intercept for the statistics as they are."""
    mean, spread = statistics.mean(axis=0), statistics.std(axis=0)
    scaled = (statistics - mean) / spread
    odds = np.log((veils + SOFTENING) / (1 - veils + SOFTENING))
    weights = (
        np.linalg.solve(scaled.T @ scaled + RIDGE * np.eye(scaled.shape[1]), scaled.T @ (odds - odds.mean())) / spread
    )
    return weights, float(odds.mean() - mean @ weights)


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--depth", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Depth maps, same stems.")
@click.option("--count", default=400, show_default=True, help="Photographs to fit on; 2 hazy versions of each.")
@click.option("--seed", default=0, show_default=True)
def main(photos: Path, depth: Path | None, count: int, seed: int) -> None:
    train, validation = split_photos(photo_files(photos))
    chosen = np.random.default_rng(seed).choice(len(train), min(count, len(train)), replace=False)
    names, statistics, veils = measured([train[i] for i in sorted(chosen)], depth, 2, seed)
    weights, intercept = fitted(statistics, veils)
    _, unseen, truth = measured(validation, depth, 3, seed + 1)
    estimate = 1 / (1 + np.exp(-(unseen @ weights + intercept)))
    held_out = {
        "photographs": len(validation),
        "pictures": len(truth),
        "mean_absolute_error": round(float(np.abs(estimate - truth).mean()), 3),
        "mean_absolute_error_of_a_constant": round(float(np.abs(truth - np.median(veils)).mean()), 3),
        "correlation": round(float(np.corrcoef(estimate, truth)[0, 1]), 3),
    }
    model = {
        "intercept": intercept,
        "weights": dict(zip(names, weights.tolist(), strict=True)),
        "fitted_on": {"photographs": len(chosen), "pictures": len(veils), "seed": seed},
        "held_out": held_out,
    }
    OUTPUT.write_text(json.dumps(model, indent=1) + "\n")
    click.echo(json.dumps(held_out))


if __name__ == "__main__":
    main()
