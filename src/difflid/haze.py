"""The scattering model of haze, and two classical methods that invert it.

Haze mixes the clear picture J with the airlight A along the line of sight:

    I = J t + A (1 - t),    t = exp(-beta d)

for the transmission t, the depth d and the scattering coefficient beta. Equations are cited from

- He 2009: He, Sun, Tang, "Single image haze removal using dark channel prior", CVPR 2009;
- He 2013: He, Sun, Tang, "Guided image filtering", TPAMI 2013 (first at ECCV 2010);
- Zhu 2015: Zhu, Mai, Shao, "A fast single image haze removal algorithm using color attenuation prior", TIP 2015.

Pictures are RGB float tensors (B, 3, H, W) in [0, 1], of any size from 1 x 1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "add_haze",
    "attenuation_transmission",
    "colour_attenuation_dehaze",
    "dark_channel",
    "dark_channel_dehaze",
    "dark_transmission",
    "estimate_airlight",
    "guided_filter",
    "guided_slope",
    "luma",
    "remove_haze",
    "saturation",
    "transmission_from_depth",
]

HAZIEST_SHARE = 0.001  # He 2009, section 4.4: the airlight is looked for in the haziest 0.1 % of the pixels
WINDOW = 15  # pixels; He 2009, section 5, and Zhu 2015, section V
OMEGA = 0.95  # share of the haze to remove; He 2009, equation 12
LEAST_TRANSMISSION = 0.1  # He 2009, equation 16
GUIDE_RADIUS, GUIDE_EPS = 60, 1e-3  # He 2013, section 4 on haze removal
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
DEPTH_BIAS, DEPTH_VALUE, DEPTH_SATURATION = 0.121779, 0.959710, -0.780245  # Zhu 2015, theta_0, theta_1, theta_2


def add_haze(clear: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
    """Veil a clear picture, He 2009 equation 1: ``I = J t + A (1 - t)``.

    Args:
        clear: (B, 3, H, W).
        transmission: in (0, 1], (B, 1, H, W) or anything that broadcasts.
        airlight: in [0, 1], (B, 3, 1, 1) or anything that broadcasts.

    >>> add_haze(torch.zeros(1, 3, 1, 1), torch.tensor(0.25), torch.tensor(1.0)).flatten().tolist()
    [0.75, 0.75, 0.75]
    """
    return clear * transmission + airlight * (1 - transmission)


def remove_haze(hazy: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
    """Solve equation 1 of He 2009 for J, ``J = (I - A) / t + A``; not clamped, shapes as in `add_haze`.

    >>> remove_haze(torch.full((1, 3, 1, 1), 0.75), torch.tensor(0.25), torch.tensor(1.0)).flatten().tolist()
    [0.0, 0.0, 0.0]
    """
    return (hazy - airlight) / transmission + airlight


def transmission_from_depth(depth: Tensor, beta: float | Tensor) -> Tensor:
    """Attenuate along the line of sight, He 2009 equation 2: ``t = exp(-beta d)``.

    >>> transmission_from_depth(torch.zeros(2), 1.5).tolist()
    [1.0, 1.0]
    """
    return torch.exp(-beta * depth)


def dark_channel(image: Tensor, window: int = WINDOW) -> Tensor:
    """Take the least channel in a square window around each pixel, He 2009 equation 5.

    Args:
        image: (B, C, H, W).
        window: side of the square in pixels, odd; it is cut off at the border.

    Returns:
        (B, 1, H, W).

    >>> dark_channel(torch.tensor([0.5, 0.2, 0.9]).view(1, 3, 1, 1), window=3).item()
    0.20000000298023224
    """
    return _window_least(image.amin(dim=1, keepdim=True), window)


def estimate_airlight(image: Tensor, window: int = WINDOW) -> Tensor:
    """Take the brightest of the 0.1 % of the pixels with the highest dark channel, He 2009 section 4.4.

    Returns:
        (B, 3, 1, 1) in the range of ``image``.

    >>> estimate_airlight(torch.full((1, 3, 4, 4), 0.5)).flatten().tolist()
    [0.5, 0.5, 0.5]
    """
    return _brightest_of_haziest(image, dark_channel(image, window))


def guided_filter(guide: Tensor, source: Tensor, radius: int, eps: float) -> Tensor:
    """Smooth ``source`` but keep the edges of ``guide``, He 2013 equations 5, 6 and 8 for a grey guide.

    Args:
        guide: (B, 1, H, W).
        source: (B, C, H, W).
        radius: windows are squares of side 2 radius + 1, cut off at the border.
        eps: variance of the guide below which edges are smoothed away.

    Returns:
        (B, C, H, W), computed in float64 and given back in the dtype of ``source``.

    >>> guided_filter(torch.rand(1, 1, 5, 7), torch.ones(1, 2, 5, 7), radius=9, eps=1e-3).shape
    torch.Size([1, 2, 5, 7])
    """
    wide_guide, wide_source = guide.double(), source.double()
    slope = _slope(wide_guide, wide_source, radius, eps)
    offset = _box_mean(wide_source, radius) - slope * _box_mean(wide_guide, radius)
    return (_box_mean(slope, radius) * wide_guide + _box_mean(offset, radius)).to(source.dtype)


def guided_slope(guide: Tensor, source: Tensor, radius: int, eps: float) -> Tensor:
    """Say how ``source`` goes with ``guide``, He 2013 equation 5 and the mean of equation 8; as in `guided_filter`."""
    return _box_mean(_slope(guide.double(), source.double(), radius, eps), radius).to(source.dtype)


def _slope(guide: Tensor, source: Tensor, radius: int, eps: float) -> Tensor:
    mean_guide, mean_source = _box_mean(guide, radius), _box_mean(source, radius)
    variance = _box_mean(guide.square(), radius) - mean_guide.square()
    covariance = _box_mean(guide * source, radius) - mean_guide * mean_source
    return covariance / (variance + eps)


def luma(image: Tensor) -> Tensor:
    """Weigh the channels of ``(B, 3, H, W)`` by ITU-R BT.601: ``(B, 1, H, W)``."""
    red, green, blue = image.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def saturation(image: Tensor) -> Tensor:
    """HSV saturation of ``(B, 3, H, W)``, 0 for black: ``(B, 1, H, W)``."""
    value = image.amax(dim=1, keepdim=True)
    return (value - image.amin(dim=1, keepdim=True)) / value.clamp(min=1e-6)


def dark_transmission(image: Tensor, airlight: Tensor, *, window: int = WINDOW, omega: float = OMEGA) -> Tensor:
    """Estimate the transmission from the dark channel, He 2009 equation 12, refined by the guided filter.

    Args:
        image: (B, 3, H, W).
        airlight: (B, 3, 1, 1).
        window: of the dark channel, in pixels, odd.
        omega: share of the haze to remove; the rest keeps distance visible.

    Returns:
        (B, 1, H, W) in [0.1, 1].
    """
    normal = image / airlight.clamp(min=1 / 255)
    return _refine(image, 1 - omega * dark_channel(normal, window)).clamp(LEAST_TRANSMISSION, 1)


def dark_channel_dehaze(image: Tensor, *, window: int = WINDOW, omega: float = OMEGA) -> Tensor:
    """Remove haze as He, Sun, Tang 2009 do (equation 16), with the guided filter in place of soft matting.

    Returns:
        (B, 3, H, W) clamped to [0, 1].

    >>> dark_channel_dehaze(torch.rand(1, 3, 1, 1)).shape
    torch.Size([1, 3, 1, 1])
    """
    airlight = estimate_airlight(image, window)
    return remove_haze(image, dark_transmission(image, airlight, window=window, omega=omega), airlight).clamp(0, 1)


def attenuation_transmission(image: Tensor, *, beta: float = 1.0) -> Tensor:
    """Estimate the transmission from brightness and saturation, Zhu 2015.

    Haze makes things bright and pale: the depth is d = 0.121779 + 0.959710 v - 0.780245 s (equation 8), its least
    value in a window, and smooth but for the edges of the picture; t = exp(-beta d).

    Returns:
        (B, 1, H, W) in [0.1, 0.9], the limits of the paper's recovery step.
    """
    return transmission_from_depth(_refine(image, _attenuation_depth(image)), beta).clamp(LEAST_TRANSMISSION, 0.9)


def colour_attenuation_dehaze(image: Tensor, *, beta: float = 1.0) -> Tensor:
    """Remove haze as Zhu, Mai, Shao 2015 do: depth by equation 8, airlight from the farthest 0.1 % of the pixels.

    Returns:
        (B, 3, H, W) clamped to [0, 1].

    >>> colour_attenuation_dehaze(torch.rand(1, 3, 2, 3)).shape
    torch.Size([1, 3, 2, 3])
    """
    airlight = _brightest_of_haziest(image, _attenuation_depth(image))
    return remove_haze(image, attenuation_transmission(image, beta=beta), airlight).clamp(0, 1)


def _attenuation_depth(image: Tensor) -> Tensor:
    value = image.amax(dim=1, keepdim=True)
    return _window_least(DEPTH_BIAS + DEPTH_VALUE * value + DEPTH_SATURATION * saturation(image), WINDOW)


def _brightest_of_haziest(image: Tensor, haziness: Tensor) -> Tensor:
    flat = image.flatten(2)  # (B, 3, N)
    count = max(1, int(flat.shape[2] * HAZIEST_SHARE))
    haziest = haziness.flatten(1).topk(count, dim=1).indices  # (B, count)
    candidates = flat.gather(2, haziest.unsqueeze(1).expand(-1, flat.shape[1], -1))  # (B, 3, count)
    best = candidates.sum(dim=1, keepdim=True).argmax(dim=2, keepdim=True)  # (B, 1, 1)
    return candidates.gather(2, best.expand(-1, flat.shape[1], -1)).unsqueeze(3)


def _refine(image: Tensor, coarse: Tensor) -> Tensor:
    return guided_filter(luma(image), coarse, GUIDE_RADIUS, GUIDE_EPS)


def _window_least(channel: Tensor, window: int) -> Tensor:
    half = window // 2  # max_pool2d pads with -inf, so the border takes no part
    rows = F.max_pool2d(-channel, (window, 1), stride=1, padding=(half, 0))
    return -F.max_pool2d(rows, (1, window), stride=1, padding=(0, half))


def _box_mean(values: Tensor, radius: int) -> Tensor:
    return _line_mean(_line_mean(values, radius, 2), radius, 3)


def _line_mean(values: Tensor, radius: int, dim: int) -> Tensor:
    """Mean over 2 radius + 1 neighbours along ``dim``, fewer at the border, by differences of cumulative sums."""
    size = values.shape[dim]
    place = torch.arange(size, device=values.device)
    first, end = (place - radius).clamp(min=0), (place + radius + 1).clamp(max=size)
    sums = torch.cat([torch.zeros_like(values.narrow(dim, 0, 1)), values.cumsum(dim)], dim)
    count = (end - first).view([-1 if axis == dim else 1 for axis in range(values.ndim)])
    return (sums.index_select(dim, end) - sums.index_select(dim, first)) / count
