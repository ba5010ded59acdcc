import pytest
import torch

from difflid.tiling import automatic_side, free_memory, pad_to_multiple, tiles


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (64, 64), (67, 129)])
@pytest.mark.parametrize("side", [8, 24, 1000])
def test_tiles_put_a_picture_together_again(size: tuple[int, int], side: int) -> None:
    picture = torch.rand(2, 3, *size)
    result = torch.full_like(picture, -1.0)
    for tile in tiles(*size, size=side, halo=5):
        top, left, bottom, right = tile.outer
        piece = pad_to_multiple(picture[..., top:bottom, left:right], 8)
        result[..., tile.inner[0] : tile.inner[2], tile.inner[1] : tile.inner[3]] = tile.keep(piece)
    assert torch.equal(result, picture)


def test_a_tile_sees_its_halo_inside_the_picture() -> None:
    inner = [tile for tile in tiles(64, 64, size=16, halo=8) if tile.inner == (16, 32, 32, 48)]
    assert inner[0].outer == (8, 24, 40, 56)


def test_padding_repeats_the_edge() -> None:
    padded = pad_to_multiple(torch.arange(3.0).view(1, 1, 1, 3), 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0, 2].tolist() == [0, 1, 2, 2]


def test_a_tile_and_its_halo_fit_into_half_of_the_free_memory() -> None:
    frees = range(0, 2**33, 2**26)
    sides = [automatic_side(free, bytes_per_pixel=800, halo=96) for free in frees]
    assert sides == sorted(sides)
    assert (sides[0], sides[-1]) == (256, 1024)
    chosen = [(free, side) for free, side in zip(frees, sides, strict=True) if side > 256]
    assert all((side + 2 * 96) ** 2 * 800 <= free / 2 for free, side in chosen)


def test_the_free_memory_is_found() -> None:
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50
