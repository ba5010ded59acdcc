"""Metrics that other software offers: LPIPS by its name, any other by that of a function of two pictures."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from difflid.errors import ConfigError, MissingExtra

__all__ = ["CustomMetric", "open_metric"]


@dataclass(frozen=True)
class CustomMetric:
    """A function of the restored and the clear picture, both (1, 3, H, W) sRGB in [0, 1], that gives one number."""

    name: str
    source: str  # MODULE:FUNCTION, or what package computes it
    function: Callable[[Tensor, Tensor], float | Tensor]

    def measure(self, restored: Tensor, clear: Tensor) -> float:
        """Call the function.

        Raises:
            ConfigError: it fails, or gives something else than a finite number.
        """
        try:
            value = float(self.function(restored, clear))
        except Exception as error:  # whatever a function of somebody else raises
            raise ConfigError(f"the metric {self.source} failed: {type(error).__name__}: {error}") from error
        if not math.isfinite(value):
            raise ConfigError(f"the metric {self.source} gave {value}; expected a finite number")
        return value


def open_metric(source: str) -> CustomMetric:
    """Give the metric ``lpips``, or ``MODULE:FUNCTION`` on Python's path, whose name becomes that of the score.

    Raises:
        ConfigError: there is no such module or function, the module fails, or the weights of LPIPS cannot be had.
        MissingExtra: the package lpips is not installed.
    """
    if source == "lpips":
        return _open_lpips()
    module, colon, name = source.partition(":")
    if not (module and colon and name):
        raise ConfigError(f"expected a metric as lpips or MODULE:FUNCTION, got {source!r}")
    try:
        function = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # whatever a module of somebody else raises
        raise ConfigError(f"cannot load the metric {source}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ConfigError(f"the metric {source} is no function but a {type(function).__name__}")
    return CustomMetric(name, source, function)


def _open_lpips() -> CustomMetric:
    """Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018; AlexNet."""
    try:
        import lpips
    except ImportError as error:
        raise MissingExtra("the metric lpips", "lpips") from error
    try:
        network = lpips.LPIPS(net="alex", verbose=False)
    except (OSError, RuntimeError) as error:  # no network, a full disk; an interrupted download
        raise ConfigError(
            f"cannot get the weights of AlexNet, which the package lpips downloads at its first use: {error}; put them "
            f"into {Path(torch.hub.get_dir(), 'checkpoints')}, from where the same command was given with a network"
        ) from error

    @torch.no_grad()
    def measure(restored: Tensor, clear: Tensor) -> float:
        return float(network(restored, clear, normalize=True))

    return CustomMetric("lpips", f"lpips {version('lpips')}, AlexNet", measure)
