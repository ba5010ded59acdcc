"""Training a prior: a DDPM that predicts the noise in diffused clear photographs (Ho et al. 2020, algorithm 1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from difflid.data.photos import load_squares, photo_files, split_photos
from difflid.errors import ConfigError, ModelError
from difflid.files import whole
from difflid.metrics import psnr
from difflid.prior import UNetPrior, UNetPriorConfig, add_noise, alpha_bars, build_unet, fixed_noise
from difflid.prior.latents import TIMESTEPS
from difflid.training.config import Count, LoopConfig, Part
from difflid.training.journal import Sheet
from difflid.training.loop import open_run, train

__all__ = ["UP_PATH", "PriorObjective", "PriorTrainingConfig", "load_whole_unet", "train_prior"]

UP_PATH = "up_path.safetensors"  # beside a prior that we trained: the other half, to train on, denoise and sample
SHOWN = 6  # photographs on a sheet
VALIDATION_TIMESTEPS = (50, 100, 300, 500)


@dataclass(frozen=True)
class PriorTrainingConfig:
    """A recipe for a prior."""

    photos: str  # folder of clear photographs
    guide_size: Count  # side of the square guide in pixels
    loop: LoopConfig
    unet: dict[str, Any] = field(default_factory=dict)  # arguments of diffusers.UNet2DModel; none: those of `start`
    crop: Part = 0.66  # smallest side of a training crop, as a share of the photograph's
    start: str | None = None  # prior folder to start from; None: random weights
    up_path: str | None = None  # the other half of `start`, as a training left it; None: random weights

    def __post_init__(self) -> None:
        if bool(self.unet) == bool(self.start):
            raise ConfigError("expected a U-Net, or a prior to start from, which has one: one of unet and start")
        if self.up_path and not self.start:
            raise ConfigError("up_path is the other half of a prior that is there: name its folder in start")


@dataclass(frozen=True)
class DiffusedPhotos(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Item ``i``: a batch of random crops in [-1, 1], their noise and their time-steps.

    Crop number n, counted over all batches, is a function of (seed, n).
    """

    squares: Tensor  # (N, 3, L, L) uint8
    size: int
    smallest: int
    batch: int
    seed: int

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        numbers = range(index * self.batch, (index + 1) * self.batch)
        crops, noises, timesteps = zip(*map(self._diffused, numbers), strict=True)
        return torch.cat(crops), torch.stack(noises), torch.tensor(timesteps)

    def _diffused(self, number: int) -> tuple[Tensor, Tensor, int]:
        rng = np.random.default_rng((self.seed, number))
        noise = torch.from_numpy(rng.standard_normal((3, self.size, self.size), np.float32))
        return self._crop(rng), noise, int(rng.integers(TIMESTEPS))

    def _crop(self, rng: np.random.Generator) -> Tensor:
        square = self.squares[rng.integers(len(self.squares))]
        height, width = rng.integers(self.smallest, square.shape[-1] + 1, 2)
        top, left = (rng.integers(square.shape[-1] - side + 1) for side in (height, width))
        crop = square[None, :, top : top + height, left : left + width].float()
        crop = F.interpolate(crop, size=(self.size, self.size), mode="bilinear", antialias=True)
        return (crop.flip(-1) if rng.random() < 0.5 else crop) / 127.5 - 1


class PriorObjective:
    """Epsilon prediction with the mean squared error, over all time-steps alike."""

    def __init__(self, config: PriorTrainingConfig) -> None:
        self.config = config
        self.model, self._unet = _first_unet(config)
        self._alpha_bars = alpha_bars().float()
        self._largest = round(config.guide_size / config.crop)
        train_files, validation_files = split_photos(photo_files(Path(config.photos)), held_out=1)
        self._names = [path.stem for path in train_files]
        self._train = load_squares(train_files, self._largest)
        self._validation = load_squares(validation_files, config.guide_size)

    def pictures(self) -> list[str]:
        """Name the photographs."""
        return [f"photos/{name}" for name in self._names]

    def batches(self, size: int) -> DiffusedPhotos:
        """Return the training images in batches of ``size``."""
        guide_size = self.config.guide_size
        return DiffusedPhotos(self._train, guide_size, guide_size, size, self.config.loop.seed)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Mean squared error of the predicted noise (DDPM eq. 14)."""
        device = self.config.loop.device
        x, noise, steps = (tensor.to(device, non_blocking=True) for tensor in batch)
        alpha_bar = self._alpha_bars.to(device)[steps].view(-1, 1, 1, 1)
        noisy = add_noise(x, noise, alpha_bar).contiguous(memory_format=torch.channels_last)
        if self.config.loop.learn:  # torch 2.13 crashes on a CPU in a group norm that learns on what needs no gradient
            noisy.requires_grad_()
        return F.mse_loss(model(noisy, steps).sample.float(), noise)

    def notes(self) -> dict[str, float]:
        """Have nothing to add."""
        return {}

    @torch.no_grad()
    def validate(self, model: nn.Module, sheet: Sheet) -> dict[str, float]:
        """PSNR (dB) of held-out photographs after one denoising step, and of the noisy input, per time-step.

        On the sheet: photographs, then what is left of them after one denoising step at each time-step.
        """
        x = (self._validation.float() / 127.5 - 1).to(self.config.loop.device)
        values = {}
        shown = [self._validation[:SHOWN].float() / 255]
        for step in VALIDATION_TIMESTEPS:
            alpha_bar = self._alpha_bars[step]
            noise = fixed_noise(1, step, tuple(x.shape)).to(x.device)
            noisy = add_noise(x, noise, alpha_bar)
            parts = [model(part, torch.full((len(part),), step, device=x.device)).sample for part in noisy.split(32)]
            denoised = (noisy - (1 - alpha_bar).sqrt() * torch.cat(parts)) / alpha_bar.sqrt()
            shown.append((denoised[:SHOWN].cpu() + 1) / 2)
            values[f"denoised_{step}"] = _psnr(denoised.clamp(-1, 1), x)
            values[f"noisy_{step}"] = _psnr((noisy / alpha_bar.sqrt()).clamp(-1, 1), x)
        for row in zip(*shown, strict=True):
            sheet.add(picture[None] for picture in row)
        return values

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the encoder half as a prior folder, and the up path beside it."""
        config = UNetPriorConfig(self.config.guide_size, self._unet)
        prior = UNetPrior.from_unet(model, config)  # type: ignore[arg-type]
        prior.save(folder)
        encoder = prior.unet.state_dict().keys()
        others = {key: value for key, value in model.state_dict().items() if key not in encoder}
        with whole(folder / UP_PATH) as part:
            save_file({key: value.cpu().half().contiguous() for key, value in others.items()}, part)


def load_whole_unet(prior: Path, up_path: Path) -> nn.Module:
    """Put the two halves of a U-Net together again, as float32; ``up_path`` is a file that a training left.

    Raises:
        ModelError: the folder is no prior, or the file is missing, damaged, or of another prior.
    """
    half = UNetPrior.load(prior)
    unet = cast(nn.Module, build_unet(half.config.unet))
    try:
        others = {key: value.float() for key, value in load_file(up_path).items()}
        unet.load_state_dict(half.unet.state_dict() | others)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{up_path} is not the up path of the prior {prior}: {error}") from error
    return unet


def _first_unet(config: PriorTrainingConfig) -> tuple[nn.Module, Mapping[str, Any]]:
    """Make the U-Net that the training begins with; also give its arguments."""
    if not config.start:
        return cast(nn.Module, build_unet(config.unet)), config.unet
    folder = Path(config.start)
    half = UNetPrior.load(folder)
    arguments = half.config.unet
    if config.up_path:
        return load_whole_unet(folder, Path(config.up_path)), arguments
    unet = cast(nn.Module, build_unet(arguments))
    unet.load_state_dict(half.unet.state_dict(), strict=False)
    return unet, arguments


def _psnr(a: Tensor, b: Tensor) -> float:
    """Mean PSNR per picture of two batches in [-1, 1], in dB."""
    return psnr(a, b, data_range=2.0).mean().item()


def train_prior(config: PriorTrainingConfig, progress: Callable[[int], None] | None = None) -> Path:
    """Train a prior, or carry on a run that was cut off; return the prior folder."""
    accelerator = open_run(config)
    torch.manual_seed(config.loop.seed)
    return train(PriorObjective(config), config.loop, accelerator, progress)
