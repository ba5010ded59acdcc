"""A diffusion U-Net of `diffusers` as a prior: only its encoder half is kept, run and stored.

``conv_in -> down blocks -> middle block``, and stop: the output of the middle block is the latent ("h-space").
All time-steps of a batch go through in one pass. The weights are frozen.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from difflid.errors import ConfigError, ModelError
from difflid.files import whole
from difflid.prior.latents import TIMESTEPS, LatentSpec, add_noise, alpha_bars, fixed_noise

__all__ = ["UNetPrior", "UNetPriorConfig", "build_unet"]

_UP_PATH = ("up_blocks", "conv_norm_out", "conv_act", "conv_out")
_DOWN_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")


@dataclass(frozen=True)
class UNetPriorConfig:
    """What is needed to rebuild a U-Net prior and to read its latents."""

    guide_size: int  # side of the square guide in pixels; a multiple of the reduction
    unet: Mapping[str, Any] = field(default_factory=dict)  # arguments of diffusers.UNet2DModel
    beta_start: float = 1e-4  # first beta of the schedule
    beta_end: float = 0.02  # last beta
    noise_seed: int = 0  # seed of the fixed noise
    schedule: str = "linear"  # of the betas: "linear", "scaled_linear" or "cosine", see alpha_bars
    attention_heads: int | None = None  # heads of every attention; None: by the attention_head_dim of `unet`
    time_channels: int | None = None  # width of the sinusoids of the time-step; None: as the first level of `unet`


def build_unet(arguments: Mapping[str, Any]) -> UNet2DModel:
    """Build the whole U-Net, with its up path, from the arguments of ``diffusers.UNet2DModel``."""
    try:
        return UNet2DModel(**arguments)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"these arguments do not make a UNet2DModel: {error}") from error


class UNetPrior(nn.Module):
    """The frozen encoder half of a diffusion U-Net (implements :class:`difflid.prior.Prior`).

    Raises:
        ConfigError: the U-Net cannot be built, or its bottleneck cannot be read as latents of pictures.
    """

    def __init__(self, config: UNetPriorConfig) -> None:
        super().__init__()
        self.config = config
        self.unet: Any = _encoder_half(config)  # diffusers leaves its modules untyped
        levels = self.unet.config.block_out_channels
        self.spec = LatentSpec(levels[-1], 2 ** (len(levels) - 1), config.guide_size)
        if config.guide_size <= 0 or config.guide_size % self.spec.reduction:
            raise ConfigError(
                f"guide_size {config.guide_size} is not a multiple of the reduction {self.spec.reduction}"
            )
        self._alpha_bars = alpha_bars(
            beta_start=config.beta_start, beta_end=config.beta_end, schedule=config.schedule
        )  # float64 on the CPU, whatever the device and type of the weights
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Leave the prior as it is: it is frozen and always in evaluation mode."""
        return self

    @classmethod
    def from_unet(cls, unet: UNet2DModel, config: UNetPriorConfig) -> Self:
        """Copy the encoder half of a trained U-Net."""
        state: dict[str, Tensor] = unet.state_dict()  # type: ignore[attr-defined]
        kept = {key: value for key, value in state.items() if not key.startswith(_UP_PATH)}
        return cls.from_weights(config, {key: value.to("cpu", copy=True) for key, value in kept.items()})

    @classmethod
    def untrained(cls, config: UNetPriorConfig, seed: int = 0) -> Self:
        """Make a prior that has learnt nothing, of random weights that are a function of the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    @classmethod
    def from_weights(cls, config: UNetPriorConfig, weights: Mapping[str, Tensor]) -> Self:
        """Make a float32 prior of the state of an encoder half; float32 tensors become its weights, uncopied.

        Raises:
            ModelError: the weights do not fit the configuration, or the configuration makes no prior.
        """
        try:
            with torch.device("meta"):
                prior = cls(config)
            prior.unet.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
        except (ConfigError, RuntimeError) as error:
            raise ModelError(f"the weights do not make the prior that its configuration says: {error}") from error
        return prior

    @torch.no_grad()
    def encode(self, guide: Tensor, timesteps: Sequence[int]) -> Tensor:
        """Read the latents at each time-step; see :meth:`difflid.prior.Prior.encode`."""
        size = self.spec.guide_size
        if guide.ndim != 4 or guide.shape[1:] != (3, size, size):
            raise ValueError(f"the guide must be (B, 3, {size}, {size}), got {tuple(guide.shape)}")
        if not timesteps or not all(0 <= timestep < TIMESTEPS for timestep in timesteps):
            raise ValueError(f"timesteps must be integers in [0, {TIMESTEPS - 1}], at least one, got {timesteps}")
        x = guide.float() * 2 - 1
        noisy = torch.cat([self._diffuse(x, timestep) for timestep in timesteps])  # (T' B, 3, S, S)
        steps = torch.tensor(timesteps, device=guide.device).repeat_interleave(len(guide))
        latents = self._bottleneck(noisy.to(self.unet.dtype), steps).float()  # (T' B, C, S/r, S/r)
        return latents.view(len(timesteps), len(guide), *latents.shape[1:])

    def _diffuse(self, x: Tensor, timestep: int) -> Tensor:
        noise = fixed_noise(self.config.noise_seed, timestep, tuple(x.shape[1:]))
        return add_noise(x, noise.to(x.device), self._alpha_bars[timestep])

    def _bottleneck(self, x: Tensor, timesteps: Tensor) -> Tensor:
        unet = self.unet
        if unet.config.center_input_sample:
            x = 2 * x - 1
        embedding = unet.time_embedding(unet.time_proj(timesteps).to(x.dtype))
        x = unet.conv_in(x)
        for block in unet.down_blocks:
            x, _ = block(x, embedding)
        bottleneck: Tensor = unet.mid_block(x, embedding)
        return bottleneck

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``, both or none.

        Raises:
            OSError, SafetensorError: they cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.to(dtype).contiguous() for key, value in self.state_dict().items()}
        text = json.dumps(asdict(self.config), indent=2) + "\n"
        with whole(folder / "model.safetensors") as weights_part, whole(folder / "config.json") as config_part:
            save_file(weights, weights_part)
            config_part.write_text(text)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a prior folder written by :meth:`save`, as float32.

        Raises:
            ModelError: a file is missing or damaged, or the weights do not fit the configuration.
        """
        try:
            config = UNetPriorConfig(**json.loads((folder / "config.json").read_text()))
            weights = load_file(folder / "model.safetensors")
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise ModelError(f"{folder} is not a prior folder: {error}") from error
        try:
            copies = {key.removeprefix("unet."): value.to(torch.float32, copy=True) for key, value in weights.items()}
            return cls.from_weights(config, copies)
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from error


def _encoder_half(config: UNetPriorConfig) -> Any:
    unet: Any = build_unet(config.unet)
    _check_readable(unet.config)
    for name in _UP_PATH:
        delattr(unet, name)
    if config.attention_heads is not None:
        _set_heads(unet, config.attention_heads)
    if config.time_channels is not None:
        _set_time_channels(unet, config.time_channels)
    return unet


def _check_readable(unet: Mapping[str, Any]) -> None:
    """Refuse a U-Net whose bottleneck is not a function of an RGB picture and an integer time-step alone."""
    classes = unet["class_embed_type"] is not None or unet["num_class_embeds"] is not None
    odd_blocks = set(unet["down_block_types"]) - set(_DOWN_BLOCKS)
    demands = [
        (unet["in_channels"] == 3, f"3 input channels (RGB), got {unet['in_channels']}"),
        (unet["time_embedding_type"] != "fourier", "integer time-steps, got a U-Net of noise levels ('fourier')"),
        (unet["mid_block_type"] is not None, "a middle block, got none"),
        (not classes, "an unconditional U-Net, got one conditioned on classes"),
        (not odd_blocks, f"down blocks of {', '.join(_DOWN_BLOCKS)}, got {', '.join(sorted(odd_blocks))}"),
    ]
    for met, demand in demands:
        if not met:
            raise ConfigError(f"a prior needs {demand}")


def _set_heads(unet: nn.Module, heads: int) -> None:
    """Give every attention the same number of heads, which diffusers can only say as channels per head."""
    for attention in (module for module in unet.modules() if isinstance(module, Attention)):
        if attention.inner_dim % heads:
            raise ConfigError(f"attention_heads {heads} does not divide the {attention.inner_dim} channels of a level")
        attention.heads = heads
        attention.scale = (attention.inner_dim // heads) ** -0.5


def _set_time_channels(unet: Any, channels: int) -> None:
    """Separate the width of the time-step's sinusoids from the width of the first level."""
    unet.time_proj = Timesteps(channels, unet.config.flip_sin_to_cos, unet.config.freq_shift)
    unet.time_embedding = TimestepEmbedding(channels, unet.time_embedding.linear_1.out_features)
