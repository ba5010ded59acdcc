"""What the parts of the method are worth: networks trained alike but for one part, with several seeds, compared.

A row changes the recipe, the latents or the network in one way; those of levels, which train on crops, are to be
compared with one another: `--rows levels ...`. A latent that is left out counts as zero where it enters the guide
branch, from the first step to the last: same network, cost, pictures and haze. Every cell is the mean over the seeds of
what the recipe validates, in dB, and in brackets the mean difference to the first row, paired by seed, with its 95 %
interval of Student's distribution. Beside them millions of weights, seconds for a picture of a megapixel on the threads
that train and, of levels, the synthetic pictures once more in tiles.

Runs that are finished are not repeated, and one that was cut off goes on.

python scripts/ablate.py RECIPE --runs FOLDER [--seeds 0 1 2] [--rows both none ...] [--set KEY=VALUE ...]
"""

import argparse
import functools
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from scipy.stats import t as student  # type: ignore[import-untyped]
from torch import Tensor, nn

from difflid import Dehazer
from difflid.data.dataset import Photo, load_splits
from difflid.network import DiffLI2D, DiffLI2DConfig, Scattering
from difflid.network.blocks import LocalBlock, start_at
from difflid.network.diffli2d import Condition
from difflid.network.guide import Veil
from difflid.prior import LatentSpec, Prior, UNetPrior
from difflid.study.estimates import Estimate
from difflid.training.config import read_config
from difflid.training.journal import STATS, Sheet
from difflid.training.loop import open_run, train
from difflid.training.restoration import RestorationObjective, RestorationTrainingConfig

TILE = 128  # pixels
COSTS = "million_weights", "seconds_per_megapixel"
decoded = functools.cache(load_splits)  # for all rows


class SeveralTimesteps:
    """Each of two time-steps with another one beside it, their latents side by side."""

    def __init__(self, prior: UNetPrior, beside: Sequence[int]) -> None:
        self.prior, self.beside = prior, beside
        self.spec = replace(prior.spec, channels=2 * prior.spec.channels)

    def encode(self, guide: Tensor, timesteps: Sequence[int]) -> Tensor:
        """See `difflid.prior.Prior`."""
        return torch.cat(self.prior.encode(guide, (*timesteps, *self.beside)).chunk(2), dim=2)


class AllLevels:
    """What every level of the encoder half gives, averaged over the cells of the bottleneck, beside that."""

    def __init__(self, prior: UNetPrior) -> None:
        self.prior, self.seen = prior, list[Tensor]()
        levels = prior.unet.config.block_out_channels
        self.spec: LatentSpec = replace(prior.spec, channels=prior.spec.channels + sum(levels))
        for block in prior.unet.down_blocks:
            block.register_forward_hook(lambda _block, _inputs, output: self.seen.append(output[1][0]))

    def encode(self, guide: Tensor, timesteps: Sequence[int]) -> Tensor:
        """See `difflid.prior.Prior`."""
        self.seen.clear()
        bottleneck = self.prior.encode(guide, timesteps)
        levels = [F.adaptive_avg_pool2d(each.float(), self.spec.grid) for each in self.seen]
        return torch.cat((bottleneck, torch.cat(levels, dim=1).unflatten(0, bottleneck.shape[:2])), dim=2)


class Gated(LocalBlock):
    """A local block whose channels are weighed by their means over all that is seen of the picture.

    After squeeze and excitation, Hu et al., CVPR 2018.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.gate = nn.Linear(width, width)
        start_at(self.gate, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """See LocalBlock."""
        x = super().forward(x)
        gate: Tensor = 2 * torch.sigmoid(self.gate(x.mean(dim=(2, 3))))
        return x * gate[:, :, None, None]


def pooling(config: DiffLI2DConfig) -> DiffLI2D:
    """Make a network whose levels pool over the window they are shown."""
    network = DiffLI2D(config)
    stages = cast(list[nn.Sequential], [*network.encoder, *(level.blocks for level in network._levels)])
    for blocks in stages:
        for index, block in enumerate(blocks):
            blocks[index] = gated = Gated(cast(LocalBlock, block).first.in_channels)
            gated.load_state_dict(gated.state_dict() | block.state_dict())
    return network


class PlainResidual(DiffLI2D):
    """Add what is missing to the picture, instead of inverting the scattering."""

    def __init__(self, config: DiffLI2DConfig) -> None:
        super().__init__(config)
        self.coarse_residual = nn.Conv2d(config.guide_width, 3, 1)
        start_at(self.coarse_residual, 0.0)
        self.review = None  # of a haze that counts for nothing

    def _veil(self, features: Tensor, airlight: Tensor | None, copy: Tensor) -> Veil:
        assert self.coarse_residual is not None
        return super()._veil(features, airlight, copy)._replace(residual=self.coarse_residual(features))

    def look(self, image: Tensor, window: Tensor, condition: Condition) -> Scattering:
        """See DiffLI2D."""
        return added(super().look(image, window, condition), image)

    def forward(
        self, image: Tensor, window: Tensor, copy: Tensor, content: Tensor, haze: Tensor
    ) -> tuple[Scattering | None, Scattering]:
        """See DiffLI2D."""
        seen, coarse = super().forward(image, window, copy, content, haze)
        return seen, added(coarse, F.avg_pool2d(copy, self.config.guide_zoom))


def added(seen: Scattering, image: Tensor) -> Scattering:
    """Make a scattering of which `restore` adds nothing but a residual, twice what was seen: from -1 to 1."""
    return Scattering(torch.full_like(seen.transmission, 0.5), image, 4 * seen.residual)


@dataclass(frozen=True)
class Row:
    """In what a row differs from the recipe."""

    settings: Sequence[str] = ()
    depth: bool = True
    content: bool = True
    haze: bool = True
    prior: Callable[[UNetPrior], Prior] | None = None
    network: Callable[[DiffLI2DConfig], DiffLI2D] = DiffLI2D


LEVELS = [
    "network.widths=[24, 48]",
    "network.encoder_blocks=[1, 0]",
    "network.decoder_blocks=[1, 2]",
    "network.heads=[0, 2]",
    "wholes=0",
]

ROWS = {
    "both": Row(),
    "none": Row(content=False, haze=False),
    "content": Row(haze=False),
    "haze": Row(content=False),
    "random weights": Row(prior=lambda prior: UNetPrior.untrained(prior.config)),
    "t = 50, 300": Row(["content_timestep=50", "haze_timestep=300"]),
    "t = 200, 300": Row(["content_timestep=200", "haze_timestep=300"]),
    "t = 0, 100, 200, 500": Row(prior=lambda prior: SeveralTimesteps(prior, (100, 500))),
    "all levels of the prior": Row(prior=AllLevels),
    "no reviews": Row(["network.guide_reviews=0"]),
    "no contrast": Row(["network.guide_contrast=false"]),
    "no least and greatest": Row(["network.guide_zoom=1"]),
    "ramps for depth": Row(depth=False),
    "picture loss alone": Row(["physics=0"]),
    "l1": Row(["losses={l1 = 1.0}"]),
    "l2": Row(["losses={l2 = 10.0}"]),
    "levels": Row(LEVELS),
    "levels that pool": Row(LEVELS, network=pooling),
    "levels, picture loss alone": Row([*LEVELS, "physics=0"]),
    "levels, plain residual": Row([*LEVELS, "physics=0"], network=PlainResidual),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if len(set(arguments.seeds)) < 2:
        parser.error("--seeds: an interval needs two at least")
    recipe = read_config(RestorationTrainingConfig, arguments.recipe, arguments.set)
    if recipe.network.widths:
        parser.error("the recipe has levels, which see the latents as well: expected network.widths = []")
    if recipe.loop.device != "cpu":
        parser.error(f"the rows are trained on the CPU, the recipe says {recipe.loop.device}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    configs = {
        (seed, row): configured(arguments, row, seed)
        for seed in arguments.seeds
        for row in dict.fromkeys(arguments.rows)
    }
    scores: dict[str, list[dict[str, float]]] = {}
    for (_, row), config in configs.items():
        scores.setdefault(row, []).append(trained(config, ROWS[row]))
    print(table(scores))


def configured(arguments: argparse.Namespace, row: str, seed: int) -> RestorationTrainingConfig:
    """Read the recipe as a row has it."""
    run = arguments.runs / f"{row.replace(' = ', '-').replace(', ', '-').replace(' ', '-')}-{seed}"
    settings = [*arguments.set, *ROWS[row].settings, f"loop.seed={seed}", f"loop.run={run}"]
    return read_config(RestorationTrainingConfig, arguments.recipe, settings)


class Ablated(RestorationObjective):
    """Training of a row."""

    def __init__(self, config: RestorationTrainingConfig, row: Row) -> None:
        self.row, prior = row, UNetPrior.load(Path(config.prior))
        super().__init__(config, row.prior(prior) if row.prior else prior)
        keep(self.model, content=row.content, haze=row.haze)
        if not row.depth:
            self._train = [replace(photo, depth=None) for photo in self._train]

    def _photos(self) -> tuple[list[Photo], list[Photo]]:
        config = self.config
        return decoded(config.photos, config.depth, config.repeats, config.validation_photos)

    def _network(self) -> DiffLI2D:
        return self.row.network(self._settings.network)

    def validate(self, model: nn.Module, sheet: Sheet) -> dict[str, float]:
        """Measure what it costs as well, and what tiles do to a network that does more than invert the haze."""
        scores = super().validate(model, sheet)
        if self.config.network.widths and self._validation:
            scores["in_tiles"] = self._mean_psnr(self._dehazer(model), self._synthetic(), Sheet(), TILE)
        costs = sum(weight.numel() for weight in model.parameters()) / 1e6, seconds_per_megapixel(self._dehazer(model))
        return scores | dict(zip(COSTS, costs, strict=True))

    def _mean_psnr(
        self, dehazer: Dehazer, pairs: Iterable[tuple[Tensor, Tensor]], sheet: Sheet, tile: int | None = 0
    ) -> float:
        """Score whole pictures: in tiles, what pools sees other things."""
        return super()._mean_psnr(dehazer, pairs, sheet, tile)

    def export(self, model: nn.Module, folder: Path) -> None:
        """Leave nothing of a changed network: no model folder could be read as one."""
        if self.row.network is DiffLI2D:
            super().export(model, folder)


def trained(config: RestorationTrainingConfig, row: Row) -> dict[str, float]:
    """Train a row with one seed; return what it validates to at its end."""
    run = Path(config.loop.run)
    accelerator = open_run(config, parts_rest=config.wholes > 0)  # refuses another recipe than the run began with
    if not (lines := validated(run)) or lines[-1]["images"] != config.loop.images:
        torch.manual_seed(config.loop.seed)
        train(Ablated(config, row), config.loop, accelerator)
        lines = validated(run)
    return {name: value for name, value in lines[-1].items() if name != "images"}


def validated(run: Path) -> list[dict[str, float]]:
    """Read the validations of a run."""
    journal = run / STATS
    lines = journal.read_text().splitlines() if journal.exists() else []
    values = [json.loads(line) for line in lines if line.endswith("}")]  # the last one may have been cut off
    return [each for each in values if "loss" not in each]


def keep(model: nn.Module, *, content: bool, haze: bool) -> None:
    """Let the latents that are left out count as zero: their weights are, and stay so."""
    weight: nn.Parameter = model.get_parameter("guide.latents.weight")  # (W, 2 C, 1, 1)
    kept = torch.tensor([content, haze]).repeat_interleave(weight.shape[1] // 2)[None, :, None, None]
    with torch.no_grad():
        weight.mul_(kept)

    def rest(gradient: Tensor) -> Tensor:
        return gradient * kept

    weight.register_hook(rest)


def seconds_per_megapixel(dehazer: Dehazer) -> float:
    """Take the best of five."""
    picture, taken = torch.rand(1, 3, 1000, 1000, generator=torch.Generator().manual_seed(0)), []
    for _ in range(5):
        start = time.perf_counter()
        dehazer.restore(picture, dehazer.encode(picture))
        taken.append(time.perf_counter() - start)
    return min(taken)


def table(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Give a line per row: the mean of every score over the seeds, and its difference to the first row."""
    first = next(iter(scores.values()))
    names = list(dict.fromkeys(name for seeds in scores.values() for name in seeds[0]))
    lines = ["| row | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row, seeds in scores.items():
        cells = []
        for name in names:
            values = [each[name] for each in seeds if name in each]
            cells.append(f"{sum(values) / len(values):.2f}" if values else "-")
            if values and name in first[0] and name not in COSTS and seeds is not first:
                gain = Estimate.of_difference(values, [each[name] for each in first])
                cells[-1] += f" ({gain.mean:+.2f} ± {student.ppf(0.975, len(seeds) - 1) * gain.error:.2f})"
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
