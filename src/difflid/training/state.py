"""What a training run remembers: weights, their moving average, the optimiser and the images seen."""

import copy
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from difflid.errors import ModelError, TrainingError
from difflid.files import whole

__all__ = ["CHECKPOINT", "TrainingState", "update_average", "written"]

CHECKPOINT = "checkpoint.pt"


class TrainingState:
    """All that changes during training; saved in one file, whole or not at all."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.optimizer = optimizer
        self.images = 0

    def save(self, run: Path) -> None:
        """Write the checkpoint of ``run`` under a temporary name, then rename it."""
        tensors = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")}
        with written(run / CHECKPOINT), whole(run / CHECKPOINT) as part, part.open("wb") as stream:
            torch.save({"images": self.images, **tensors}, stream)
            stream.flush()
            os.fsync(stream.fileno())

    def resume(self, run: Path) -> bool:
        """Take up the checkpoint of ``run``; false where there is none.

        Raises:
            ModelError: the checkpoint is damaged or of another model.
        """
        path = run / CHECKPOINT
        if not path.exists():
            return False
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            for name in ("model", "average", "optimizer"):
                getattr(self, name).load_state_dict(saved[name])
        except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise ModelError(f"cannot resume from {path} (move it away to start again): {error}") from error
        self.images = saved["images"]
        return True


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Say that ``path`` could not be written.

    Raises:
        TrainingError: writing failed, for lack of space or rights.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"cannot write {path}: {error}; what was there before is kept. Make room and give the same command again"
        ) from error


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, images: int, batch: int, half_life: float) -> None:
    """Move ``average`` towards ``model``; the half-life is a share of the images seen (EDM2, eq. 121 ff.)."""
    decay = 0.5 ** (batch / max(half_life * images, 1e-8))
    ours, theirs = (list(each.state_dict().values()) for each in (average, model))
    torch._foreach_lerp_(ours, theirs, 1 - decay)
