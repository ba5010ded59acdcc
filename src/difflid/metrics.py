"""How far a restored picture is from the clear one: PSNR, SSIM, MS-SSIM and CIEDE2000.

Pure functions of two sRGB pictures (B, 3, H, W) in [0, data_range]. Each gives one float64 value per picture, (B,).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MS_SSIM_LEAST", "SSIM_WINDOW", "ciede2000", "gaussian_mean", "ms_ssim", "psnr", "ssim"]

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, section 3.2
MS_SSIM_LEAST = (SSIM_WINDOW - 1) * 2 ** (len(MS_SSIM_WEIGHTS) - 1) + 1  # 161 pixels: the window fits the last scale

SRGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
D65 = (0.95047, 1.0, 1.08883)  # white of sRGB, 2 degree observer


def psnr(a: Tensor, b: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio over all pixels and channels in dB; inf where the pictures are identical.

    >>> psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1)).round(decimals=3).item()
    20.0
    """
    x, y = _checked(a, b)
    return 10 * torch.log10(data_range**2 / (x - y).square().flatten(1).mean(dim=1))


def ssim(a: Tensor, b: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity, mean over R, G and B and all places where the window fits (1: identical).

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    TIP 2004, equation 13 with the Gaussian 11 x 11 window of sigma 1.5.

    Raises:
        ValueError: a side is shorter than 11 pixels.

    >>> ssim(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)).item()
    1.0
    """
    x, y = _checked(a, b, least=SSIM_WINDOW)
    luminance, structure = _ssim_maps(x, y, data_range)
    return (luminance * structure).flatten(1).mean(dim=1)


def ms_ssim(a: Tensor, b: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity at five scales, per channel then mean.

    Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", 2003, equation 7.
    Contrast-structure terms below 0 count as 0; the picture is halved by the mean of 2 x 2 pixels.

    Raises:
        ValueError: a side is shorter than 161 pixels.
    """
    x, y = _checked(a, b, least=MS_SSIM_LEAST)
    result = torch.ones(x.shape[:2], dtype=torch.float64, device=x.device)  # (B, 3)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, structure = _ssim_maps(x, y, data_range)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        similarity = luminance * structure if last else structure
        result = result * similarity.mean(dim=(2, 3)).clamp(min=0) ** weight
    return result.mean(dim=1)


def ciede2000(a: Tensor, b: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Mean colour difference Delta E 2000 of two sRGB pictures under D65 (0: identical, about 1: just visible).

    Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula", Color Research & Application 2005.

    >>> ciede2000(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)).round(decimals=3).item()
    100.0
    """
    x, y = _checked(a, b)
    return _delta_e(_lab(x / data_range), _lab(y / data_range)).flatten(1).mean(dim=1)


def _checked(a: Tensor, b: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
        raise ValueError(f"expected two pictures of one shape (B, 3, H, W), got {tuple(a.shape)} and {tuple(b.shape)}")
    if min(a.shape[2:]) < least:
        raise ValueError(f"expected sides of at least {least} pixels, got {a.shape[3]} x {a.shape[2]}")
    return a.double(), b.double()


def _ssim_maps(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Give the luminance and the contrast-structure term of SSIM, (B, 3, H - 10, W - 10)."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    variances = _local_mean(x * x) - mean_x * mean_x + _local_mean(y * y) - mean_y * mean_y
    covariance = _local_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _local_mean(values: Tensor) -> Tensor:
    return gaussian_mean(values, SSIM_WINDOW, SSIM_SIGMA)


def gaussian_mean(values: Tensor, window: int, sigma: float) -> Tensor:
    """Average (B, C, H, W) with Gaussian weights wherever the window fits: (B, C, H - window + 1, W - window + 1)."""
    offset = torch.arange(window, dtype=values.dtype, device=values.device) - window // 2
    weights = torch.exp(-offset.square() / (2 * sigma**2))
    kernel = (weights / weights.sum()).repeat(values.shape[1], 1, 1, 1)  # (C, 1, 1, window)
    rows = F.conv2d(values, kernel, groups=values.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=values.shape[1])


def _halve(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True)


def _lab(rgb: Tensor) -> Tensor:
    """Convert sRGB in [0, 1] to CIE L*a*b* (B, 3, H, W): IEC 61966-2-1, then CIE 15."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", _constant(SRGB_TO_XYZ, rgb), linear) / _constant(D65, rgb).view(1, 3, 1, 1)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _constant(values: Sequence[object], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)


def _delta_e(first: Tensor, second: Tensor) -> Tensor:
    """Colour difference of two L*a*b* pictures, (B, H, W); the numbers in comments are Sharma's equations."""
    (l1, a1, b1), (l2, a2, b2) = first.unbind(dim=1), second.unbind(dim=1)
    g = 0.5 * (1 - _saturating((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2))  # 4
    a1, a2 = a1 * (1 + g), a2 * (1 + g)  # 5
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)  # 6
    h1, h2 = _hue(a1, b1), _hue(a2, b2)  # 7
    grey = c1 * c2 == 0
    turn = _hue_difference(h1, h2, grey)
    d_hue = 2 * (c1 * c2).sqrt() * torch.sin(torch.deg2rad(turn) / 2)  # 11
    return _weighted(l1, l2, c1, c2, _mean_hue(h1, h2, grey), d_hue)


def _weighted(l1: Tensor, l2: Tensor, c1: Tensor, c2: Tensor, hue: Tensor, d_hue: Tensor) -> Tensor:
    level, chroma = (l1 + l2) / 2, (c1 + c2) / 2  # 12, 13
    t = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.2 * _cos(4 * hue - 63)  # 15
    rotation = 60 * torch.exp(-(((hue - 275) / 25) ** 2))  # 16, doubled, in degrees
    off_middle = (level - 50).square()
    in_level = (l2 - l1) / (1 + 0.015 * off_middle / (20 + off_middle).sqrt())  # 8, 18
    in_chroma = (c2 - c1) / (1 + 0.045 * chroma)  # 9, 19
    in_hue = d_hue / (1 + 0.015 * chroma * t)  # 20
    coupling = -2 * _saturating(chroma) * torch.sin(torch.deg2rad(rotation))  # 17, 21
    total = in_level.square() + in_chroma.square() + in_hue.square() + coupling * in_chroma * in_hue  # 22
    return total.clamp(min=0).sqrt()


def _saturating(chroma: Tensor) -> Tensor:
    return (chroma**7 / (chroma**7 + 25.0**7)).sqrt()


def _hue(a: Tensor, b: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(b, a)) % 360


def _cos(degrees: Tensor) -> Tensor:
    return torch.cos(torch.deg2rad(degrees))


def _hue_difference(h1: Tensor, h2: Tensor, grey: Tensor) -> Tensor:
    """Signed difference in degrees, (-180, 180], 0 where one of the colours has no hue; equation 10."""
    turn = h2 - h1
    turn = torch.where(turn > 180, turn - 360, torch.where(turn < -180, turn + 360, turn))
    return turn.masked_fill(grey, 0)


def _mean_hue(h1: Tensor, h2: Tensor, grey: Tensor) -> Tensor:
    """Mean on the circle in degrees, the sum where one of the colours has no hue; equation 14."""
    total = h1 + h2
    across = torch.where(total < 360, total + 360, total - 360)
    mean = torch.where((h1 - h2).abs() > 180, across, total) / 2
    return torch.where(grey, total, mean)
