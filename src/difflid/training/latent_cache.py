"""Latents on disk, so that a heavy prior looks once at a picture that training shows again and again.

A file per guide, named after a digest of the prior, the time-steps and the guide itself: whatever changes the latents
changes the name, so runs, processes and recipes can share a folder. The network is given what the file holds, in
float16, and every guide is encoded alone, in float32: its latents depend neither on the rest of the batch nor on where
a run was cut off.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflid.files import whole
from difflid.prior import UNetPrior
from difflid.training.state import written

__all__ = ["LatentCache"]

log = logging.getLogger(__name__)
VERSION = 1  # of what is in a file; another one gets other names


class LatentCache:
    """Gives the latents of a prior at fixed time-steps, from ``folder`` where they are known."""

    def __init__(self, folder: Path, prior: UNetPrior, timesteps: Sequence[int]) -> None:
        self._folder, self._prior, self._timesteps = folder, prior, tuple(timesteps)
        self._kind = _digest(prior, json.dumps([VERSION, asdict(prior.config), self._timesteps]))

    def encode(self, guides: Tensor) -> Tensor:
        """Give the latents of guides (B, 3, S, S), (T', B, C, G, G), rounded to float16, on the device of the prior.

        Raises:
            TrainingError: a file cannot be written.
        """
        device = next(self._prior.parameters()).device
        return torch.stack([self._latents(guide, device) for guide in guides.cpu()], dim=1).to(device).float()

    def _latents(self, guide: Tensor, device: torch.device) -> Tensor:
        name = sha256(self._kind + guide.contiguous().numpy().tobytes()).hexdigest()
        path = self._folder / name[:2] / f"{name[2:]}.safetensors"
        known = _read(path)
        if known is not None:
            return known
        with torch.autocast(device.type, enabled=False):
            latents = self._prior.encode(guide[None].to(device), self._timesteps)[:, 0].half().cpu()
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as part:
                save_file({"latents": latents.contiguous()}, part)
        return latents


def _digest(prior: UNetPrior, settings: str) -> bytes:
    digest = sha256(settings.encode())
    for name, value in sorted(prior.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy())
    return digest.digest()


def _read(path: Path) -> Tensor | None:
    try:
        return load_file(path)["latents"] if path.exists() else None
    except (OSError, SafetensorError, KeyError) as error:
        log.warning("latents are computed anew, %s cannot be read: %s", path, error)
        return None
