"""The processors that torch can use here."""

from typing import TYPE_CHECKING

from difflid.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["choose_device", "devices"]


def devices() -> dict[str, str]:
    """Names for ``--device``, the fastest first, each with what it is."""
    import torch

    found = {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found | {"cpu": f"{torch.get_num_threads()} threads"}


def choose_device(name: str | None) -> "torch.device":
    """Return the device of that name, or the fastest one here (None).

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    found = devices()
    full = next(iter(found)) if name is None else "cuda:0" if name == "cuda" else name
    if full not in found:
        raise ConfigError(f"no device {name!r} here: expected one of {', '.join(found)}")
    return torch.device(full)
