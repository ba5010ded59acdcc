"""Where in a prior haze can be read: linear probes at every level of its encoder half, on the way to the bottleneck.

For the trained weights and for random ones, with the probes and the hazy pictures of `difflid study`: R^2 of the mean
transmission and airlight of held-out photographs under haze, of the mean and spread of every channel of a level. Beside
them pixel statistics, and pixel statistics together with the bottleneck: what it adds to them. Standard errors over
five folds of photographs.

python scripts/probe_levels.py PRIOR --photos FOLDER [--depth FOLDER] [--timesteps 0 200] [--versions 8] [--threads 2]
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difflid.data.dataset import load_photos
from difflid.data.photos import photo_files, split_photos
from difflid.prior import UNetPrior
from difflid.study.estimates import Estimate
from difflid.study.probes import latent_features, pixel_features, probe
from difflid.study.samples import HazySamples, hazy_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--depth", type=Path)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[0, 200])
    parser.add_argument("--versions", type=int, default=8, help="hazy versions of each photograph")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prior = UNetPrior.load(arguments.prior)
    untrained = UNetPrior.untrained(prior.config)
    photos = load_photos(split_photos(photo_files(arguments.photos))[1], arguments.depth)
    samples = hazy_samples(photos, prior.spec, versions=arguments.versions, seed=0)
    pixels = pixel_features(samples.guides, prior.spec.grid).picture
    print(f"{len(photos)} photographs, {len(pixels)} hazy versions")
    print("| time-step | features | transmission | airlight |\n|---|---|---|---|")
    say("", "pixel statistics", pixels, samples)
    for timestep in arguments.timesteps:
        for name, model in (("trained", prior), ("random", untrained)):
            levels = features(model, samples.guides, timestep)
            for level, values in levels.items():
                say(timestep, f"{name}: {level}", values, samples)
            say(timestep, f"pixel statistics and {name}: {level}", torch.cat((pixels, values), dim=1), samples)


def say(timestep: int | str, name: str, values: Tensor, samples: HazySamples) -> None:
    asked = samples.transmission.mean(dim=(1, 2))[:, None], samples.airlight.mean(dim=1, keepdim=True)
    told = [Estimate.of(probe(values, target, samples.groups)) for target in asked]
    print(f"| {timestep} | {name} | " + " | ".join(map(str, told)) + " |", flush=True)


@torch.inference_mode()
def features(prior: UNetPrior, guides: Tensor, timestep: int) -> dict[str, Tensor]:
    """Mean and spread of every channel after each part of the encoder half, for every picture."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            maps = output[0] if isinstance(output, tuple) else output
            seen.setdefault(name, []).append(latent_features(maps).picture)

        return hook

    unet = prior.unet
    blocks = {f"level {index} of {len(unet.down_blocks)}": block for index, block in enumerate(unet.down_blocks, 1)}
    parts = {"first convolution": unet.conv_in, **blocks, "bottleneck": unet.mid_block}
    hooks = [module.register_forward_hook(keep(name)) for name, module in parts.items()]
    for batch in guides.split(32):
        prior.encode(batch, (timestep,))
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(values) for name, values in seen.items()}


if __name__ == "__main__":
    main()
