"""How far a photograph dehazed in tiles, or in a batch, is from the same photograph dehazed at once.

python scripts/check_tiles.py [--photos examples] [--tiles 128 400]
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from difflid import Dehazer, image
from difflid.data.photos import photo_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("examples"))
    parser.add_argument("--tiles", type=int, nargs="+", default=[128, 400])
    arguments = parser.parse_args()
    dehazer = Dehazer.from_pretrained()
    for path in photo_files(arguments.photos):
        hazy = image.to_tensor(image.load(path).pixels)
        whole = dehaze(dehazer, hazy, tile=0)
        found = {f"tile {side}": dehaze(dehazer, hazy, tile=side) for side in arguments.tiles}
        found["batch"] = dehaze(dehazer, torch.cat((hazy, hazy.flip(-1))), tile=0)[:1]
        print(path, *(f"{name}: {(clear - whole).abs().max().item():.1e}" for name, clear in found.items()), sep="  ")


def dehaze(dehazer: Dehazer, hazy: Tensor, *, tile: int) -> Tensor:
    return dehazer.restore(hazy, dehazer.encode(hazy), tile=tile).clear


if __name__ == "__main__":
    main()
