import pytest
import torch

from difflid.tiling import pad_to_multiple, tiles


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (64, 64), (67, 129)])
@pytest.mark.parametrize("side", [8, 24, 1000])
def test_tiles_put_a_picture_together_again(size: tuple[int, int], side: int) -> None:
    picture = torch.rand(2, 3, *size)
    result = torch.full_like(picture, -1.0)
    for tile in tiles(*size, size=side, halo=5):
        tile.paste(tile.cut(picture), result)
    assert torch.equal(result, picture)


def test_a_tile_sees_its_halo_inside_the_picture() -> None:
    inner = [tile for tile in tiles(64, 64, size=16, halo=8) if tile.inner == (16, 32, 32, 48)]
    assert inner[0].outer == (8, 24, 40, 56)


def test_what_lies_beyond_the_picture_is_dropped() -> None:
    picture, padded = torch.empty(1, 1, 5, 6), pad_to_multiple(torch.arange(30.0).view(1, 1, 5, 6), 8)
    for tile in tiles(8, 8, size=8, halo=0):
        tile.paste(tile.cut(padded), picture)
    assert torch.equal(picture, torch.arange(30.0).view(1, 1, 5, 6))


def test_padding_repeats_the_edge() -> None:
    padded = pad_to_multiple(torch.arange(3.0).view(1, 1, 1, 3), 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0, 2].tolist() == [0, 1, 2, 2]
