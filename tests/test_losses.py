"""Losses by name, against NumPy and scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, structural_similarity

from difflid.training.losses import LOSSES, picture_loss


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clear, noise = (torch.rand(2, 3, 20, 17, generator=generator) for _ in range(2))
    return 0.8 * clear + 0.2 * noise, clear


def test_l1_and_contrast_are_mean_absolute_errors() -> None:
    a, b = pictures()
    error = (a - b).numpy()
    assert LOSSES["l1"](a, b).item() == pytest.approx(np.abs(error).mean())
    expected = np.abs(np.diff(error, axis=3)).mean() + np.abs(np.diff(error, axis=2)).mean()
    assert LOSSES["contrast"](a, b).item() == pytest.approx(expected)


def test_ssim_is_that_of_scikit_image() -> None:
    a, b = pictures()
    each = [
        structural_similarity(
            x.numpy(),
            y.numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=0,
            data_range=1.0,
        )
        for x, y in zip(a, b, strict=True)
    ]
    assert LOSSES["ssim"](a, b).item() == pytest.approx(1 - np.mean(each), abs=1e-5)


def test_frequency_is_the_modulus_of_the_spectrum() -> None:
    a, b = pictures()
    expected = np.abs(np.fft.rfft2((a - b).numpy(), norm="ortho")).mean()
    assert LOSSES["frequency"](a, b).item() == pytest.approx(expected, rel=1e-5)


def test_l2_is_what_psnr_measures() -> None:
    a, b = pictures()
    assert LOSSES["l2"](a, b).item() == pytest.approx(mean_squared_error(a.numpy(), b.numpy()), rel=1e-5)


def test_decibels_are_those_of_the_mean_psnr() -> None:
    a, b = pictures()
    ratio = np.mean(
        [10 * np.log10(1 + mean_squared_error(x.numpy(), y.numpy()) / 3e-4) for x, y in zip(a, b, strict=True)]
    )
    assert LOSSES["decibels"](a, b).item() == pytest.approx(ratio * np.log(10) / 10, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_pictures_have_no_loss_and_a_finite_gradient(name: str) -> None:
    _, clear = pictures()
    restored = clear.clone().requires_grad_()
    loss = LOSSES[name](restored, clear)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert restored.grad is not None
    assert restored.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_down_the_gradient_brings_the_picture_nearer(name: str) -> None:
    restored, clear = pictures()
    restored.requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](restored, clear), restored)
    nearer = restored - 0.02 * gradient / gradient.abs().max()
    assert LOSSES[name](nearer, clear) < LOSSES[name](restored, clear)


def test_a_sum_of_losses_is_weighted() -> None:
    a, b = pictures()
    total = picture_loss({"l1": 1.0, "contrast": 0.5}, a, b)
    assert total.item() == pytest.approx((LOSSES["l1"](a, b) + 0.5 * LOSSES["contrast"](a, b)).item())


def test_l1_alone_is_l1_exactly() -> None:
    assert torch.equal(picture_loss({"l1": 1.0}, *pictures()), LOSSES["l1"](*pictures()))
