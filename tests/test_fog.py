"""The statistics of fog against SciPy and scikit-image, and what is made of them."""

import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import color, measure

from difflid.evaluation.fog import fog_density, fog_statistics
from difflid.haze import LUMA, add_haze

LEVEL = 1 / 255


def scene(height: int = 90, width: int = 120) -> torch.Tensor:
    """Coloured blobs at several scales, with 8 bit."""
    noise = np.random.default_rng(0).standard_normal((4, height, width, 3))
    layers = [ndimage.gaussian_filter(each, (s, s, 0)) * s for each, s in zip(noise, (1, 3, 9, 27), strict=True)]
    values = np.sum(layers, axis=0)
    pixels = np.round(255 * (0.4 + 0.15 * values / values.std()).clip(0, 1)) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def blur(values: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(values, 7 / 6, radius=3, mode="nearest")


def local(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = blur(values)
    return mean, np.sqrt((blur(values**2) - mean**2).clip(0))


def test_the_statistics_are_those_of_scipy_and_scikit_image() -> None:
    rgb = scene()[0].permute(1, 2, 0).numpy()
    red, green, blue = np.moveaxis(rgb, 2, 0)
    grey, red_green, yellow_blue = rgb @ LUMA, red - green, (red + green) / 2 - blue
    mean, deviation = local(grey)
    normalised = (grey - mean) / (deviation + LEVEL)
    products = (normalised[1:] * normalised[:-1]).ravel()
    expected = {
        "normalised_variance": normalised.var(),
        "positive_products": (products[products > 0] ** 2).sum() / products.size,
        "negative_products": (products[products < 0] ** 2).sum() / products.size,
        "sharpness": deviation.mean(),
        "relative_sharpness": (deviation / (mean + LEVEL)).mean(),
        "contrast": grey.std(),
        "contrast_red_green": local(red_green)[1].mean(),
        "contrast_yellow_blue": local(yellow_blue)[1].mean(),
        "dark_channel": rgb.min(axis=2).mean(),
        "saturation": color.rgb2hsv(rgb)[..., 1].mean(),
        "colourfulness": np.hypot(red_green.std(), yellow_blue.std())
        + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()),
    }
    found = fog_statistics(scene())
    assert found.pop("entropy") == pytest.approx(measure.shannon_entropy(np.rint(255 * grey)), abs=1e-3)  # of ties
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_density_rises_with_the_haze() -> None:
    airlight = torch.full((1, 3, 1, 1), 0.85)
    found = [fog_density(add_haze(scene(), torch.tensor(1 - veil), airlight)) for veil in (0, 0.2, 0.4, 0.6, 0.8)]
    assert found == sorted(found)
    assert found[-1] - found[0] > 0.2


def test_a_large_picture_is_measured_small() -> None:
    large = torch.nn.functional.interpolate(scene(96, 128), scale_factor=4, mode="nearest")
    small = torch.nn.functional.interpolate(large, size=(192, 256), mode="bilinear", antialias=True)
    assert fog_density(large) == pytest.approx(fog_density(small), abs=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (300, 1)])
def test_any_size_has_a_density(size: tuple[int, int]) -> None:
    assert 0 < fog_density(torch.rand(1, 3, *size)) < 1


def test_the_coefficients_belong_to_the_statistics_and_say_how_good_they_are() -> None:
    model = json.loads(files("difflid.evaluation").joinpath("fog_density.json").read_text())
    assert list(model["weights"]) == list(fog_statistics(torch.rand(1, 3, 8, 8)))
    held_out = model["held_out"]
    assert held_out["mean_absolute_error"] < held_out["mean_absolute_error_of_a_constant"] / 2
