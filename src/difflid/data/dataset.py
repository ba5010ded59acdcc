"""Training samples for the dehazing network: a crop, and the guide of the whole picture it comes from.

The pictures are photographs on which haze is rendered, pairs with real haze, or both.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from difflid import image
from difflid.data.pairs import Pair
from difflid.data.photos import decode_all, open_photo, photo_files, repeated, split_photos
from difflid.data.real_pairs import RealPair, decode_pair
from difflid.data.scenes import compose
from difflid.data.shards import Shards
from difflid.data.synthesis import (
    Box,
    Haze,
    Taste,
    draw_camera,
    draw_haze,
    draw_taste,
    in_srgb,
    photograph,
    render,
    resample,
)
from difflid.errors import DataError, ImageError

__all__ = ["HazyBatch", "HazyCrops", "Photo", "load_photos", "load_splits", "refuse_other_depth"]

log = logging.getLogger(__name__)
Arrays = tuple[NDArray[np.float32], ...]

FOREIGN = 0.5  # share of the pictures under the haze of another one: where it is dense says nothing of what is there
ATTEMPTS = 10  # pairs in a row that may be damaged
SMALLEST_CROP = 96  # pixels of the photograph; smaller ones are magnified to the size of the crop


@dataclass(frozen=True)
class Photo:
    """A decoded clear photograph."""

    name: str
    clear: Image.Image
    depth: NDArray[np.float32] | None  # (h, w) in [0, 1], 0 near, 1 far

    def framed(self, frame: Box, *, mirrored: bool) -> "Photo":
        """Take a part, with the depth that lies there, as if it were the whole."""
        part, frame = _cut(self.clear, frame, mirrored=mirrored)
        if self.depth is None:
            return Photo(self.name, part, None)
        depth = resample(self.depth, self.depth.shape[::-1], frame)
        return Photo(self.name, part, np.ascontiguousarray(depth[:, ::-1]) if mirrored else depth)


class HazyBatch(NamedTuple):
    """K crops of each of B pictures, RGB in [0, 1]; the crops of a picture lie one after the other."""

    hazy: Tensor  # (B K, 3, c, c)
    clear: Tensor  # (B K, 3, c, c)
    transmission: Tensor  # (B K, 1, c, c)
    window: Tensor  # (B K, 4) top, left of the crop; height, width of the picture
    copy: Tensor  # (B, 3, z S, z S) the whole hazy picture, of which the guide is the mean of squares of z pixels
    clear_guide: Tensor  # (B, 3, S, S)
    guide_transmission: Tensor  # (B, 1, S, S)
    airlight: Tensor  # (B, 3, S, S)
    physics: Tensor  # (B,) 1 where transmission and airlight are known, 0 where the haze is real and they say nothing
    skipped: Tensor  # (B,) damaged pairs that were drawn first and left out


def load_splits(
    folder: str | None, depth_folder: str | None, repeats: Sequence[str], validation: int
) -> tuple[list[Photo], list[Photo]]:
    """Decode the photographs to train on, each as often as ``repeats`` say, and ``validation`` others.

    Without a folder there are none.

    Raises:
        DataError: pictures cannot be read or are too few, or the depth maps are of other photographs.
    """
    if folder is None:
        return [], []
    train, held_out = split_photos(photo_files(Path(folder)), held_out=min(1, validation))
    depth = Path(depth_folder) if depth_folder else None
    refuse_other_depth(train, depth)
    if repeats:
        train = repeated(train, [Path(each) for each in repeats])
    spread = held_out[:: max(1, len(held_out) // max(1, validation))][:validation]  # evenly over the list
    return load_photos(train, depth), load_photos(spread, depth)


def load_photos(files: Sequence[Path], depth_folder: Path | None) -> list[Photo]:
    """Decode photographs and, where there is one of the same stem, their depth map (grey, 8 or 16 bit, white far).

    Raises:
        DataError: a picture cannot be read, or there is no folder of depth maps.
    """
    depths, once = _depth_maps(depth_folder), list(dict.fromkeys(files))
    decoded = dict(zip(once, decode_all(once, lambda path: _load_photo(path, depths.get(path.stem))), strict=True))
    return [decoded[path] for path in files]


def refuse_other_depth(files: Sequence[Path], depth_folder: Path | None) -> None:
    """Refuse a folder of depth maps none of which is of one of these photographs.

    Raises:
        DataError: it is one, or there is no such folder.
    """
    if depth_folder and not _depth_maps(depth_folder).keys() & {path.stem for path in files}:
        raise DataError(
            f"no picture in {depth_folder} is named as a photograph in {files[0].parent}, such as {files[0].stem}"
        )


def _depth_maps(folder: Path | None) -> dict[str, Path]:
    """List the depth maps by the name of their photograph."""
    if folder and not folder.is_dir():
        raise DataError(f"no such folder of depth maps: {folder}")
    return {path.stem: path for path in photo_files(folder)} if folder else {}


def _load_photo(path: Path, depth: Path | None) -> Photo:
    return Photo(path.stem, open_photo(path), None if depth is None else _load_depth(depth))


def _load_depth(path: Path) -> NDArray[np.float32]:
    try:
        return image.load(path).pixels[..., 0]
    except ImageError as error:
        raise DataError(f"cannot read the depth map {path}: {error}") from error


@dataclass(frozen=True)
class HazyCrops(Dataset[HazyBatch]):
    """Item ``i``: a batch of pictures, synthetic haze drawn afresh, and crops of each.

    Picture number n, counted over all batches, is a function of (seed, n): the batches may be of any size.
    """

    photos: Sequence[Photo]
    guide_size: int  # S
    crop: int
    crops: int  # of each picture
    batch: int
    seed: int
    pairs: Sequence[RealPair | Pair] | Shards = ()  # decoded, or decoded on every use
    pair_share: float = 0.5  # how often a picture is one of the pairs, where there are photographs as well
    frame: float = 1.0  # smallest side of the part that is taken as a whole picture, as a share
    wholes: int = 0  # so many pictures come first without crops; a multiple of the batch
    guide_zoom: int = 1  # z
    composed: float = 0.0  # how often a picture under synthetic haze is a scene made of parts of the photographs

    def __getitem__(self, index: int) -> HazyBatch:
        numbers = range(index * self.batch, (index + 1) * self.batch)
        pictures = [self._picture(number) for number in numbers]
        crops, wholes = zip(*pictures, strict=True)
        copy, *truth, physics, skipped = _stack(wholes)
        truth = [F.avg_pool2d(each, self.guide_zoom) for each in truth]  # by a worker, which has less to hand over then
        whole = copy, *truth, physics, skipped
        return HazyBatch(*(_stack([crop for of_one in crops for crop in of_one]) or self._no_crops()), *whole)

    @property
    def _copy_size(self) -> int:
        return self.guide_zoom * self.guide_size

    def _picture(self, number: int) -> tuple[Sequence[Arrays], Arrays]:
        """Crops as (hazy, clear, transmission, window), then the last fields of a HazyBatch, as large as the copy."""
        rng = np.random.default_rng((self.seed, number))
        real = len(self.pairs) and (not self.photos or rng.random() < self.pair_share)
        return self._real(number, rng) if real else self._synthetic(number, rng)

    def _no_crops(self) -> list[Tensor]:
        return [torch.empty(0, channels, self.crop, self.crop) for channels in (3, 3, 1)] + [torch.empty(0, 4)]

    def _boxes(self, number: int, size: tuple[int, int], rng: np.random.Generator) -> Iterator[Box]:
        """Draw where in picture ``number`` its crops lie."""
        for _ in range(0 if number < self.wholes else self.crops):
            yield _draw_box(size, rng)

    def _synthetic(self, number: int, rng: np.random.Generator) -> tuple[Sequence[Arrays], Arrays]:
        composed = rng.random() < self.composed
        photo = self._compose(rng) if composed else self._draw_photo(rng)
        scene = photo if composed or rng.random() >= FOREIGN else self._draw_photo(rng)
        clear, haze = photo.clear, draw_haze(scene.depth, rng)
        camera = draw_camera(haze, rng)
        taste = draw_taste(rng) if haze.present else Taste()
        crops: list[Arrays] = []
        for box in self._boxes(number, clear.size, rng):
            crop = taste.develop(_part(clear, self.crop, box, Image.Resampling.BICUBIC))
            hazy, transmission = render(crop, haze, box)
            transmission = in_srgb(transmission, crop, hazy, haze, box)
            hazy = photograph(hazy, camera, rng)
            crops.append((_channels_first(hazy), _channels_first(crop), transmission[None], self._window(box)))
        copy = taste.develop(_part(clear, self._copy_size, (0, 0, 1, 1), Image.Resampling.BILINEAR))
        hazy_copy, transmission = render(copy, haze)
        transmission = in_srgb(transmission, copy, hazy_copy, haze)
        airlight = np.broadcast_to(haze.airlight_at(transmission.shape, (0, 0, 1, 1)), copy.shape)
        whole = (*map(_channels_first, (hazy_copy, copy)), transmission[None], _channels_first(airlight))
        return crops, (*whole, np.ones((), np.float32), np.zeros((), np.float32))

    def _compose(self, rng: np.random.Generator) -> Photo:
        return Photo("composed", *compose(lambda: self.photos[int(rng.integers(len(self.photos)))].clear, rng))

    def _draw_photo(self, rng: np.random.Generator) -> Photo:
        photo = self.photos[int(rng.integers(len(self.photos)))]
        return photo.framed(_draw_frame(self.frame, rng), mirrored=bool(rng.random() < 0.5))

    def _real(self, number: int, rng: np.random.Generator) -> tuple[Sequence[Arrays], Arrays]:
        pair, skipped = self._draw_pair(number, rng)
        frame, mirrored = _draw_frame(self.frame, rng), bool(rng.random() < 0.5)
        pictures = [_cut(picture, frame, mirrored=mirrored)[0] for picture in (pair.hazy, pair.clear)]
        unknown = np.ones((1, self.crop, self.crop), np.float32)
        crops = []
        for box in self._boxes(number, pictures[0].size, rng):
            hazy, clear = (_part(picture, self.crop, box, Image.Resampling.BICUBIC) for picture in pictures)
            crops.append((_channels_first(hazy), _channels_first(clear), unknown, self._window(box)))
        copies = [_part(picture, self._copy_size, (0, 0, 1, 1), Image.Resampling.BILINEAR) for picture in pictures]
        unknown = np.ones((1, self._copy_size, self._copy_size), np.float32)
        whole = (*map(_channels_first, copies), unknown, np.zeros_like(unknown, shape=(3, *unknown.shape[1:])))
        return crops, (*whole, np.zeros((), np.float32), np.array(skipped, np.float32))

    def _draw_pair(self, number: int, rng: np.random.Generator) -> tuple[RealPair, int]:
        """Draw until a pair can be read, or take the next of the shards; say how many could not."""
        for skipped in range(ATTEMPTS):
            drawn = int(rng.integers(len(self.pairs)))
            try:
                if isinstance(self.pairs, Shards):
                    return self.pairs[self.pairs.place(number + skipped, self.seed)], skipped
                pair = self.pairs[drawn]
                return (pair if isinstance(pair, RealPair) else decode_pair(pair)), skipped
            except DataError as error:
                log.warning("left out: %s", error)
                last = error
        raise DataError(f"{ATTEMPTS} pairs drawn in a row cannot be read; the log names them, the last one: {last}")

    def _window(self, box: Box) -> NDArray[np.float32]:
        """Where the crop lies, in pixels of a picture magnified as the crop is."""
        width, height = self.crop / (box[2] - box[0]), self.crop / (box[3] - box[1])
        return np.array([box[1] * height, box[0] * width, height, width], np.float32)


def _stack(samples: Sequence[Arrays]) -> list[Tensor]:
    return [torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True)]


def _draw_frame(smallest: float, rng: np.random.Generator) -> Box:
    """Draw the part that is taken as if it were the whole picture, as shares."""
    width, height = rng.uniform(smallest, 1, 2)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return left, top, left + width, top + height


def _cut(picture: Image.Image, frame: Box, *, mirrored: bool) -> tuple[Image.Image, Box]:
    """Take a part of a picture, in whole pixels and one at least; say as shares which part it is."""
    left, top = (int(share * side) for share, side in zip(frame[:2], picture.size, strict=True))
    right, bottom = (math.ceil(share * side) for share, side in zip(frame[2:], picture.size, strict=True))
    part = picture.crop((left, top, right, bottom))
    part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else part
    return part, (left / picture.width, top / picture.height, right / picture.width, bottom / picture.height)


def _draw_box(size: tuple[int, int], rng: np.random.Generator) -> Box:
    """Draw a square part of the picture, from a detail to all of its shorter side, as shares."""
    width, height = size
    side = min(np.exp(rng.uniform(np.log(min(SMALLEST_CROP, *size)), np.log(min(size)))), *size)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    return left / width, top / height, (left + side) / width, (top + side) / height


def _part(picture: Image.Image, side: int, box: Box, filter_: Image.Resampling) -> NDArray[np.float32]:
    """Resize a part of a picture to a square, ``(side, side, 3)`` in [0, 1]."""
    pixels = tuple(share * extent for share, extent in zip(box, picture.size * 2, strict=True))
    part = picture.resize((side, side), filter_, box=pixels)  # type: ignore[arg-type]
    return _pixels(part)


def _pixels(picture: Image.Image) -> NDArray[np.float32]:
    """``(h, w, 3)`` in [0, 1]."""
    return np.asarray(picture, np.float32) / np.float32(255)


def _channels_first(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)


def hazy_version(
    photo: Photo, rng: np.random.Generator, *, clear_share: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], Haze]:
    """Render fresh haze on a whole photograph: hazy and clear ``(H, W, 3)`` in [0, 1], and the haze drawn."""
    haze = draw_haze(photo.depth, rng, clear_share=clear_share)
    clear = _pixels(photo.clear)
    hazy, _ = render(clear, haze)
    return photograph(hazy, draw_camera(haze, rng), rng), clear, haze
