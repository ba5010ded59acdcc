"""A Dehazer: a frozen prior and the network it instructs, from picture to picture."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from difflid import image as images
from difflid.errors import ModelError
from difflid.files import whole
from difflid.haze import luma
from difflid.image import Picture, Samples
from difflid.network import Condition, DiffLI2D, DiffLI2DConfig, LevelConfig, Scattering, restore
from difflid.network.guide import bound_tint, seen_through
from difflid.network.head import SMALLEST_TRANSMISSION
from difflid.prior import Prior, UNetPrior
from difflid.tiling import automatic_side, free_memory
from difflid.views import Source, View, exact_views, fast_views, halo, reduce
from difflid.zoo import find_model, find_prior, upload_model

__all__ = ["MAPS", "NO_HAZE", "Dehazed", "Dehazer", "DehazerConfig", "Detail", "Restoration"]

log = logging.getLogger(__name__)

WITNESS = "guide.witness.weight"
NO_HAZE = 0.015  # a picture whose haze score is lower is said to have no haze, and left alone
FAST_FROM = 8_000_000  # pixels from which "auto" takes the fast path
PIXEL_BYTES = 800  # of memory that the network takes per pixel it looks at
WHITE_GAINS = 0.5, 2.0  # least and greatest

MAPS: Mapping[str, Callable[[Scattering], Tensor]] = {  # each in [0, 1]
    "transmission": lambda seen: seen.transmission,
    "depth": lambda seen: seen.transmission.log() / math.log(SMALLEST_TRANSMISSION),  # optical depth, 1: the farthest
    "airlight": lambda seen: seen.airlight,
}

Detail = Literal["auto", "exact", "fast"]  # how the network looks at a picture, see Dehazer.dehaze


@dataclass(frozen=True)
class DehazerConfig:
    """How a prior is read for a network."""

    network: DiffLI2DConfig
    content_timestep: int = 0  # t1, small: the latent tells the content
    haze_timestep: int = 500  # t2, large: the latent tells the haze
    mirrored: bool = False  # the picture is also seen mirrored, and what is seen of the whole is the mean of both


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


@dataclass(frozen=True)
class Dehazed:
    """A dehazed picture, and what was seen in it as 8-bit samples where maps were asked for."""

    picture: Picture
    haze_score: float  # share of veil in [0, 1], see Restoration
    maps: Mapping[str, Samples]  # transmission and depth (H, W, 1), airlight (H, W, 3)
    left_alone: bool  # no haze was found, and the picture is the one that was given


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
        return self._encode(Source.of(image))

    def _encode(self, source: Source) -> Condition:
        zoom = self.network.config.guide_zoom
        size = zoom * self.prior.spec.guide_size
        copy, mirrored = reduce(source, size, size), self.config.mirrored
        copy = torch.cat((copy, copy.flip(3))) if mirrored else copy
        guide = F.avg_pool2d(copy, zoom)
        content, haze = self.prior.encode(guide, (self.config.content_timestep, self.config.haze_timestep))
        condition = self.network.condition(copy, content, haze, mirrored=mirrored)
        if self.network.config.guide_smoke:  # has learnt what dense smoke hides
            return condition
        guide = guide[: len(condition.haze)]
        haze = seen_through(condition.haze, guide)
        return replace(condition, haze=haze, airlight=bound_tint(condition.airlight, haze, guide))

    @torch.inference_mode()
    def restore(
        self,
        image: Tensor,
        condition: Condition,
        *,
        strength: float = 1.0,
        tile: int | None = None,
        detail: Detail = "exact",
    ) -> Restoration:
        """Remove the haze; cheap to repeat at another strength with the same condition.

        Args:
            image: the picture that was encoded, RGB ``(B, 3, H, W)`` in [0, 1].
            condition: what :meth:`encode` returned for it.
            strength: exponent on the transmission in [-1, 2]: 1 removes the haze, 0 nothing, -1 doubles it.
            tile: side of a tile in pixels; 0: the whole picture at once; None: chosen by the free memory. The result
                is the same.
            detail: see :meth:`dehaze`.

        Raises:
            ValueError: the strength is not in [-1, 2], the tile is negative, or there is no such detail.
        """
        _check_strength(strength)
        clear, transmission, airlight = (
            image.new_empty(len(image), channels, *image.shape[2:]) for channels in (3, 1, 3)
        )
        for view in self._views(Source.of(image), condition, tile, detail, batch=len(image)):
            place = (..., view.rows, view.columns)
            clear[place] = restore(view.image, view.seen, strength).clamp(0, 1)
            transmission[place], airlight[place] = view.seen.transmission, view.seen.airlight
        return Restoration(clear, transmission, airlight)

    @torch.inference_mode()
    def dehaze(
        self,
        picture: Picture,
        *,
        strength: float = 1.0,
        tile: int | None = None,
        detail: Detail = "auto",
        maps: bool = False,
        white_balance: bool = False,
    ) -> Dehazed:
        """Remove the haze from a picture of any size, in little more memory than twice its samples.

        A picture without haze (a haze score below `NO_HAZE`) is given back as it is, but for the white balance.

        Args:
            picture: see :func:`difflid.image.load`.
            strength: see :meth:`restore`.
            tile: see :meth:`restore`.
            detail: "exact": the network looks at every pixel. "fast": it looks at a copy reduced to a megapixel, what
                it saw follows the edges of the full picture, and the haze is removed from every pixel. "auto": fast
                from 8 megapixels up. A network without levels sees only the guide, and is always fast.
            maps: also keep what was seen.
            white_balance: take the airlight for white, which removes the colour of the light from the picture; where
                the airlight is the blue of the distance, it makes the picture too warm.

        Raises:
            ValueError: as :meth:`restore`.
        """
        _check_strength(strength)
        device = next(self.network.parameters()).device
        width, height = picture.size
        source = Source((height, width), lambda *part: images.to_tensor(picture.colours(*part)).to(device))
        result, seen = picture.blank(), _blank_maps(height, width) if maps else {}
        condition, veil = self._encode(source), 0.0
        gains = _white_gains(condition) if white_balance else None
        for view in self._views(source, condition, tile, detail):
            if strength or white_balance:
                colours = restore(view.image, view.seen, strength)
                colours = colours if gains is None else colours * gains
                result.paint(images.to_pixels(colours), picture, view.rows, view.columns)
            veil += float((1 - view.seen.transmission).sum(dtype=torch.float64))
            _paint_maps(seen, view)
        score = veil / (height * width)
        left_alone = score < NO_HAZE and not white_balance
        return Dehazed(picture if left_alone else result, score, seen, left_alone)

    def _views(
        self, source: Source, condition: Condition, tile: int | None, detail: Detail, *, batch: int = 1
    ) -> Iterator[View]:
        if detail not in get_args(Detail):
            raise ValueError(f"detail must be one of {', '.join(get_args(Detail))}, got {detail!r}")
        height, width = source.size
        fast = detail == "fast" or (detail == "auto" and height * width >= FAST_FROM)
        fast = fast or not self.network.config.levels  # it sees nothing in a pixel
        return (fast_views if fast else exact_views)(self.network, source, condition, self._side(tile, batch))

    def _side(self, tile: int | None, batch: int) -> int:
        if tile is None:
            free = free_memory(next(self.network.parameters()).device)
            tile = automatic_side(free, bytes_per_pixel=batch * PIXEL_BYTES, halo=halo(self.network))
        if tile < 0:
            raise ValueError(f"a tile has a side of at least 1 pixel, or 0 for the whole picture; got {tile}")
        return -(-tile // self.network.stride) * self.network.stride

    def __call__(self, image: Any, *, strength: float = 1.0, tile: int | None = None, detail: Detail = "auto") -> Any:
        """Dehaze a picture of any kind; the result is of the same kind, type and size.

        Args:
            image: PIL image, NumPy array ``(H, W[, 1 | 3 | 4])``, tensor ``([B,] 3, H, W)``, path, or encoded bytes.
                A path gives a PIL image.
            strength: see :meth:`restore`.
            tile: see :meth:`restore`.
            detail: see :meth:`dehaze`.
        """
        if isinstance(image, Tensor):
            batch, give_back = images.open_tensor(image)
            batch = batch.to(next(self.network.parameters()).device)
            seen = self.restore(batch, self.encode(batch), strength=strength, tile=tile, detail=detail)
            hazy = seen.haze_score >= NO_HAZE
            return give_back(torch.where(hazy[:, None, None, None], seen.clear, batch))
        picture, finish = images.open_picture(image)
        return finish(self.dehaze(picture, strength=strength, tile=tile, detail=detail).picture)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder: ``config.json``, ``model.safetensors`` (float16) and the folder ``prior``."""
        if not isinstance(self.prior, UNetPrior):
            raise ModelError(f"only a UNetPrior can be saved, this is a {type(self.prior).__name__}")
        folder = Path(folder)
        self.prior.save(folder / "prior")
        self.save_network(folder)

    def save_network(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` (float16) without a prior."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.half().contiguous() for key, value in self.network.state_dict().items()}
        with whole(folder / "model.safetensors") as part:
            save_file(weights, part)
        with whole(folder / "config.json") as part:
            part.write_text(json.dumps(asdict(self.config), indent=2) + "\n")

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
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is not a model folder: it has no config.json")
        try:
            config = _read_config(json.loads((folder / "config.json").read_text()))
            weights = load_file(folder / "model.safetensors")
        except KeyError as error:
            raise ModelError(
                f"{folder} is not a model folder (of a prior, perhaps): no {error} in config.json"
            ) from error
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise ModelError(f"{folder} is not a model folder: {error}") from error
        network = DiffLI2D(config.network)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 15 % faster on a CPU
        try:
            network.load_state_dict({key: value.float() for key, value in _all_cells_heard(weights, network).items()})
        except RuntimeError as error:
            raise ModelError(f"the weights in {folder} do not fit its config.json: {error}") from error
        return cls(UNetPrior.load(find_prior(folder)), network, config)


def _all_cells_heard(weights: Mapping[str, Tensor], network: DiffLI2D) -> Mapping[str, Tensor]:
    """Bring up to date a model of before the airlight was a weighted mean: all cells count alike."""
    known = network.state_dict()
    if WITNESS not in known or WITNESS in weights:
        return weights
    log.info("a model of before %s: every cell counts alike for the airlight", WITNESS)
    return {**weights, WITNESS: torch.zeros_like(known[WITNESS])}


def _check_strength(strength: float) -> None:
    if not -1 <= strength <= 2:
        raise ValueError(f"strength must be between -1 and 2, got {strength}")


def _white_gains(condition: Condition) -> Tensor:
    """Say by what to multiply the channels so that the airlight becomes grey of the same luma: ``(B, 3, 1, 1)``."""
    airlight = condition.coarse().airlight.mean(dim=(2, 3), keepdim=True)
    return (luma(airlight) / airlight).clamp(*WHITE_GAINS)


def _blank_maps(height: int, width: int) -> dict[str, Samples]:
    return {name: np.empty((height, width, 3 if name == "airlight" else 1), np.uint8) for name in MAPS}


def _paint_maps(maps: Mapping[str, Samples], view: View) -> None:
    for name, samples in maps.items():
        values = images.to_pixels(MAPS[name](view.seen))
        samples[view.rows, view.columns] = np.rint(values.clip(0, 1) * 255)


def _read_config(tree: Mapping[str, Any]) -> DehazerConfig:
    network = dict(tree["network"])
    network["levels"] = tuple(LevelConfig(**level) for level in network["levels"])
    return DehazerConfig(**{**tree, "network": DiffLI2DConfig(**network)})
