"""The scattering model and the classical methods, against direct re-implementations."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from difflid import haze

SIZES = [(1, 1), (1, 9), (2, 3), (17, 16), (67, 129)]


def picture(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(width), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_removing_undoes_adding(size: tuple[int, int]) -> None:
    clear = picture(*size, batch=2)
    transmission = haze.transmission_from_depth(torch.rand(2, 1, *size, dtype=torch.float64), 1.2)
    airlight = torch.tensor([0.8, 0.85, 0.9], dtype=torch.float64).view(1, 3, 1, 1)
    hazy = haze.add_haze(clear, transmission, airlight)
    assert torch.allclose(haze.remove_haze(hazy, transmission, airlight), clear)
    assert (hazy - airlight).abs().le((clear - airlight).abs()).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [1, 3, 15])
def test_dark_channel_is_the_least_of_the_window(size: tuple[int, int], window: int) -> None:
    image = picture(*size)
    expected = ndimage.minimum_filter(image[0].amin(dim=0).numpy(), window, mode="nearest")
    assert np.array_equal(haze.dark_channel(image, window)[0, 0].numpy(), expected)


def test_airlight_is_the_brightest_of_the_haziest() -> None:
    image = torch.full((1, 3, 50, 60), 0.2)
    image[..., :10, :] = torch.tensor([0.7, 0.8, 0.9]).view(3, 1, 1)
    image[..., 2, 4] = torch.tensor([0.6, 0.8, 0.9])  # darker, and in the windows around it too
    image[..., 40, 40] = 1.0  # a white thing among dark ones is not airlight
    assert torch.equal(haze.estimate_airlight(image, 3).flatten(), torch.tensor([0.7, 0.8, 0.9]))
    assert haze.estimate_airlight(image.expand(2, -1, -1, -1), 3).shape == (2, 3, 1, 1)


def direct_guided_filter(guide: np.ndarray, source: np.ndarray, radius: int, eps: float) -> np.ndarray:
    def mean(values: np.ndarray, y: int, x: int) -> float:
        return values[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].mean()

    slope, offset = np.empty_like(guide), np.empty_like(guide)
    for y, x in np.ndindex(*guide.shape):
        variance = mean(guide**2, y, x) - mean(guide, y, x) ** 2
        slope[y, x] = (mean(guide * source, y, x) - mean(guide, y, x) * mean(source, y, x)) / (variance + eps)
        offset[y, x] = mean(source, y, x) - slope[y, x] * mean(guide, y, x)
    return np.array([[mean(slope, y, x) * guide[y, x] + mean(offset, y, x) for x in range(guide.shape[1])]
                     for y in range(guide.shape[0])])  # fmt: skip


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 13)])
@pytest.mark.parametrize("radius", [0, 2, 60])
def test_guided_filter_agrees_with_the_definition(size: tuple[int, int], radius: int) -> None:
    image = picture(*size)
    guide, source = image[:, :1], image[:, 1:]
    found = haze.guided_filter(guide, source, radius, 1e-2)
    for channel in range(2):
        expected = direct_guided_filter(guide[0, 0].numpy(), source[0, channel].numpy(), radius, 1e-2)
        assert np.allclose(found[0, channel].numpy(), expected)


@pytest.mark.parametrize("dehaze", [haze.dark_channel_dehaze, haze.colour_attenuation_dehaze])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [None, 0.0, 1.0])
def test_dehazers_take_any_size_and_content(dehaze, size: tuple[int, int], value: float | None) -> None:
    image = picture(*size).float() if value is None else torch.full((1, 3, *size), value)
    result = dehaze(image)
    assert result.shape == image.shape
    assert result.dtype is torch.float32
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("dehaze", [haze.dark_channel_dehaze, haze.colour_attenuation_dehaze])
def test_a_batch_is_dehazed_one_by_one(dehaze) -> None:
    batch = picture(20, 30, batch=3)
    assert torch.allclose(dehaze(batch), torch.cat([dehaze(image[None]) for image in batch]))


def test_dark_channel_dehazing_recovers_a_scene_that_obeys_its_prior() -> None:
    clear = picture(80, 80) * 0.8
    clear[:, 0] *= 0.02  # a dark channel of nearly 0
    airlight = torch.tensor([0.9, 0.9, 0.9], dtype=torch.float64).view(1, 3, 1, 1)
    transmission = torch.full((1, 1, 80, 80), 0.6, dtype=torch.float64)
    transmission[..., :20, :20] = 0.001
    hazy = haze.add_haze(clear, transmission, airlight)
    found = haze.dark_channel_dehaze(hazy, omega=1.0)
    assert torch.allclose(haze.estimate_airlight(hazy), airlight, atol=0.01)
    assert (found - clear)[..., 40:, 40:].abs().mean() < 0.25 * (hazy - clear)[..., 40:, 40:].abs().mean()


def test_colour_attenuation_sees_more_haze_in_pale_and_bright_places() -> None:
    image = torch.zeros(1, 3, 10, 200)
    image[..., :100] = torch.tensor([0.1, 0.5, 0.1]).view(3, 1, 1)
    image[..., 100:] = 0.8
    transmission = haze.attenuation_transmission(image)
    assert transmission[0, 0, 5, 0] == pytest.approx(0.9)
    assert transmission[0, 0, 5, -1] == pytest.approx(np.exp(-(0.121779 + 0.959710 * 0.8)), abs=0.02)
