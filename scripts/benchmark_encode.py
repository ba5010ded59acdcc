"""What reading the latents costs, against running the whole U-Net once per time-step.

Both are timed in turns, in one run, and compared turn by turn; operations are counted, which no other load can
disturb; memory, above that of the imports, is measured in a process of its own each.

    python scripts/benchmark_encode.py            # the prior of recipes/prior-cpu.toml
    python scripts/benchmark_encode.py --paper    # the 552.8 M parameters of the paper's prior; needs 6 GB
"""

import argparse
import copy
import multiprocessing
import statistics
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging
from torch.utils.flop_counter import FlopCounterMode

from difflid.prior import UNetPrior, UNetPriorConfig, build_unet

RECIPE = Path(__file__).parents[1] / "recipes" / "prior-cpu.toml"
TIMESTEPS = [0, 500]
PAPER = {
    "sample_size": 256,
    "in_channels": 3,
    "out_channels": 6,
    "layers_per_block": 2,
    "block_out_channels": [256, 256, 512, 512, 1024, 1024],
    "down_block_types": ["ResnetDownsampleBlock2D"] * 3 + ["AttnDownBlock2D"] * 3,
    "up_block_types": ["AttnUpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"] * 3,
    "attention_head_dim": 64,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 32,
}


def main() -> None:
    options = read_options()
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    config = read_config(paper=options.paper)
    torch.manual_seed(0)
    unet = build_unet(config.unet).eval().requires_grad_(False)
    prior = UNetPrior.from_unet(unet, config)
    count = f"{parameters(prior) / 1e6:.1f} of {parameters(unet) / 1e6:.1f} M parameters"
    print(f"guide {config.guide_size}, {count}, latents {prior.spec}, {options.threads} threads")
    timed = candidates(unet, prior, variants=options.variants)
    counts = [count_operations(call) for call in timed.values()]  # also warms up
    print(
        f"operations: {counts[0] / 1e9:.1f} and {counts[1] / 1e9:.1f} GFLOP, {counts[0] / counts[1]:.2f} times as few"
    )
    report(measure(timed, options.repeats))
    del timed
    with tempfile.TemporaryDirectory() as folder:
        prior.save(Path(folder))
        del unet, prior
        for name, work in (("whole U-Net", run_whole), ("encode", run_encode)):
            print(f"{name:<28} peak memory {measure_memory(work, config, folder):6.2f} GB")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", action="store_true", help="the paper's configuration, with random weights")
    parser.add_argument("--variants", action="store_true", help="also bfloat16 and channels_last")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def read_config(*, paper: bool) -> UNetPriorConfig:
    if paper:
        return UNetPriorConfig(256, PAPER)
    recipe = tomllib.loads(RECIPE.read_text())
    return UNetPriorConfig(recipe["guide_size"], recipe["unet"])


def parameters(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def candidates(unet: torch.nn.Module, prior: UNetPrior, *, variants: bool) -> dict[str, Callable[[], Any]]:
    guide = torch.rand(1, 3, prior.spec.guide_size, prior.spec.guide_size)
    timed = {
        "whole U-Net, twice": lambda: [whole(unet, guide, step) for step in TIMESTEPS],
        "encode": lambda: prior.encode(guide, TIMESTEPS),
    }
    if not variants:
        return timed
    for name, dtype, layout in (
        ("encode, channels_last", torch.float32, torch.channels_last),
        ("encode, bfloat16", torch.bfloat16, torch.contiguous_format),
        ("encode, both", torch.bfloat16, torch.channels_last),
    ):
        other = copy.deepcopy(prior)
        other.unet.to(dtype, memory_format=layout)
        timed[name] = lambda other=other: other.encode(guide, TIMESTEPS)  # type: ignore[misc]
    return timed


@torch.no_grad()
def whole(unet: torch.nn.Module, x: torch.Tensor, step: int) -> None:
    unet(x, torch.tensor([step]))


def count_operations(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def measure(timed: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(repeats):
        for name, call in timed.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    base = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(base, values, strict=True)]
        median, ratio = statistics.median(values), statistics.median(ratios)
        print(f"{name:<28} {median:8.4f} s   {ratio:5.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


def measure_memory(work: Callable[[UNetPriorConfig, str], None], config: UNetPriorConfig, folder: str) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, (work, config, folder)) / 2**20


def peak(work: Callable[[UNetPriorConfig, str], None], config: UNetPriorConfig, folder: str) -> int:
    before = read_peak()
    work(config, folder)
    return read_peak() - before


def read_peak() -> int:
    """Return the largest resident size of this process so far, in KiB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def run_whole(config: UNetPriorConfig, _folder: str) -> None:
    unet = build_unet(config.unet).eval()
    whole(unet, torch.rand(1, 3, config.guide_size, config.guide_size), 0)


def run_encode(config: UNetPriorConfig, folder: str) -> None:
    UNetPrior.load(Path(folder)).encode(torch.rand(1, 3, config.guide_size, config.guide_size), TIMESTEPS)


if __name__ == "__main__":
    main()
