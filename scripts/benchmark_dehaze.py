"""Seconds and peak memory of dehazing one picture, by size, with the shares of prior and network.

python scripts/benchmark_dehaze.py [--threads 2] [--megapixels 1 12]
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 12])
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.child, arguments.threads)
        return
    print(f"{'megapixels':>10} {'prior s':>9} {'condition s':>12} {'network s':>10} {'s/MP':>7} {'peak GB':>8}")
    for megapixels in arguments.megapixels:  # a process each, so that the peak is its own
        command = [sys.executable, __file__, "--child", str(megapixels), "--threads", str(arguments.threads)]
        subprocess.run(command, check=True)


def measure(megapixels: float, threads: int) -> None:
    import torch

    from difflid import Dehazer
    from difflid.dehazer import make_guide

    torch.set_num_threads(threads)
    dehazer = Dehazer.from_pretrained()
    side = round((megapixels * 1e6 / 12) ** 0.5)
    image = torch.rand(1, 3, 3 * side, 4 * side)
    steps = (dehazer.config.content_timestep, dehazer.config.haze_timestep)
    prior = median(lambda: dehazer.prior.encode(make_guide(image, dehazer.prior.spec.guide_size), steps))
    encode = median(lambda: dehazer.encode(image))
    condition = dehazer.encode(image)
    network = median(lambda: dehazer.restore(image, condition))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    per_megapixel = (encode + network) / megapixels
    print(
        f"{megapixels:10g} {prior:9.3f} {max(encode - prior, 0):12.3f} {network:10.2f} {per_megapixel:7.2f} {peak:8.2f}"
    )


def median(work: Callable[[], object]) -> float:
    """Median seconds of a few runs, after one that is not counted."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
