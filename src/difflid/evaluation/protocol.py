"""How a number was computed: what is done to a restored picture before it is measured, and what is measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

from difflid import metrics
from difflid.errors import ConfigError, DataError
from difflid.evaluation.no_reference import no_reference
from difflid.evaluation.scale import reduced

__all__ = ["PROTOCOLS", "Protocol", "named_protocol"]

# Luma of ITU-R BT.601 in studio range, 16 to 235 of 255, as MATLAB's rgb2ycbcr gives it to papers that measure "on Y".
STUDIO_LUMA, STUDIO_BLACK = (65.481 / 255, 128.553 / 255, 24.966 / 255), 16 / 255


@dataclass(frozen=True)
class Protocol:
    """The conditions that make two numbers comparable. Pictures are whole, one at a time."""

    name: str
    longest_side: int | None = None  # pixels; larger pictures are reduced to it before the method sees them
    round_to_8_bit: bool = True  # restored pictures are rounded to 256 levels, as in a file
    crop: int = 0  # pixels left out at each side
    psnr_cap: float = 60.0  # dB; more counts as this, so that identical pictures (inf) can be averaged
    colour_space: Literal["sRGB", "luma"] = "sRGB"  # of PSNR, SSIM and MS-SSIM; CIEDE2000 has its own
    ssim: str = "Gaussian 11 x 11, sigma 1.5, population covariance, mean over the channels"
    models: str = "exact (levels, where there are, look at every pixel), at full strength, pictures without haze too"
    ms_ssim: str = "five scales, weights of Wang 2003; only where no side is under 161 pixels"
    average: str = "per picture, then over the pictures of a set"

    def described(self) -> dict[str, object]:
        """Give all conditions, as the results file states them."""
        return asdict(self)

    def prepared(self, image: Tensor) -> Tensor:
        """Reduce a hazy or clear picture (1, 3, H, W) to the longest side, if there is one, in 8 bit as in a file."""
        return image if self.longest_side is None else (reduced(image, self.longest_side) * 255).round() / 255

    def finished(self, restored: Tensor) -> Tensor:
        """Clamp to [0, 1] and round as the protocol says, (1, 3, H, W)."""
        clamped = restored.clamp(0, 1)
        return (clamped * 255).round() / 255 if self.round_to_8_bit else clamped

    def compare(self, restored: Tensor, clear: Tensor) -> dict[str, float]:
        """Measure a finished picture against the clear one, both (1, 3, H, W)."""
        a, b = self._compared(restored), self._compared(clear)
        scores = {"psnr": self.psnr(restored, clear), "ssim": metrics.ssim(a, b).item()}
        if min(a.shape[2:]) >= metrics.MS_SSIM_LEAST:
            scores["ms_ssim"] = metrics.ms_ssim(a, b).item()
        return scores | {"ciede2000": metrics.ciede2000(self.cropped(restored), self.cropped(clear)).item()}

    def psnr(self, image: Tensor, clear: Tensor) -> float:
        """Measure PSNR in dB up to the cap, both pictures (1, 3, H, W)."""
        return min(metrics.psnr(self._compared(image), self._compared(clear)).item(), self.psnr_cap)

    def judge(self, restored: Tensor, hazy: Tensor) -> dict[str, float]:
        """Measure a finished picture where no clear one is known, both (1, 3, H, W)."""
        return no_reference(self.cropped(restored), self.cropped(hazy))

    def _compared(self, image: Tensor) -> Tensor:
        cropped = self.cropped(image)
        return cropped if self.colour_space == "sRGB" else _studio_luma(cropped)

    def cropped(self, image: Tensor) -> Tensor:
        """Cut off the border that is left out, (1, 3, H, W)."""
        height, width = (size - 2 * self.crop for size in image.shape[2:])
        if min(height, width) < metrics.SSIM_WINDOW:
            raise DataError(f"expected at least 11 x 11 pixels to measure, got {width} x {height}")
        return image[..., self.crop : self.crop + height, self.crop : self.crop + width]


PROTOCOLS: Mapping[str, Protocol] = {
    "full": Protocol("full"),
    "unrounded": Protocol("unrounded", round_to_8_bit=False),
    "luma": Protocol("luma", colour_space="luma"),
    "reduced": Protocol("reduced", longest_side=640),
}


def named_protocol(name: str) -> Protocol:
    """Look a protocol up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _studio_luma(image: Tensor) -> Tensor:
    """Give the luma of (1, 3, H, W) three times, in the shape the metrics take."""
    weights = torch.tensor(STUDIO_LUMA, dtype=torch.float64).view(1, 3, 1, 1)
    return ((image.double() * weights).sum(dim=1, keepdim=True) + STUDIO_BLACK).expand(-1, 3, -1, -1)
