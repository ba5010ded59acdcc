"""Training the dehazing network on clear photographs with synthetic haze; the prior stays frozen."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from difflid.data.dataset import HazyBatch, HazyCrops, Photo, hazy_version, load_photos
from difflid.data.pairs import find_pairs, load_pair
from difflid.data.photos import photo_files, split_photos
from difflid.dehazer import Dehazer, DehazerConfig
from difflid.metrics import psnr
from difflid.network import DiffLI2D, DiffLI2DConfig, LevelConfig, Scattering, restore
from difflid.prior import UNetPrior
from difflid.training.config import LoopConfig
from difflid.training.loop import train, write_resolved

__all__ = ["RestorationObjective", "RestorationTrainingConfig", "train_restoration"]

LARGEST_PSNR = 60.0  # dB; what an untouched picture counts in a mean


@dataclass(frozen=True)
class NetworkRecipe:
    """The network without what the prior decides; see DiffLI2DConfig and LevelConfig."""

    widths: tuple[int, ...] = (32, 64, 128)  # channels per level, from half resolution downwards
    encoder_blocks: tuple[int, ...] = (1, 1, 0)  # local blocks per level on the way down
    decoder_blocks: tuple[int, ...] = (2, 2, 3)  # and on the way up
    heads: tuple[int, ...] = (0, 0, 4)  # of the Content Integration Module, per level
    guide_width: int = 32
    guide_blocks: int = 1
    guide_middle: int = 4


@dataclass(frozen=True)
class RestorationTrainingConfig:
    """A recipe for a dehazing network."""

    prior: str  # prior folder
    photos: str  # folder of clear photographs
    loop: LoopConfig
    depth: str | None = None  # folder of depth maps, same stems; None: gradients and random fields only
    pairs: dict[str, str] = field(default_factory=dict)  # validation pairs: name -> folder with hazy/ and clear/
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    content_timestep: int = 0  # t1
    haze_timestep: int = 500  # t2
    crop: int = 128  # side of a training crop in pixels
    crops: int = 2  # crops of each picture
    physics: float = 0.03  # weight of the errors of transmission and airlight
    coarse: float = 0.5  # weight of the loss of the whole picture at the guide's size
    validation_photos: int = 24  # held-out photographs per validation, with and without haze


class RestorationObjective:
    """L1 on the picture, plus the errors of transmission and airlight, which synthetic haze knows.

    Both on crops and, from the condition alone, on the whole picture at the guide's size.
    """

    def __init__(self, config: RestorationTrainingConfig) -> None:
        self.config = config
        self.prior = UNetPrior.load(Path(config.prior)).to(config.loop.device)
        self._settings = DehazerConfig(
            _network_config(config.network, self.prior), config.content_timestep, config.haze_timestep
        )
        self.model: nn.Module = DiffLI2D(self._settings.network)
        train_files, validation_files = split_photos(photo_files(Path(config.photos)))
        depth = Path(config.depth) if config.depth else None
        self._train = load_photos(train_files, depth)
        self._validation = load_photos(_spread(validation_files, config.validation_photos), depth)

    def batches(self) -> HazyCrops:
        """Return the training batches by step."""
        loop = self.config.loop
        guide_size, config = self.prior.spec.guide_size, self.config
        return HazyCrops(self._train, guide_size, config.crop, config.crops, loop.batch, loop.seed)

    def loss(self, model: nn.Module, batch: HazyBatch) -> Tensor:
        """Return the loss of the crops plus the weighted loss of the whole pictures."""
        config = self.config
        batch = HazyBatch(*(tensor.to(config.loop.device, non_blocking=True) for tensor in batch))
        content, haze = self.prior.encode(batch.guide, (config.content_timestep, config.haze_timestep)).clone()
        hazy = batch.hazy.contiguous(memory_format=torch.channels_last)
        seen, coarse = model(hazy, batch.window, batch.guide, content, haze)
        airlight = batch.airlight[:, :, None, None]
        with torch.autocast(hazy.device.type, enabled=False):
            whole = self._error(coarse, batch.guide, batch.clear_guide, batch.guide_transmission, airlight)
            airlight = airlight.repeat_interleave(config.crops, 0)
            return self._error(seen, hazy, batch.clear, batch.transmission, airlight) + config.coarse * whole

    def _error(self, seen: Scattering, hazy: Tensor, clear: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
        picture = F.l1_loss(restore(hazy, seen), clear)
        veil = F.binary_cross_entropy(seen.transmission, transmission)  # its gradient never saturates
        colour = ((seen.airlight - airlight).abs() * (1 - transmission)).mean()  # shows only through the veil
        return picture + self.config.physics * (veil + colour)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean PSNR (dB) on full pictures: synthetic haze, clear photographs against themselves, and pairs."""
        dehazer = self._dehazer(model)
        scores = {"clear": self._mean_psnr(dehazer, ((_tensor(photo), _tensor(photo)) for photo in self._validation))}
        scores["synthetic"] = self._mean_psnr(dehazer, self._synthetic())
        for name, folder in self.config.pairs.items():
            pairs = find_pairs(Path(folder))
            scores[name] = self._mean_psnr(dehazer, (load_pair(pair) for pair in pairs))
        return scores

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write a model folder."""
        self._dehazer(model).save_pretrained(folder)

    def _dehazer(self, model: nn.Module) -> Dehazer:
        network = DiffLI2D(self._settings.network)
        network.load_state_dict(model.state_dict())
        return Dehazer(self.prior, network.to(self.config.loop.device), self._settings)

    def _synthetic(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index, photo in enumerate(self._validation):
            hazy, clear, _ = hazy_version(photo, np.random.default_rng(index), clear_share=0.0)
            yield _batch_of_one(hazy), _batch_of_one(clear)

    def _mean_psnr(self, dehazer: Dehazer, pairs: Iterator[tuple[Tensor, Tensor]]) -> float:
        scores = []
        for hazy, clear in pairs:
            hazy = hazy.to(self.config.loop.device)
            restored = dehazer.restore(hazy, dehazer.encode(hazy)).clear.cpu()
            scores.append(min(LARGEST_PSNR, psnr((restored * 255).round() / 255, clear).item()))
        return float(np.mean(scores))


def _network_config(recipe: NetworkRecipe, prior: UNetPrior) -> DiffLI2DConfig:
    levels = zip(recipe.widths, recipe.encoder_blocks, recipe.decoder_blocks, recipe.heads, strict=True)
    return DiffLI2DConfig(
        latent_channels=prior.spec.channels,
        latent_reduction=prior.spec.reduction,
        levels=tuple(LevelConfig(*level) for level in levels),
        guide_width=recipe.guide_width,
        guide_blocks=recipe.guide_blocks,
        guide_middle=recipe.guide_middle,
    )


def _spread(files: list[Path], count: int) -> list[Path]:
    """Take about ``count`` files, evenly over the list."""
    return files[:: max(1, len(files) // count)][:count]


def _tensor(photo: Photo) -> Tensor:
    return _batch_of_one(np.asarray(photo.clear, np.float32) / np.float32(255))


def _batch_of_one(picture: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def train_restoration(config: RestorationTrainingConfig) -> Path:
    """Train a dehazing network, or carry on a run that was cut off; return the model folder."""
    write_resolved(config, Path(config.loop.run))
    torch.manual_seed(config.loop.seed)
    return train(RestorationObjective(config), config.loop)
