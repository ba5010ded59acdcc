"""How well the latents of a prior tell haze, per time-step, against random weights and pixel statistics.

python scripts/probe_latents.py PRIOR --photos FOLDER --depth FOLDER
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch

from difflid.data.dataset import load_photos
from difflid.data.photos import photo_files, split_photos
from difflid.prior import UNetPrior
from difflid.study.probes import hazy_samples, latent_features, pixel_features, probe

TIMESTEPS = (0, 50, 100, 200, 300, 500, 700)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--depth", type=Path)
    parser.add_argument("--versions", type=int, default=12, help="hazy versions per held-out photograph")
    arguments = parser.parse_args()
    prior = UNetPrior.load(arguments.prior)
    random_prior = with_random_weights(prior)
    photos = load_photos(split_photos(photo_files(arguments.photos))[1], arguments.depth)
    samples = hazy_samples(photos, prior, versions=arguments.versions)
    groups = [sample.group for sample in samples]
    targets = {
        "transmission": np.array([sample.transmission.mean() for sample in samples], float),
        "airlight": np.array([sample.airlight.mean() for sample in samples], float),
    }
    print(f"{len(photos)} held-out photographs, {len(samples)} hazy versions; R^2 (standard error over the folds)")
    print(f"{'features':22}" + "".join(f"{name:>18}" for name in targets))

    def report(name: str, features: np.ndarray) -> None:
        scores = [probe(features, target, groups) for target in targets.values()]
        print(f"{name:22}" + "".join(f"{f'{score.mean:.3f} ({score.error:.3f})':>18}" for score in scores), flush=True)

    report("pixel statistics", pixel_features(samples))
    for timestep in TIMESTEPS:
        report(f"latents t={timestep}", latent_features(samples, prior, timestep))
        report(f"random weights t={timestep}", latent_features(samples, random_prior, timestep))


def with_random_weights(prior: UNetPrior) -> UNetPrior:
    torch.manual_seed(0)
    return UNetPrior(copy.deepcopy(prior.config))


if __name__ == "__main__":
    main()
