"""Scenes with exact depth: rooms and streets of boxes, papered with parts of photographs, seen by a pinhole camera.

Depth that is estimated from one photograph is blurred where a thing ends and goes with its brightness. Here the edge of
every thing is an edge of the depth, and its colours say nothing of where it stands. Such scenes look like nothing real,
but haze lies over them as over rooms.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["compose"]

Array = NDArray[np.float32]
Vector = NDArray[np.float64]

SIDE = 320  # pixels of a picture
LARGEST_TEXTURE = 128  # pixels of a side
SMALLEST_PART = 10  # pixels of a photograph that become a texture, nearly plain then
FOCAL = 0.65, 1.3  # shortest and longest focal length, in sides of the picture
MOST_YAW, MOST_PITCH = 0.55, 0.35  # radians; farther a corner of the widest view would look past the sky
SKY = 9.0  # its half sides in distances; more than the slope of any ray
OVERLAP = 0.01  # metres by which walls reach through each other, so that no ray slips between
FLAT = 1e-6  # determinant of a surface that is seen from the edge


@dataclass(frozen=True)
class Surface:
    """A parallelogram in metres: x to the right, y downwards, z into the scene, the camera at the origin."""

    corner: Vector  # (3,)
    across: Vector  # (3,) to the next corner
    down: Vector  # (3,) to the other neighbour

    def part(self, left: float, top: float, width: float, height: float) -> "Surface":
        """Take a part, as shares, a little before the surface."""
        corner = 0.99 * (self.corner + left * self.across + top * self.down)
        return Surface(corner, 0.99 * width * self.across, 0.99 * height * self.down)

    def turned(self, rotation: Vector) -> "Surface":
        """Rotate about the camera, by a matrix ``(3, 3)``."""
        return Surface(rotation @ self.corner, rotation @ self.across, rotation @ self.down)


@dataclass(frozen=True)
class Thing:
    """Surfaces with one texture."""

    surfaces: tuple[Surface, ...]
    cutout: bool = False  # of its one surface only a blob is there


def compose(paper: Callable[[], Image.Image], rng: np.random.Generator) -> tuple[Image.Image, Array]:
    """Build a scene and look at it.

    Args:
        paper: draws a photograph; a part of it becomes the texture of a thing.
        rng: the only other source of randomness.

    Returns:
        the picture, and its relative depth ``(h, w)`` in (0, 1], 1 the farthest.
    """
    view = _View(rng.uniform(*FOCAL), np.zeros((SIDE, SIDE, 3), np.float32), np.zeros((SIDE, SIDE), np.float32))
    rotation = _draw_rotation(rng)
    for thing in _draw_room(rng) if rng.random() < 0.6 else _draw_street(rng):
        texture = _draw_texture(paper(), rng)
        for surface in thing.surfaces:
            shade, blob = rng.uniform(0.7, 1.2), _draw_blob(rng) if thing.cutout else None
            view.paint(surface.turned(rotation), texture, shade, blob)
    picture = view.colours * _draw_light(view.places(), rng)
    return Image.fromarray(np.rint(picture.clip(0, 255)).astype(np.uint8)), view.nearness.min() / view.nearness


@dataclass(frozen=True)
class _View:
    """What the camera sees so far."""

    focal: float  # focal length in sides of the picture
    colours: Array  # (h, w, 3) from 0 to 255
    nearness: Array  # (h, w) 1 / metres along z; 0: nothing is there

    def paint(self, surface: Surface, texture: Image.Image, shade: float, blob: Image.Image | None) -> None:
        """Paint what of a surface is nearer than what is there."""
        axes = np.stack((surface.across, surface.down, surface.corner), axis=1)
        if abs(np.linalg.det(axes)) < FLAT:
            return
        rows, columns = self._extent(surface)
        size = columns.stop - columns.start, rows.stop - rows.start
        if min(size) <= 0:
            return
        # (share across, share down, 1) / z of the pixel (x, y, 1)
        to_surface = np.linalg.inv(axes) @ self._to_rays(columns.start, rows.start)
        x, y = (np.arange(side, dtype=np.float32) + np.float32(0.5) for side in size)
        across, down, nearness = (a * x + (b * y + c)[:, None] for a, b, c in to_surface.astype(np.float32))
        there = (np.minimum(across, down) >= 0) & (np.maximum(across, down) <= nearness)
        there &= nearness > self.nearness[rows, columns]
        side = min(LARGEST_TEXTURE, max(4, *size))
        to_texture = np.diag((side, side, 1)) @ to_surface / to_surface[2, 2]
        project = Image.Transform.PERSPECTIVE, to_texture.ravel()[:8], Image.Resampling.BILINEAR
        if blob is not None:
            there &= np.asarray(blob.resize((side, side)).transform(size, *project)) > 127
        seen = np.asarray(texture.resize((side, side)).transform(size, *project))
        self.colours[rows, columns][there] = shade * seen[there]
        self.nearness[rows, columns][there] = nearness[there]

    def places(self) -> Array:
        """Where in the scene the pixels lie, ``(h, w, 3)``."""
        x = np.arange(SIDE) + 0.5
        directions = np.stack((*np.meshgrid(x, x), np.ones((SIDE, SIDE))), axis=-1) @ self._to_rays(0, 0).T
        return np.asarray(directions / self.nearness[..., None], np.float32)

    def _to_rays(self, left: int, top: int) -> Vector:
        """``(3, 3)`` from (x, y, 1), pixels counted from a place, to where the ray is at z = 1."""
        pixel, middle = 1 / (self.focal * SIDE), SIDE / 2
        return np.array([[pixel, 0, (left - middle) * pixel], [0, pixel, (top - middle) * pixel], [0, 0, 1]])

    def _extent(self, surface: Surface) -> tuple[slice, slice]:
        """Rows and columns in which it may be seen: all, if part of it is behind the camera."""
        corner, across, down = surface.corner, surface.across, surface.down
        corners = np.stack((corner, corner + across, corner + down, corner + across + down))
        if corners[:, 2].min() < 1e-2:
            return slice(0, SIDE), slice(0, SIDE)
        at = ((corners[:, :2] / corners[:, 2:] * self.focal + 0.5) * SIDE).clip(0, SIDE)
        first, last = np.floor(at.min(axis=0)).astype(int), np.ceil(at.max(axis=0)).astype(int)
        return slice(first[1], last[1]), slice(first[0], last[0])


def _draw_room(rng: np.random.Generator) -> Iterator[Thing]:
    """A room, things on its walls and on its floor."""
    left, right, top, floor = -rng.uniform(0.8, 4), rng.uniform(0.8, 4), -rng.uniform(0.7, 2), rng.uniform(0.7, 1.8)
    back = rng.uniform(2.5, 9)
    ground, ceiling, *walls = _enclosure(left, right, top, floor, back)
    yield from map(_thing, (ground, ceiling))
    for wall in walls:
        yield _thing(wall)
        yield from _draw_hangings(wall, rng)
    yield from _draw_things(left, right, floor, back, 1.0, rng)


def _draw_street(rng: np.random.Generator) -> Iterator[Thing]:
    """The sky, the ground, perhaps walls beside it or behind, and things."""
    left, right, top, floor = -rng.uniform(2, 15), rng.uniform(2, 15), -rng.uniform(1, 14), rng.uniform(0.8, 3)
    back = rng.uniform(12, 50)
    far = back * rng.uniform(1.0, 2.0)
    side = SKY * far
    yield _thing(Surface(np.array([-side, -side, far]), np.array([2 * side, 0, 0]), np.array([0, 2 * side, 0])))
    ground, _, *walls = _enclosure(left, right, top, floor, back)
    wide = np.array([100.0, 0, 0])
    yield _thing(Surface(ground.corner - wide, ground.across + 2 * wide, ground.down))
    for wall in walls:
        if rng.random() < 0.6:
            yield _thing(wall)
            yield from _draw_hangings(wall, rng)
    yield from _draw_things(left, right, floor, back, rng.uniform(1.5, 5), rng)


def _enclosure(left: float, right: float, top: float, floor: float, back: float) -> tuple[Surface, ...]:
    """Give ground, ceiling and three walls of a box that is open behind the camera."""
    left, right, top, floor, front = left - OVERLAP, right + OVERLAP, top - OVERLAP, floor + OVERLAP, -1.0
    wide, high, deep = np.diag((right - left, floor - top, back + OVERLAP - front))
    return (
        Surface(np.array([left, floor - OVERLAP, front]), wide, deep),
        Surface(np.array([left, top + OVERLAP, front]), wide, deep),
        Surface(np.array([left + OVERLAP, top, front]), deep, high),
        Surface(np.array([right - OVERLAP, top, front]), deep, high),
        Surface(np.array([left, top, back]), wide, high),
    )


def _draw_hangings(wall: Surface, rng: np.random.Generator) -> Iterator[Thing]:
    """Windows, doors, pictures: another texture at nearly the same depth."""
    for _ in range(rng.integers(0, 4)):
        width, height = rng.uniform(0.05, 0.5, 2)
        yield _thing(wall.part(rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), width, height))


def _draw_things(
    left: float, right: float, floor: float, back: float, scale: float, rng: np.random.Generator
) -> Iterator[Thing]:
    """Boxes and cutouts that stand on the floor or float above it."""
    for _ in range(rng.integers(3, 20)):
        sides = scale * np.exp(rng.uniform(math.log(0.15), math.log(1.8), 3))
        lifted = rng.uniform(0, 1.5 * scale) if rng.random() < 0.3 else 0.0
        far = back * math.exp(rng.uniform(math.log(0.1), 0)) + max(sides[0], sides[2])
        place = rng.uniform(max(left, -0.7 * far), min(right, 0.7 * far))
        at = np.array([place, floor - lifted - sides[1], far])
        if rng.random() < 0.3:
            yield Thing((Surface(at, sides * [1, 0, 0], sides * [0, 1, 0]),), cutout=True)
        else:
            yield Thing(_box(at, sides, rng.uniform(0, math.pi)))


def _thing(surface: Surface) -> Thing:
    return Thing((surface,))


def _box(at: Vector, sides: Vector, angle: float) -> tuple[Surface, ...]:
    """Give the six faces of a box from an upper corner, turned about the vertical."""
    sine, cosine = math.sin(angle), math.cos(angle)
    wide, high = sides[0] * np.array([cosine, 0, sine]), sides[1] * np.array([0, 1.0, 0])
    deep = sides[2] * np.array([-sine, 0, cosine])
    return (
        Surface(at, wide, high),
        Surface(at, deep, high),
        Surface(at, wide, deep),
        Surface(at + deep, wide, high),
        Surface(at + wide, deep, high),
        Surface(at + high, wide, deep),
    )


def _draw_rotation(rng: np.random.Generator) -> Vector:
    """Turn the scene before the camera: to the side, and so that the camera looks down a little, or up."""
    yaw, pitch = rng.normal(0, 0.3), rng.normal(0.06, 0.15)
    yaw, pitch = np.clip(yaw, -MOST_YAW, MOST_YAW), np.clip(pitch, -MOST_PITCH, MOST_PITCH)
    around_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    around_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    return np.asarray(around_x @ around_y)


def _draw_texture(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Take a part of a photograph, from a few pixels, nearly plain, to all of it."""
    side = math.exp(rng.uniform(math.log(min(SMALLEST_PART, *photo.size)), math.log(min(photo.size))))
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    box = left, top, left + side, top + side
    return photo.resize((LARGEST_TEXTURE, LARGEST_TEXTURE), Image.Resampling.BILINEAR, box=box)


def _draw_blob(rng: np.random.Generator) -> Image.Image:
    """Draw what is there of a cutout, ``L``: 255 in a blob or a few."""
    cells = int(rng.integers(4, 9))
    middle = np.hanning(cells + 2)[1:-1]
    field = 2.2 * np.outer(middle, middle) - 0.8 + rng.normal(0, 0.45, (cells, cells))
    coarse = Image.fromarray((field * 127 + 127).clip(0, 255).astype(np.uint8))
    return coarse.resize((LARGEST_TEXTURE, LARGEST_TEXTURE), Image.Resampling.BICUBIC)


def _draw_light(places: Array, rng: np.random.Generator) -> Array:
    """Light that falls off from a lamp somewhere in the scene, ``(h, w, 1)`` up to 1; in a third of them even."""
    if rng.random() < 0.33:
        return np.ones((*places.shape[:2], 1), np.float32)
    lamp, reach = places.reshape(-1, 3)[rng.integers(places.size // 3)], rng.uniform(0.2, 1.0) * places[..., 2].max()
    distance = np.square(places - lamp).sum(-1, keepdims=True) / reach**2
    least = rng.uniform(0.2, 0.8)
    return np.asarray(least + (1 - least) / (1 + distance), np.float32)
