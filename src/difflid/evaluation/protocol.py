"""How a number was computed: what is done to a restored picture before it is measured, and what is measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

from difflid import metrics
from difflid.errors import ConfigError, DataError
from difflid.evaluation.no_reference import no_reference

__all__ = ["PROTOCOLS", "Protocol", "named_protocol"]


@dataclass(frozen=True)
class Protocol:
    """The conditions that make two numbers comparable. Pictures are whole, at their own size, one at a time."""

    name: str
    round_to_8_bit: bool = True  # restored pictures are rounded to 256 levels, as in a file
    crop: int = 0  # pixels left out at each side
    psnr_cap: float = 60.0  # dB; more counts as this, so that identical pictures (inf) can be averaged
    colour_space: str = "sRGB"
    ssim: str = "Gaussian 11 x 11, sigma 1.5, population covariance, mean over R, G, B"
    average: str = "per picture, then over the pictures of a set"

    def described(self) -> dict[str, object]:
        """Give all conditions, as the results file states them."""
        return asdict(self)

    def finished(self, restored: Tensor) -> Tensor:
        """Clamp to [0, 1] and round as the protocol says, (1, 3, H, W)."""
        clamped = restored.clamp(0, 1)
        return (clamped * 255).round() / 255 if self.round_to_8_bit else clamped

    def compare(self, restored: Tensor, clear: Tensor) -> dict[str, float]:
        """Measure a finished picture against the clear one, both (1, 3, H, W)."""
        a, b = self._cropped(restored), self._cropped(clear)
        return {
            "psnr": self.psnr(restored, clear),
            "ssim": metrics.ssim(a, b).item(),
            "ciede2000": metrics.ciede2000(a, b).item(),
        }

    def psnr(self, image: Tensor, clear: Tensor) -> float:
        """Measure PSNR in dB up to the cap, both pictures (1, 3, H, W)."""
        return min(metrics.psnr(self._cropped(image), self._cropped(clear)).item(), self.psnr_cap)

    def judge(self, restored: Tensor, hazy: Tensor) -> dict[str, float]:
        """Measure a finished picture where no clear one is known, both (1, 3, H, W)."""
        return no_reference(self._cropped(restored), self._cropped(hazy))

    def _cropped(self, image: Tensor) -> Tensor:
        height, width = (size - 2 * self.crop for size in image.shape[2:])
        if min(height, width) < metrics.SSIM_WINDOW:
            raise DataError(f"expected at least 11 x 11 pixels to measure, got {width} x {height}")
        return image[..., self.crop : self.crop + height, self.crop : self.crop + width]


PROTOCOLS: Mapping[str, Protocol] = {
    "full": Protocol("full"),
    "unrounded": Protocol("unrounded", round_to_8_bit=False),
}


def named_protocol(name: str) -> Protocol:
    """Look a protocol up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
