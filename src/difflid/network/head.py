"""The scattering head: haze obeys I = J t + A (1 - t), so the network predicts physics and the picture follows.

With the haze gain g = 1 / t - 1 the clear picture is J = I + g (I - A) + (1 - t) r. Where g = 0 there is no haze
and the picture is left as it is, residual included. Colour, what is not luma, has a gain of at most 2: real
airlight is not of one colour all over the sky, and a greater gain makes purple and yellow of the difference. The colour
of the veil itself, A (1 - t), is taken away in full all the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from difflid.haze import luma

__all__ = ["Scattering", "haze_from", "read_head", "restore", "transmission_from"]

SMALLEST_TRANSMISSION = 0.016  # bounds the gain, and with it the noise, at 60
LARGEST_RESIDUAL = 0.5
LARGEST_COLOUR_GAIN = 2.0


@dataclass(frozen=True)
class Scattering:
    """What the network saw in a picture."""

    transmission: Tensor  # (B, 1, H, W) in (0, 1]
    airlight: Tensor  # (B, 3, H, W) in [0, 1]
    residual: Tensor  # (B, 3, H, W) in [-0.5, 0.5]


def transmission_from(haze: Tensor) -> Tensor:
    """Turn haze, the logit of 1 - transmission, into the transmission, which has a least value."""
    return SMALLEST_TRANSMISSION + (1 - SMALLEST_TRANSMISSION) * torch.sigmoid(-haze)


def haze_from(transmission: Tensor) -> Tensor:
    """Undo `transmission_from`, up to a logit of 13."""
    return -torch.logit((transmission - SMALLEST_TRANSMISSION) / (1 - SMALLEST_TRANSMISSION), eps=2e-6)


def read_head(veil: Tensor, residual: Tensor) -> Scattering:
    """Turn the last layer into physical quantities, float32.

    Args:
        veil: ``(B, 4, H, W)``, haze (the logit of 1 - transmission) and airlight before its sigmoid.
        residual: ``(B, 3, H, W)`` before its bound.
    """
    haze, airlight = veil.float().split((1, 3), dim=1)
    return Scattering(transmission_from(haze), torch.sigmoid(airlight), LARGEST_RESIDUAL * torch.tanh(residual.float()))


def restore(image: Tensor, seen: Scattering, strength: float = 1.0) -> Tensor:
    """Remove the haze that was seen, with transmission ``t ** strength``; not clamped to [0, 1].

    Args:
        image: hazy RGB ``(B, 3, H, W)`` in [0, 1].
        seen: what the network saw in it.
        strength: 1 removes all haze, 0 leaves the picture untouched, -1 adds the same haze once more.
    """
    if strength == 0:
        return image
    transmission = seen.transmission**strength
    detail = (1 - transmission) * seen.residual if strength > 0 else 0.0
    gain, contrast = 1 / transmission - 1, image - seen.airlight
    colour_gain = gain.clamp(max=LARGEST_COLOUR_GAIN)
    # (1 + colour_gain) (I - A (1 - t)) - I, written so that it is nothing at all where t = 1
    colour = colour_gain * contrast - (gain - colour_gain) * transmission * seen.airlight
    return image + gain * luma(contrast) + (colour - luma(colour)) + detail
