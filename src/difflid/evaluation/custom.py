"""Metrics of one's own, by the name of a function: any measure of two pictures that other software offers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from torch import Tensor

from difflid.errors import ConfigError

__all__ = ["CustomMetric", "open_metric"]


@dataclass(frozen=True)
class CustomMetric:
    """A function of the restored and the clear picture, both (1, 3, H, W) sRGB in [0, 1], that gives one number."""

    name: str
    source: str  # MODULE:FUNCTION
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
    """Find ``MODULE:FUNCTION`` on Python's path; the function's name becomes the name of the score.

    Raises:
        ConfigError: there is no such module or function.
    """
    module, colon, name = source.partition(":")
    if not (module and colon and name):
        raise ConfigError(f"expected a metric as MODULE:FUNCTION, got {source!r}")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot find the metric {source}: {error}") from error
    if not callable(function):
        raise ConfigError(f"the metric {source} is no function but a {type(function).__name__}")
    return CustomMetric(name, source, function)
