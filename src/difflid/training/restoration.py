"""Training the dehazing network on photographs with synthetic haze, real pairs, or both; the prior stays frozen."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from difflid.data.dataset import HazyBatch, HazyCrops, Photo, hazy_version, load_splits
from difflid.data.pairs import Pair, load_pair, refuse_damaged
from difflid.data.real_pairs import PairSet, RealPair, load_real_pairs, refuse_shared, scenes
from difflid.data.shards import Shards
from difflid.dehazer import Dehazer, DehazerConfig
from difflid.errors import ConfigError, TrainingError
from difflid.metrics import psnr
from difflid.network import DiffLI2D, DiffLI2DConfig, LevelConfig, Scattering, restore
from difflid.network.blocks import sample_at
from difflid.prior import Prior, UNetPrior
from difflid.prior.latents import TIMESTEPS
from difflid.training.config import Amount, Count, LoopConfig, Natural, Part, Range, Share
from difflid.training.journal import Sheet
from difflid.training.latent_cache import LatentCache
from difflid.training.loop import open_run, train
from difflid.training.losses import LOSSES, picture_loss
from difflid.training.start import start_from

__all__ = ["RestorationObjective", "RestorationTrainingConfig", "train_restoration"]

SHOWN = 3  # pictures of each kind on a sheet
TAKEN = {"images", "loss", "images_per_second", "skipped", "clear", "synthetic"}  # columns of stats.jsonl
LARGEST_PSNR = 60.0  # dB; what an untouched picture counts in a mean

Timestep = Annotated[int, Range(0, TIMESTEPS - 1)]


@dataclass(frozen=True)
class NetworkRecipe:
    """The network without what the prior decides; see DiffLI2DConfig and LevelConfig."""

    widths: tuple[Count, ...] = (32, 64, 128)  # channels per level, from half resolution downwards
    encoder_blocks: tuple[Natural, ...] = (1, 1, 0)  # local blocks per level on the way down
    decoder_blocks: tuple[Natural, ...] = (2, 2, 3)  # and on the way up
    heads: tuple[Natural, ...] = (0, 0, 4)  # of the Content Integration Module, per level
    guide_width: Count = DiffLI2DConfig.guide_width
    guide_blocks: Natural = DiffLI2DConfig.guide_blocks
    guide_middle: Natural = DiffLI2DConfig.guide_middle
    guide_zoom: Count = DiffLI2DConfig.guide_zoom
    guide_contrast: bool = DiffLI2DConfig.guide_contrast
    guide_smoke: bool = DiffLI2DConfig.guide_smoke
    guide_reviews: Natural = DiffLI2DConfig.guide_reviews
    guide_glow: bool = DiffLI2DConfig.guide_glow

    def __post_init__(self) -> None:
        if self.guide_smoke and (self.guide_reviews or self.guide_glow):
            raise ConfigError(
                "network.guide_reviews and guide_glow correct an airlight of the whole picture, guide_smoke has none"
            )
        levels = self.widths, self.encoder_blocks, self.decoder_blocks, self.heads
        if len({len(each) for each in levels}) > 1:
            raise ConfigError(
                "network.widths, network.encoder_blocks, network.decoder_blocks and network.heads are of one length, a "
                f"value per level, got {', '.join(map(str, levels))}"
            )
        for width, heads in zip(self.widths, self.heads, strict=True):
            if heads and width % heads:
                raise ConfigError(f"network.heads {heads} does not divide network.widths {width} of its level")


@dataclass(frozen=True)
class RestorationTrainingConfig:
    """A recipe for a dehazing network."""

    prior: str  # prior folder
    loop: LoopConfig
    photos: str | None = None  # folder of clear photographs, for synthetic haze
    repeats: tuple[str, ...] = ()  # files that say how often a photograph is taken: a stem and a number per line
    depth: str | None = None  # folder of depth maps, same stems; None: gradients and random fields only
    train_pairs: dict[str, PairSet] = field(default_factory=dict)  # name -> pairs to train on
    shards: str | None = None  # folder of packed pairs to train on, instead of train_pairs
    validation_pairs: dict[str, PairSet] = field(default_factory=dict)  # name -> pairs to validate on, at full size
    pair_share: Share = 0.5  # how often a training picture is one of the pairs, where there are photographs as well
    frame: Part = 1.0  # smallest side of the part that is taken as a whole picture, as a share
    composed: Share = 0.0  # how often a picture under synthetic haze is a scene of sharp depth, see data.scenes
    latent_cache: str | None = None  # folder for latents of pictures that come again; None: computed every time
    wholes: Natural = 0  # so many images come first without crops, about twice as fast; a multiple of loop.batch
    start: str | None = None  # model folder or name whose weights to start from; None: at random
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    content_timestep: Timestep = 0  # t1
    haze_timestep: Timestep = 500  # t2
    mirrored: bool = False  # the model sees a picture mirrored as well, see DehazerConfig; the training does not
    crop: Count = 128  # side of a training crop in pixels, a multiple of 2 for each level of the network
    crops: Count = 2  # crops of each picture
    losses: dict[str, Amount] = field(default_factory=lambda: {"l1": 1.0})  # weights of the errors of the picture
    physics: Amount = 0.03  # weight of the errors of transmission and airlight, where the haze is synthetic
    coarse: Amount = 0.5  # weight of the loss of the whole picture at the guide's size
    validation_photos: Natural = 24  # held-out photographs per validation, with and without haze; 0: none

    def __post_init__(self) -> None:
        unknown = [name for name in self.losses if name not in LOSSES]
        if unknown or not self.losses:
            raise ConfigError(f"unknown loss {unknown or 'table'}; losses weighs one or more of {', '.join(LOSSES)}")
        if not (self.photos or self.train_pairs or self.shards):
            raise ConfigError("nothing to train on: the recipe names neither photos nor train_pairs nor shards")
        if self.train_pairs and self.shards:
            raise ConfigError("expected train_pairs or shards, got both: pack all pairs into the shards")
        if taken := sorted(TAKEN & self.validation_pairs.keys()):
            raise ConfigError(
                f"validation_pairs.{taken[0]} would hide a number of that name: give the set another name"
            )
        if self.crop % (stride := 2 ** len(self.network.widths)):
            raise ConfigError(f"crop {self.crop} is no multiple of {stride}, 2 for each level of the network")
        if self.repeats and not self.photos:
            raise ConfigError("repeats say how often photographs are taken: expected photos")
        if self.composed and not self.photos:
            raise ConfigError("composed scenes are papered with parts of photographs: expected photos")
        if self.wholes % self.loop.batch:
            raise ConfigError(f"wholes {self.wholes} is no multiple of loop.batch {self.loop.batch}")
        if self.network.widths and self.wholes > self.loop.images:
            raise ConfigError(
                f"wholes {self.wholes} come first, of loop.images {self.loop.images}: expected at most as many, the "
                "levels of the network learn from what comes then"
            )
        if self.latent_cache and (self.photos or self.frame < 1):
            raise ConfigError(
                "latent_cache is for pictures that come again: expected no photos, hazed anew each time, and frame 1, "
                f"which is all of a pair, got photos {self.photos} and frame {self.frame}"
            )


class Truth(NamedTuple):
    """What the network should see in the pictures of a batch."""

    clear: Tensor  # (B, 3, H, W)
    transmission: Tensor  # (B, 1, H, W)
    airlight: Tensor  # (B, 3, H, W)
    physics: Tensor  # (B,) 1 where transmission and airlight are known, else 0


class RestorationObjective:
    """The error of the picture, plus those of transmission and airlight where the haze is synthetic.

    All on crops and, from the condition alone, on the whole picture at the guide's size.

    Raises:
        ConfigError: the recipe needs the weights of a prior that is no UNetPrior.
        DataError: pictures are missing or damaged, or the splits share scenes.
        ModelError: the prior cannot be read, or ``start`` is not of this prior and configuration.
    """

    def __init__(self, config: RestorationTrainingConfig, prior: Prior | None = None) -> None:
        """Read all that is trained on; ``prior`` counts in place of the recipe's folder."""
        self.config = config
        self.prior = prior or UNetPrior.load(Path(config.prior)).to(config.loop.device)
        self._settings = DehazerConfig(
            _network_config(config.network, self.prior), config.content_timestep, config.haze_timestep, config.mirrored
        )
        self.model: nn.Module = self._network()
        if config.start:
            start_from(config.start, self.model, self._settings, _unet(self.prior, "start"))
        self._encode = _encoder(config, self.prior)
        self._train, self._validation = self._photos()
        self._validation_pairs = {name: pairs.pairs() for name, pairs in config.validation_pairs.items()}
        refuse_damaged(self._to_validate())  # said before hours of training
        self._train_pairs = self._packed(config.shards) if config.shards else self._opened(config.train_pairs)
        self._skipped = 0

    def _photos(self) -> tuple[list[Photo], list[Photo]]:
        config = self.config
        return load_splits(config.photos, config.depth, config.repeats, config.validation_photos)

    def _network(self) -> DiffLI2D:
        return DiffLI2D(self._settings.network)

    def _to_validate(self) -> list[Pair]:
        return [pair for pairs in self._validation_pairs.values() for pair in pairs]

    def _packed(self, folder: str) -> Shards:
        """Open shards, in which there must be no scene to validate on."""
        shards = Shards(Path(folder))
        shards.refuse_shared(self._to_validate())
        return shards

    def _opened(self, sets: Mapping[str, PairSet]) -> list[RealPair | Pair]:
        """Find the training pairs, none of a scene to validate on, and decode those to be kept in memory."""
        found = [(each, each.pairs()) for each in sets.values()]
        trained = scenes([pair for _, pairs in found for pair in pairs])
        refuse_shared(trained, self._to_validate(), "in the training pairs")
        opened: list[RealPair | Pair] = []
        for each, pairs in found:
            opened += load_real_pairs(pairs) if each.in_memory else pairs
        return opened

    def pictures(self) -> list[str]:
        """Name the photographs, those that have a depth map, and the pairs."""
        photos = [f"photos/{photo.name}" for photo in self._train]
        depths = [f"depth/{photo.name}" for photo in self._train if photo.depth is not None]
        if isinstance(self._train_pairs, Shards):
            return [*photos, *depths, f"shards/{self._train_pairs.digest()}"]
        return [*photos, *depths, *(f"train_pairs/{pair.name}" for pair in self._train_pairs)]

    def batches(self, size: int) -> HazyCrops:
        """Return the training images in batches of ``size``."""
        config = self.config
        return HazyCrops(
            self._train,
            guide_size=self.prior.spec.guide_size,
            crop=config.crop,
            crops=config.crops,
            batch=size,
            seed=config.loop.seed,
            pairs=self._train_pairs,
            pair_share=config.pair_share,
            frame=config.frame,
            wholes=config.wholes,
            guide_zoom=config.network.guide_zoom,
            composed=config.composed,
        )

    def loss(self, model: nn.Module, batch: HazyBatch) -> Tensor:
        """Return the loss of the crops, if there are any, plus the weighted loss of the whole pictures."""
        config = self.config
        self._skipped += int(batch.skipped.sum())
        batch = HazyBatch(*(tensor.to(config.loop.device, non_blocking=True) for tensor in batch))
        guide = F.avg_pool2d(batch.copy, self._settings.network.guide_zoom)
        content, haze = self._encode(guide).clone()
        hazy = batch.hazy.contiguous(memory_format=torch.channels_last)
        seen, coarse = model(hazy, batch.window, batch.copy, content, haze)
        with torch.autocast(hazy.device.type, enabled=False):
            truth = Truth(batch.clear_guide, batch.guide_transmission, batch.airlight, batch.physics)
            whole = config.coarse * self._error(coarse, guide, truth)
            if seen is None:
                return whole
            truth = Truth(
                batch.clear,
                batch.transmission,
                sample_at(
                    batch.airlight.repeat_interleave(config.crops, 0), batch.window, (config.crop, config.crop), 1
                ),
                batch.physics.repeat_interleave(config.crops, 0),
            )
            return self._error(seen, hazy, truth) + whole

    def _error(self, seen: Scattering, hazy: Tensor, truth: Truth) -> Tensor:
        picture = picture_loss(self.config.losses, restore(hazy, seen), truth.clear)
        transmission = seen.transmission.nan_to_num()  # of what is no number `picture` tells, here it would be an error
        veil = F.binary_cross_entropy(transmission, truth.transmission, reduction="none")  # never saturates
        off = (seen.airlight - truth.airlight).abs()
        colour = off * (1 - truth.transmission)  # shows only through the veil
        known = truth.physics[:, None, None, None]
        return picture + self.config.physics * ((known * veil).mean() + (known * colour).mean())

    def notes(self) -> dict[str, float]:
        """Count the damaged pairs that were left out since the command was given."""
        return {"skipped": self._skipped}

    def validate(self, model: nn.Module, sheet: Sheet) -> dict[str, float]:
        """Mean PSNR (dB) on full pictures: synthetic haze, clear photographs against themselves, and pairs.

        On the sheet: the first pictures of each, hazy, restored and clear.
        """
        dehazer = self._dehazer(model)
        scores = {}
        if self._validation:
            clear = (_tensor(photo) for photo in self._validation)
            scores["clear"] = self._mean_psnr(dehazer, ((picture, picture) for picture in clear), sheet)
            scores["synthetic"] = self._mean_psnr(dehazer, self._synthetic(), sheet)
        for name, pairs in self._validation_pairs.items():
            scores[name] = self._mean_psnr(dehazer, (load_pair(pair) for pair in pairs), sheet)
        return scores

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write a model folder; of a prior that is no UNetPrior the network alone."""
        dehazer = self._dehazer(model)
        if isinstance(self.prior, UNetPrior):
            dehazer.save_pretrained(folder)
        else:
            dehazer.save_network(folder)

    def _dehazer(self, model: nn.Module) -> Dehazer:
        network = self._network()
        network.load_state_dict(model.state_dict())
        return Dehazer(self.prior, network.to(self.config.loop.device), self._settings)

    def _synthetic(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index, photo in enumerate(self._validation):
            hazy, clear, _ = hazy_version(photo, np.random.default_rng(index), clear_share=0.0)
            yield _batch_of_one(hazy), _batch_of_one(clear)

    def _mean_psnr(
        self, dehazer: Dehazer, pairs: Iterable[tuple[Tensor, Tensor]], sheet: Sheet, tile: int | None = None
    ) -> float:
        scores: list[float] = []
        for hazy, clear in pairs:
            seen = hazy.to(self.config.loop.device)
            restored = dehazer.restore(seen, dehazer.encode(seen), tile=tile).clear.cpu()
            if not restored.isfinite().all():
                raise TrainingError("the model gives values that are no numbers: lower loop.rate and begin anew")
            if len(scores) < SHOWN:
                sheet.add((hazy, restored, clear))
            scores.append(min(LARGEST_PSNR, psnr((restored * 255).round() / 255, clear).item()))
        return float(np.mean(scores))


def _network_config(recipe: NetworkRecipe, prior: Prior) -> DiffLI2DConfig:
    levels = zip(recipe.widths, recipe.encoder_blocks, recipe.decoder_blocks, recipe.heads, strict=True)
    guide = {name: value for name, value in vars(recipe).items() if name.startswith("guide_")}
    return DiffLI2DConfig(
        latent_channels=prior.spec.channels,
        latent_reduction=prior.spec.reduction,
        levels=tuple(LevelConfig(*level) for level in levels),
        **guide,
    )


def _encoder(config: RestorationTrainingConfig, prior: Prior) -> Callable[[Tensor], Tensor]:
    """Return what gives the latents of guides, (2, B, C, G, G)."""
    timesteps = (config.content_timestep, config.haze_timestep)
    if config.latent_cache:
        return LatentCache(Path(config.latent_cache), _unet(prior, "latent_cache"), timesteps).encode
    return lambda guides: prior.encode(guides, timesteps)


def _unet(prior: Prior, key: str) -> UNetPrior:
    """Refuse a prior whose weights cannot be told from those of another one."""
    if not isinstance(prior, UNetPrior):
        raise ConfigError(f"{key} compares the weights of the prior: expected a UNetPrior, got {type(prior).__name__}")
    return prior


def _tensor(photo: Photo) -> Tensor:
    return _batch_of_one(np.asarray(photo.clear, np.float32) / np.float32(255))


def _batch_of_one(picture: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def train_restoration(config: RestorationTrainingConfig, progress: Callable[[int], None] | None = None) -> Path:
    """Train a dehazing network, or carry on a run that was cut off; return the model folder."""
    accelerator = open_run(config, parts_rest=config.wholes > 0)
    torch.manual_seed(config.loop.seed)
    return train(RestorationObjective(config), config.loop, accelerator, progress)
