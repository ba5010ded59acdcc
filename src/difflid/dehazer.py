"""A Dehazer: a frozen prior and the network it instructs, from picture to picture."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from difflid import image as images
from difflid.errors import ModelError
from difflid.network import Condition, DiffLI2D, DiffLI2DConfig, LevelConfig, Scattering, restore
from difflid.prior import Prior, UNetPrior
from difflid.tiling import pad_to_multiple, tiles
from difflid.zoo import find_model, upload_model

__all__ = ["NO_HAZE", "Dehazer", "DehazerConfig", "Restoration"]

NO_HAZE = 0.03  # a picture whose haze score is lower is said to have no haze
AUTOMATIC_TILE = 1024  # pixels; bounds the memory of one pass at about 1 GB


@dataclass(frozen=True)
class DehazerConfig:
    """How a prior is read for a network."""

    network: DiffLI2DConfig
    content_timestep: int = 0  # t1, small: the latent tells the content
    haze_timestep: int = 500  # t2, large: the latent tells the haze


@dataclass(frozen=True)
class Restoration:
    """A dehazed picture and what was seen in it."""

    clear: Tensor  # (B, 3, H, W) in [0, 1]
    transmission: Tensor  # (B, 1, H, W) in (0, 1]
    airlight: Tensor  # (B, 3, H, W) in [0, 1]

    @property
    def haze_score(self) -> Tensor:
        """Mean of 1 - transmission: the share of veil in what the camera saw; ``(B,)`` in [0, 1]."""
        return (1 - self.transmission).mean(dim=(1, 2, 3), dtype=torch.float64).float()


class Dehazer(nn.Module):
    """A frozen prior and the network it instructs.

    >>> import numpy as np
    >>> dehazer = Dehazer.from_pretrained()
    >>> dehazer(np.full((48, 64, 3), 128, np.uint8)).shape
    (48, 64, 3)
    """

    prior: Prior

    def __init__(self, prior: Prior, network: DiffLI2D, config: DehazerConfig) -> None:
        super().__init__()
        ours, theirs = prior.spec, network.config
        if (ours.channels, ours.reduction) != (theirs.latent_channels, theirs.latent_reduction):
            raise ModelError(
                f"prior and network do not fit: {type(prior).__name__} gives latents of {ours.channels} channels at 1/"
                f"{ours.reduction}, {type(network).__name__} was built for {theirs.latent_channels} at 1/"
                f"{theirs.latent_reduction}; use the prior the network was trained with"
            )
        self.prior, self.network, self.config = prior, network, config
        self.requires_grad_(False).eval()

    @torch.inference_mode()
    def encode(self, image: Tensor) -> Condition:
        """See the picture as a whole: guide, latents at both time-steps, condition. Once per picture.

        Args:
            image: RGB ``(B, 3, H, W)`` in [0, 1], any size from 1 x 1.
        """
        guide = make_guide(image, self.prior.spec.guide_size)
        content, haze = self.prior.encode(guide, (self.config.content_timestep, self.config.haze_timestep))
        return self.network.condition(guide, content, haze)

    @torch.inference_mode()
    def restore(
        self, image: Tensor, condition: Condition, *, strength: float = 1.0, tile: int | None = None
    ) -> Restoration:
        """Remove the haze; cheap to repeat at another strength with the same condition.

        Args:
            image: the picture that was encoded, RGB ``(B, 3, H, W)`` in [0, 1].
            condition: what :meth:`encode` returned for it.
            strength: exponent on the transmission in [-1, 2]: 1 removes the haze, 0 nothing, -1 doubles it.
            tile: side of a tile in pixels; 0: the whole picture at once; None: chosen by size. The result is
                the same.

        Raises:
            ValueError: the strength is not in [-1, 2] or the tile is negative.
        """
        if not -1 <= strength <= 2:
            raise ValueError(f"strength must be between -1 and 2, got {strength}")
        seen = self._look(image, condition, _tile_side(tile, self.network.stride))
        clear = restore(image, seen, strength).clamp(0, 1)
        return Restoration(clear, seen.transmission, seen.airlight)

    def _look(self, image: Tensor, condition: Condition, side: int) -> Scattering:
        height, width = image.shape[2:]
        padded = pad_to_multiple(image.float(), self.network.stride)
        maps = Scattering(*(image.new_empty(len(image), channels, height, width) for channels in (1, 3, 3)))
        halo = -(-self.network.reach // self.network.stride) * self.network.stride
        for tile in tiles(*padded.shape[2:], size=side or max(padded.shape[2:]), halo=halo):
            window = torch.tensor([[*tile.outer[:2], height, width]], device=image.device).expand(len(image), 4)
            seen = self.network.look(tile.cut(padded), window, condition)
            for part, whole in zip(vars(seen).values(), vars(maps).values(), strict=True):
                tile.paste(part, whole)
        return maps

    def __call__(self, image: Any, *, strength: float = 1.0, tile: int | None = None) -> Any:
        """Dehaze a picture of any kind; the result is of the same kind, type and size.

        Args:
            image: PIL image, NumPy array ``(H, W[, 1 | 3 | 4])``, tensor ``([B,] 3, H, W)``, path, or encoded bytes.
                A path gives a PIL image.
            strength: see :meth:`restore`.
            tile: see :meth:`restore`.
        """
        tensor, give_back = images.open_any(image)
        device = next(self.network.parameters()).device
        tensor = tensor.to(device)
        return give_back(self.restore(tensor, self.encode(tensor), strength=strength, tile=tile).clear)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder: ``config.json``, ``model.safetensors`` (float16) and the folder ``prior``."""
        if not isinstance(self.prior, UNetPrior):
            raise ModelError(f"only a UNetPrior can be saved, this is a {type(self.prior).__name__}")
        folder = Path(folder)
        self.prior.save(folder / "prior")
        weights = {key: value.half().contiguous() for key, value in self.network.state_dict().items()}
        save_file(weights, folder / "model.safetensors.part")
        (folder / "model.safetensors.part").replace(folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    def push_to_hub(self, repository: str, *, private: bool = False) -> str:
        """Put the model on the Hugging Face hub as ``OWNER/NAME``; return the address of the commit.

        Raises:
            ModelError: the hub cannot be reached or refuses.
        """
        with TemporaryDirectory(prefix="difflid-") as folder:
            self.save_pretrained(folder)
            return upload_model(Path(folder), repository, private=private)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path | None = None, *, revision: str | None = None) -> Self:
        """Load a model folder, a model of the hub (``OWNER/NAME``), or the embedded default (None).

        Args:
            name_or_folder: see :func:`difflid.zoo.find_model`.
            revision: branch, tag or commit on the hub.

        Raises:
            ModelError: there is no such model, or its files are damaged or do not fit each other.
        """
        folder = find_model(name_or_folder, revision=revision)
        try:
            config = _read_config(json.loads((folder / "config.json").read_text()))
            weights = load_file(folder / "model.safetensors")
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise ModelError(f"{folder} is not a model folder: {error}") from error
        network = DiffLI2D(config.network)
        try:
            network.load_state_dict({key: value.float() for key, value in weights.items()})
        except RuntimeError as error:
            raise ModelError(f"the weights in {folder} do not fit its config.json: {error}") from error
        return cls(UNetPrior.load(folder / "prior"), network, config)


def make_guide(image: Tensor, size: int) -> Tensor:
    """Squeeze the whole picture to the prior's size: ``(B, 3, H, W)`` -> ``(B, 3, size, size)`` in [0, 1]."""
    return F.interpolate(image.float(), size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)


def _tile_side(tile: int | None, stride: int) -> int:
    if tile is None:
        return AUTOMATIC_TILE
    if tile < 0:
        raise ValueError(f"a tile has a side of at least 1 pixel, or 0 for the whole picture; got {tile}")
    return -(-tile // stride) * stride


def _read_config(tree: Mapping[str, Any]) -> DehazerConfig:
    network = dict(tree["network"])
    network["levels"] = tuple(LevelConfig(**level) for level in network["levels"])
    return DehazerConfig(**{**tree, "network": DiffLI2DConfig(**network)})
