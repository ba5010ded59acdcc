"""What the latents are worth: a recipe trained with both, with one, with none, and with those of random weights.

All rows have the same network, cost, pictures and haze; a latent that is left out counts as zero where it enters the
guide branch, from the first step to the last. The recipe must have no levels, which would see the latents as well.
Each row is trained once per seed, and resumes by the same command. Told is the mean PSNR in dB of what the recipe
validates on and, beside it, the difference to the first row: the mean over the seeds, whose pictures are the same in
all rows, and its 95 % interval of Student's distribution.

python scripts/ablate_latents.py RECIPE --runs FOLDER [--seeds 0 1 2] [--rows none both ...] [--set KEY=VALUE ...]
"""

import argparse
import json
import logging
from dataclasses import replace
from pathlib import Path

import torch
from scipy.stats import t as student  # type: ignore[import-untyped]
from torch import Tensor, nn

from difflid.prior import UNetPrior
from difflid.study.estimates import Estimate
from difflid.training.config import read_config
from difflid.training.loop import open_run, train
from difflid.training.restoration import RestorationObjective, RestorationTrainingConfig

ROWS = {  # content latent, haze latent, trained prior
    "none": (False, False, True),
    "content": (True, False, True),
    "haze": (False, True, True),
    "both": (True, True, True),
    "random weights": (True, True, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if len(set(arguments.seeds)) < 2:
        parser.error("--seeds: an interval needs two at least")
    if read_config(RestorationTrainingConfig, arguments.recipe, arguments.set).network.widths:
        parser.error("the recipe has levels, which see the latents as well: expected network.widths = []")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    scores: dict[str, list[dict[str, float]]] = {row: [] for row in arguments.rows}
    for seed in arguments.seeds:
        for row in arguments.rows:
            run = arguments.runs / f"{row.replace(' ', '-')}-{seed}"
            settings = [*arguments.set, f"loop.seed={seed}", f"loop.run={run}"]
            scores[row].append(trained(read_config(RestorationTrainingConfig, arguments.recipe, settings), row))
    print(table(scores))


def trained(config: RestorationTrainingConfig, row: str) -> dict[str, float]:
    """Train a row with one seed; return what it validates to at its end."""
    content, haze, knows = ROWS[row]
    run = Path(config.loop.run)
    if not knows:
        config = replace(config, prior=str(random_prior(Path(config.prior), run / "prior")))
    accelerator = open_run(config, parts_rest=config.wholes > 0)
    torch.manual_seed(config.loop.seed)
    objective = RestorationObjective(config)
    keep(objective.model, content=content, haze=haze)
    train(objective, config.loop, accelerator)
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return {name: value for name, value in lines[-1].items() if name != "images"}


def random_prior(trained: Path, folder: Path) -> Path:
    """Write a prior of the same architecture that has learnt nothing."""
    torch.manual_seed(0)
    UNetPrior(UNetPrior.load(trained).config).save(folder)
    return folder


def keep(model: nn.Module, *, content: bool, haze: bool) -> None:
    """Let the latents that are left out count as zero: their weights are, and stay so."""
    weight: nn.Parameter = model.get_parameter("guide.latents.weight")  # (W, 2 C, 1, 1)
    kept = torch.tensor([content, haze]).repeat_interleave(weight.shape[1] // 2)[None, :, None, None]
    with torch.no_grad():
        weight.mul_(kept)

    def rest(gradient: Tensor) -> Tensor:
        return gradient * kept

    weight.register_hook(rest)


def table(scores: dict[str, list[dict[str, float]]]) -> str:
    """Give a line per row: the mean of every score over the seeds, and its difference to the first row."""
    first, names = next(iter(scores.values())), list(next(iter(scores.values()))[0])
    lines = ["| latents | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row, seeds in scores.items():
        cells = []
        for name in names:
            mean = sum(each[name] for each in seeds) / len(seeds)
            gain = Estimate.of_difference([each[name] for each in seeds], [each[name] for each in first])
            reach = student.ppf(0.975, len(seeds) - 1) * gain.error
            cells.append(f"{mean:.2f}" if seeds is first else f"{mean:.2f} ({gain.mean:+.2f} ± {reach:.2f})")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
