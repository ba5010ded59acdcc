"""The metrics against scikit-image and a scipy re-implementation."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import color
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from difflid.metrics import ciede2000, ms_ssim, psnr, ssim


def pictures(height: int, width: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    clear = torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    noise = torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    return clear, (0.7 * clear + 0.3 * noise)


def rows(image: torch.Tensor) -> list[np.ndarray]:
    return [picture.permute(1, 2, 0).numpy() for picture in image]


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_psnr_agrees_with_scikit_image(data_range: float) -> None:
    a, b = (image * data_range for image in pictures(9, 14))
    expected = [peak_signal_noise_ratio(x, y, data_range=data_range) for x, y in zip(rows(a), rows(b), strict=True)]
    assert psnr(a, b, data_range=data_range).tolist() == pytest.approx(expected, abs=1e-9)


def test_psnr_of_identical_pictures_is_infinite() -> None:
    a, _ = pictures(3, 3)
    assert psnr(a, a).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("size", [(11, 11), (12, 31), (40, 25)])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_agrees_with_scikit_image(size: tuple[int, int], data_range: float) -> None:
    a, b = (image * data_range for image in pictures(*size))
    expected = [
        structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=data_range
        )
        for x, y in zip(rows(a), rows(b), strict=True)
    ]
    assert ssim(a, b, data_range=data_range).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ciede2000_agrees_with_scikit_image(data_range: float) -> None:
    a, b = pictures(17, 23)
    a[0, :, :2], b[0, :, 1:3] = 0.4, 0.0  # greys and blacks have no hue
    a[1], b[1] = (a[1] * 255).round() / 255, a[1].flip(0)
    expected = [
        color.deltaE_ciede2000(color.rgb2lab(x), color.rgb2lab(y)).mean() for x, y in zip(rows(a), rows(b), strict=True)
    ]
    found = ciede2000(a * data_range, b * data_range, data_range=data_range)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim, ciede2000])
def test_each_picture_of_a_batch_has_its_own_value(metric) -> None:
    a, b = pictures(13, 12, batch=3)
    alone = [metric(a[i : i + 1], b[i : i + 1]).item() for i in range(3)]
    assert metric(a, b).tolist() == pytest.approx(alone, abs=1e-12)
    assert metric(a.float(), b.float()).dtype is torch.float64


def scipy_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    result = 1.0

    def blur(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    for scale, weight in enumerate(weights):
        mx, my = blur(x), blur(y)
        structure = (2 * (blur(x * y) - mx * my) + 9e-4) / (blur(x * x) - mx**2 + blur(y * y) - my**2 + 9e-4)
        luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        result *= (luminance * structure if scale == 4 else structure).mean() ** weight
        x, y = (
            (values.reshape(values.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)) for values in (x, y))
            if scale < 4
            else (x, y)
        )
    return result


def test_ms_ssim_agrees_with_scipy() -> None:
    a, b = pictures(176, 192, batch=1)
    expected = np.mean([scipy_ms_ssim(a[0, c].numpy(), b[0, c].numpy()) for c in range(3)])
    assert ms_ssim(a, b).item() == pytest.approx(expected, abs=1e-9)
    assert ms_ssim(a[..., :161, :163], a[..., :161, :163]).item() == pytest.approx(1)


@pytest.mark.parametrize(("metric", "size", "least"), [(ssim, 10, "11"), (ms_ssim, 160, "161")])
def test_a_picture_smaller_than_the_window_is_an_error(metric, size: int, least: str) -> None:
    a, b = pictures(size, 200, batch=1)
    with pytest.raises(ValueError, match=least):
        metric(a, b)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 5\)"):
        psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match="B, 3, H, W"):
        psnr(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
