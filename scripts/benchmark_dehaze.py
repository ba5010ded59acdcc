"""Seconds and peak memory of dehazing one picture, exactly and fast, by size; what the fast path costs in quality.

python scripts/benchmark_dehaze.py [--model NAME] [--threads 2] [--megapixels 1 12 24] [--paths exact fast]
python scripts/benchmark_dehaze.py [--model NAME] --pairs FOLDER [--reduce 4]

The first form enlarges a photograph of examples/ to each size; decoding and encoding are not counted, and the peak is
that of the whole process. The second compares both paths with the clear pictures of FOLDER (hazy/ and clear/); the fast
one looks at a copy reduced by a factor along each side, which is 4.8 for a picture of 24 megapixels.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from difflid.zoo import DEFAULT

if TYPE_CHECKING:
    from difflid.image import Picture

REPEATS = 3
COLUMNS = "{:>10} {:>6} {:>9} {:>12} {:>9} {:>7} {:>8}"
PHOTO = Path(__file__).parents[1] / "examples" / "harbour-coast.jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 12, 24])
    parser.add_argument("--paths", nargs="+", choices=["exact", "fast"], default=["exact", "fast"])
    parser.add_argument("--pairs", type=Path, metavar="FOLDER")
    parser.add_argument("--reduce", type=float, default=4, metavar="FACTOR")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pairs:
        compare(arguments.model, arguments.pairs, arguments.reduce)
    elif arguments.child:
        measure(arguments.model, arguments.megapixels[0], arguments.paths[0], arguments.threads)
    else:
        print(COLUMNS.format("megapixels", "path", "prior s", "condition s", "in all s", "s/MP", "peak GB"))
        for megapixels in arguments.megapixels:
            for path in arguments.paths:  # a process each, so that the peak is its own
                sizes = ["--megapixels", str(megapixels), "--paths", path, "--threads", str(arguments.threads)]
                child = [sys.executable, __file__, "--child", "--model", arguments.model]
                subprocess.run([*child, *sizes], check=True)


def measure(model: str, megapixels: float, path: str, threads: int) -> None:
    import torch

    from difflid import Dehazer
    from difflid.image import to_tensor
    from difflid.views import Source, reduce

    torch.set_num_threads(threads)
    dehazer = Dehazer.from_pretrained(model)
    picture = enlarged(megapixels)
    size = dehazer.prior.spec.guide_size
    source = Source(picture.samples.shape[:2], lambda *part: to_tensor(picture.colours(*part)))
    guide = reduce(source, size, size)
    steps = (dehazer.config.content_timestep, dehazer.config.haze_timestep)
    prior = median(lambda: dehazer.prior.encode(guide, steps))
    condition = median(lambda: dehazer.encode(guide))
    whole = median(lambda: dehazer.dehaze(picture, detail=path))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    shown = (f"{value:.3f}" for value in (prior, max(condition - prior, 0), whole, whole / megapixels, peak))
    print(COLUMNS.format(f"{megapixels:g}", path, *shown), flush=True)


def enlarged(megapixels: float) -> "Picture":
    import numpy as np
    from PIL import Image

    from difflid.image import from_samples

    side = round((megapixels * 1e6 / 12) ** 0.5)
    return from_samples(np.asarray(Image.open(PHOTO).convert("RGB").resize((4 * side, 3 * side))), "RGB")


def median(work: Callable[[], object]) -> float:
    """Median seconds of a few runs, after one that is not counted."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def compare(model: str, folder: Path, factor: float) -> None:
    from difflid import Dehazer, views
    from difflid.data.pairs import find_pairs, load_pair
    from difflid.metrics import psnr

    dehazer = Dehazer.from_pretrained(model)
    print(f"{'picture':>24} {'size':>11} {'exact dB':>9} {'fast dB':>9} {'fast - exact':>13}")
    differences = []
    for pair in find_pairs(folder):
        hazy, clear = load_pair(pair)
        height, width = hazy.shape[2:]
        views.FAST_PIXELS = round(height * width / factor**2)
        condition = dehazer.encode(hazy)
        exact, fast = (
            psnr((dehazer.restore(hazy, condition, detail=detail).clear * 255).round() / 255, clear).item()
            for detail in ("exact", "fast")
        )
        differences.append(fast - exact)
        print(f"{pair.name:>24} {width:>5}x{height:<5} {exact:9.3f} {fast:9.3f} {fast - exact:+13.3f}", flush=True)
    print(f"{'mean':>24} {'':>11} {'':>9} {'':>9} {statistics.mean(differences):+13.3f}")


if __name__ == "__main__":
    main()
