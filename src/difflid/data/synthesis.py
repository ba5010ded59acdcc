"""Haze for clear photographs: a scene of haze is drawn at random, then rendered on the picture or any part of it.

The scattering model I = J t + A (1 - t) with t = exp(-optical depth) (Koschmieder; Narasimhan & Nayar 2002). The
optical depth mixes relative depth, gradients and smooth random fields, because depth estimated from one picture is
only plausible and real haze is patchy. Densities range from none to nearly blank.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from difflid.haze import LUMA

__all__ = [
    "Box",
    "Camera",
    "Haze",
    "Taste",
    "draw_camera",
    "draw_haze",
    "draw_taste",
    "in_srgb",
    "photograph",
    "render",
    "resample",
]

Array = NDArray[np.float32]
Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture

FIELD = 96  # side of the map of optical depth where there is no depth map
GLOW = 32  # side of the map by which airlight is uneven
HOMOGENEOUS = 0.5  # share of the hazy pictures
LARGEST_OPTICAL_DEPTH = 4.0  # t is at least 0.018
UNSEEN = np.float32(1e-4)  # squared contrast with the airlight that says little about the transmission
WAVELENGTHS = np.array([610, 550, 465], np.float32)  # nm, of the sRGB primaries


@dataclass(frozen=True)
class Haze:
    """A scene of haze over a whole picture."""

    optical_depth: Array  # (h, w) >= 0, at any resolution, spanning the picture
    airlight: Array  # (3,) RGB in [0, 1]
    linear: bool  # mixed in linear light rather than in sRGB values
    angstrom: float = 0.0  # Angstrom exponent: how much faster the optical depth grows towards blue
    glow: Array | None = None  # (h, w, 3), by how much of itself the airlight is more in each place; at any resolution

    @property
    def present(self) -> bool:
        """False for a picture that stays clear."""
        return bool(self.optical_depth.max() > 0)

    def airlight_at(self, shape: tuple[int, int], box: Box) -> Array:
        """Give the airlight in a part of the picture, ``(h, w, 3)`` in [0, 1] or, where it is even, ``(3,)``."""
        if self.glow is None:
            return self.airlight
        glow = [resample(colour, shape[::-1], box) for colour in np.moveaxis(self.glow, 2, 0)]
        return np.asarray((self.airlight * (1 + np.stack(glow, axis=-1))).clip(0, 1), np.float32)


@dataclass(frozen=True)
class Camera:
    """What a camera does to a hazy picture."""

    noise: float  # standard deviation of the sensor noise
    jpeg: int | None  # quality, or none


@dataclass(frozen=True)
class Taste:
    """How a clear photograph could have been developed instead; black stays black."""

    gamma: float = 1.0
    saturation: float = 1.0
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)  # RGB gains

    def develop(self, clear: Array) -> Array:
        """``(h, w, 3)`` sRGB in [0, 1] -> the same."""
        if self.saturation != 1:
            grey = clear @ np.array(LUMA, np.float32)
            clear = grey[..., None] + np.float32(self.saturation) * (clear - grey[..., None])
        clear = (clear * np.array(self.white, np.float32)).clip(0, 1)
        return np.asarray(clear ** np.float32(self.gamma), np.float32)


def draw_haze(depth: Array | None, rng: np.random.Generator, *, clear_share: float = 0.04) -> Haze:
    """Draw the haze of one picture: as the field's test sets have it in half of them, in the others of many kinds.

    Args:
        depth: relative depth ``(h, w)`` in [0, 1], 0 near and 1 far, or None.
        rng: the only source of randomness.
        clear_share: how often there is no haze at all.
    """
    shape = (FIELD, FIELD) if depth is None else depth.shape
    if rng.random() < clear_share:
        return Haze(np.zeros(shape, np.float32), np.ones(3, np.float32), linear=False)
    if rng.random() < HOMOGENEOUS:
        return _homogeneous(depth, shape, rng)
    kind = rng.choice(["scene", "veil", "smoke"], p=[0.57, 0.2, 0.23])
    airlight = _draw_airlight(rng, dim=0.5 if kind == "smoke" else 0.12)
    linear = bool(rng.random() < 0.15)
    angstrom = rng.uniform(0.0, 1.5) if rng.random() < 0.2 else 0.0
    glow: Array | None
    if kind == "smoke":
        glow = _draw_glow(rng, slope=0.4, spread=rng.uniform(0.0, 0.25))
        optical = _smoke(depth, shape, rng)
    else:
        optical = _scene(depth, shape, rng) if kind == "scene" else _veil(depth, shape, rng)
        glow = _draw_glow(rng, slope=0.2) if rng.random() < 0.6 else None
    return Haze(_bounded(optical), airlight, linear, angstrom, glow)


def _homogeneous(depth: Array | None, shape: tuple[int, int], rng: np.random.Generator) -> Haze:
    """Haze of one density before all things, grey and bright, often white, mixed in sRGB values."""
    airlight = rng.uniform(0.7, 1.04) + rng.normal(0, 0.004, 3)
    distance = _gradient(shape, rng) if depth is None else _reshape(depth, rng)
    near = rng.uniform(0.0, 0.7) if rng.random() < 0.7 else 0.0
    optical = _optical_depth(_log_uniform(rng, 0.25, 2.5), near, distance)
    return Haze(_bounded(optical), airlight.clip(0, 1).astype(np.float32), linear=False)


def _scene(depth: Array | None, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Optical depth that grows into the scene."""
    distance = _distance(depth, shape, rng)
    near = rng.uniform(-0.4, 0.5) if rng.random() < 0.6 else 0.0
    density = _log_uniform(rng, 0.35, 3.5)
    optical = _optical_depth(density, near, distance)
    return optical * _patches(shape, rng, spread=rng.uniform(0.1, 0.6)) if rng.random() < 0.35 else optical


def _veil(depth: Array | None, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Optical depth that hardly changes over the picture: a thin veil before everything, as far scenes have it."""
    density = _log_uniform(rng, 0.2, 1.6)
    near = rng.uniform(0.4, 1.0)
    return _optical_depth(density, near, _distance(depth, shape, rng))


def _smoke(depth: Array | None, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Optical depth of dense smoke, in patches: mostly nothing is seen but what is near."""
    near = rng.uniform(0.3, 1.2)
    optical = _optical_depth(_log_uniform(rng, 1.2, 5.0), near, _distance(depth, shape, rng))
    return optical * _patches(shape, rng, spread=rng.uniform(0.0, 0.35))


def _optical_depth(density: float, near: float, distance: Array) -> Array:
    """Haze of one density, a share of ``near`` of it in front of the nearest thing; negative: it begins behind that."""
    return np.asarray(density * (near + (1 - near) * distance), np.float32)


def _distance(depth: Array | None, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    return _gradient(shape, rng) if depth is None or rng.random() < 0.15 else _reshape(depth, rng)


def _reshape(depth: Array, rng: np.random.Generator) -> Array:
    """Relative depth says which is nearer, not how much: bend it at random."""
    return np.asarray(depth ** _log_uniform(rng, 0.5, 2.0), np.float32)


def _gradient(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """A ramp, nearly always thicker towards the top."""
    rows, columns = np.meshgrid(np.linspace(1, 0, shape[0]), np.linspace(-0.5, 0.5, shape[1]), indexing="ij")
    ramp = rows + rng.normal(0, 0.3) * columns
    ramp = (ramp - ramp.min()) / (np.ptp(ramp) + 1e-6)
    return np.asarray(ramp ** np.exp(rng.uniform(-1, 1)), np.float32)


def _patches(
    shape: tuple[int, int], rng: np.random.Generator, *, spread: float, finer: tuple[float, float] = (0.7, 0.35)
) -> Array:
    """A smooth positive random field around 1, of coarse and finer blobs."""
    field = np.zeros(shape, np.float32)
    for cells, weight in zip((2, 4, 8), (1.0, *finer), strict=True):
        field += weight * resample(rng.standard_normal((cells, cells)).astype(np.float32), (shape[1], shape[0]))
    return np.asarray(np.exp(spread * field / (field.std() + 1e-6)), np.float32)


def _log_uniform(rng: np.random.Generator, least: float, most: float) -> float:
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


def _bounded(optical: Array) -> Array:
    return np.clip(optical, 0, LARGEST_OPTICAL_DEPTH).astype(np.float32)


def _draw_airlight(rng: np.random.Generator, *, dim: float) -> Array:
    """Mostly bright, a share of it dim; half of it grey, a third as blue as the sky, the rest as warm as dust."""
    level = rng.uniform(0.4, 0.7) if rng.random() < dim else rng.uniform(0.7, 1.03)
    tint = rng.choice(["grey", "blue", "warm"], p=[0.5, 0.34, 0.16])
    tilt = {"grey": 0.0, "blue": rng.uniform(0.02, 0.3), "warm": -rng.uniform(0.02, 0.2)}[tint]
    colour = level * np.array([1 - tilt, 1 - tilt / 3, 1 + tilt / 2]) + rng.normal(0, 0.008, 3)
    return np.clip(colour, 0, 1).astype(np.float32)


def _draw_glow(rng: np.random.Generator, *, slope: float, spread: float = 0.0) -> Array:
    """Let the sun stand somewhere: one side of the veil is brighter than the other, and its colour a little another.

    And where it is smoke, let it be lit in patches.
    """
    across, down = rng.normal(0, slope, (2, 1)) + rng.normal(0, 0.03, (2, 3))
    places = (np.arange(GLOW) + 0.5) / GLOW - 0.5
    light = 1 + places[None, :, None] * across + places[:, None, None] * down
    lamps = _patches((GLOW, GLOW), rng, spread=spread, finer=(0.5, 0.1))
    return np.asarray(light * lamps[..., None] - 1, np.float32)


def draw_camera(haze: Haze, rng: np.random.Generator) -> Camera:
    """Draw what the camera does; nothing where there is no haze, so that clear pictures stay exactly as they are."""
    noise = rng.uniform(0.0, 0.015) if rng.random() < 0.4 else 0.0
    jpeg = int(rng.integers(70, 97)) if rng.random() < 0.4 else None
    return Camera(noise, jpeg) if haze.present else Camera(0.0, None)


def draw_taste(rng: np.random.Generator) -> Taste:
    """Draw a development; half of them leave the photograph as it is."""
    if rng.random() < 0.5:
        return Taste()
    gamma, saturation = np.exp(rng.uniform(-0.35, 0.35, 2))
    red, green, blue = np.exp(rng.uniform(-0.15, 0.1) + rng.normal(0, 0.03, 3))
    return Taste(float(gamma), float(saturation), (float(red), float(green), float(blue)))


def render(clear: Array, haze: Haze, box: Box = (0, 0, 1, 1)) -> tuple[Array, Array]:
    """Put the part of the haze that lies in ``box`` on that part of the picture.

    Args:
        clear: ``(h, w, 3)`` sRGB in [0, 1], the part of the picture.
        haze: of the whole picture.
        box: where the part lies in the picture.

    Returns:
        hazy ``(h, w, 3)`` and transmission ``(h, w)``, of green where the colours differ.
    """
    optical = resample(haze.optical_depth, (clear.shape[1], clear.shape[0]), box)
    transmission = np.exp(-np.maximum(optical, 0))
    t = transmission[..., None] ** ((WAVELENGTHS / WAVELENGTHS[1]) ** np.float32(-haze.angstrom))
    airlight = haze.airlight_at(transmission.shape, box)
    if haze.linear and haze.present:
        return _to_srgb(_to_linear(clear) * t + _to_linear(airlight) * (1 - t)), transmission
    return clear * t + airlight * (1 - t), transmission


def in_srgb(transmission: Array, clear: Array, hazy: Array, haze: Haze, box: Box = (0, 0, 1, 1)) -> Array:
    """Give the transmission ``(h, w)`` with which I = J t + A (1 - t) holds in sRGB values, where the network has it.

    Haze mixed in linear light looks denser on dark things. Solved for t by least squares over the colours; where a
    thing has the colour of the airlight any t would do, and it stays as it is.
    """
    if not (haze.linear and haze.present):
        return transmission
    airlight = haze.airlight_at(transmission.shape, box)
    contrast = clear - airlight
    seen = ((hazy - airlight) * contrast).sum(-1) + UNSEEN * transmission
    return np.asarray((seen / ((contrast * contrast).sum(-1) + UNSEEN)).clip(0, 1), np.float32)


def photograph(hazy: Array, camera: Camera, rng: np.random.Generator) -> Array:
    """Take the picture: sensor noise, JPEG; ``(h, w, 3)`` in [0, 1]."""
    if camera.noise:
        hazy = hazy + np.float32(camera.noise) * rng.standard_normal(hazy.shape, np.float32)
    hazy = hazy.clip(0, 1)
    return hazy if camera.jpeg is None else _jpeg(hazy, camera.jpeg, rng)


def resample(field: Array, size: tuple[int, int], box: Box = (0, 0, 1, 1)) -> Array:
    """Bilinearly resample the part of ``field`` in ``box`` to ``size`` = (width, height)."""
    height, width = field.shape
    pixels = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    return np.asarray(Image.fromarray(field).resize(size, Image.Resampling.BILINEAR, box=pixels))


def _jpeg(picture: Array, quality: int, rng: np.random.Generator) -> Array:
    """Compress, with the grid of 8 x 8 blocks anywhere: after a crop or a resize it lies anywhere."""
    top, left = (int(offset) for offset in rng.integers(0, 8, 2))
    pixels = np.pad(np.round(picture * 255).astype(np.uint8), ((top, 0), (left, 0), (0, 0)), mode="edge")
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), np.float32)[top:, left:] / np.float32(255)


def _to_linear(srgb: Array) -> Array:
    """IEC 61966-2-1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _to_srgb(linear: Array) -> Array:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)
