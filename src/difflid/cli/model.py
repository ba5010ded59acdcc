"""The dehazer that --model, --device and --threads ask for."""

from typing import TYPE_CHECKING

from difflid.cli.usage import value_of

if TYPE_CHECKING:
    from difflid.dehazer import Dehazer

__all__ = ["load_dehazer"]


def load_dehazer(model: str | None, device: str | None, threads: int | None) -> "Dehazer":
    """Load a model by its name or folder, on a device, to use so many processor threads; None: the default.

    Raises:
        BadParameter: there is no such device.
        DifflidError: there is no such model.
    """
    import torch

    from difflid.cli.devices import choose_device
    from difflid.dehazer import Dehazer

    if threads:
        torch.set_num_threads(threads)
    with value_of("--device"):
        chosen = choose_device(device)
    return Dehazer.from_pretrained(model).to(chosen)
