import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from difflid.data.dataset import HazyCrops, Photo
from difflid.data.scenes import FOCAL, SIDE, SKY, Surface, _draw_rotation, _View, compose


def scene(seed: int) -> tuple[Image.Image, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return compose(lambda: Image.new("RGB", (40, 30), tuple(map(int, rng.integers(60, 256, 3)))), rng)


def test_a_scene_is_a_function_of_the_generator() -> None:
    (picture, depth), (same, same_depth), (other, _) = scene(0), scene(0), scene(1)
    assert picture.tobytes() == same.tobytes() != other.tobytes()
    np.testing.assert_array_equal(depth, same_depth)


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_every_ray_meets_something(start: int) -> None:
    for seed in range(start, start + 10):
        picture, depth = scene(seed)
        assert picture.size == depth.shape == (SIDE, SIDE)
        assert picture.mode == "RGB"
        assert depth.dtype == np.float32
        assert 0 < depth.min() < depth.max() == 1


@pytest.mark.parametrize("yaw", [-1, 1])
@pytest.mark.parametrize("pitch", [-1, 1])
def test_no_camera_looks_past_the_sky(yaw: int, pitch: int) -> None:
    class Extreme:
        def __init__(self) -> None:
            self.values = iter((9.0 * yaw, 9.0 * pitch))

        def normal(self, *_: float) -> float:
            return next(self.values)

    rotation = _draw_rotation(Extreme())  # type: ignore[arg-type]
    corner = 0.5 / FOCAL[0]
    for x in (-corner, corner):
        for y in (-corner, corner):
            ray = rotation.T @ (x, y, 1)
            assert ray[2] > 0
            assert max(abs(ray[:2] / ray[2])) < SKY


def test_an_edge_of_the_depth_is_an_edge_of_the_picture() -> None:
    """Things of one colour each: where the depth jumps another thing begins, and on a thing it changes slowly."""
    jumps, edges = [], []
    for seed in range(20):
        picture, depth = scene(seed)
        colours = np.asarray(picture, np.float32)
        jump = np.abs(np.diff(np.log(depth), axis=1)) > 0.3
        jumps.append(jump.sum())
        edges.append((np.abs(np.diff(colours, axis=1)).max(-1) > 2)[jump].sum())
    assert sum(jumps) > 1000
    assert sum(edges) > 0.95 * sum(jumps)


def test_the_depth_is_that_of_a_pinhole_camera() -> None:
    """A wall across the view, one metre wide and high, at twice the distance: half as large."""
    near, far = (
        _seen(Surface(np.array([-0.5, -0.5, z]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))) for z in (2, 4)
    )
    assert near.max() == pytest.approx(1 / 2)
    assert far.max() == pytest.approx(1 / 4)
    assert (near > 0).sum() == pytest.approx(4 * (far > 0).sum(), rel=0.05)
    floor = _seen(Surface(np.array([-9.0, 1, 0.1]), np.array([18.0, 0, 0]), np.array([0, 0, 99.9])))
    rows = np.flatnonzero(floor[:, SIDE // 2])
    heights = (rows + 0.5) / SIDE - 0.5  # a row so far below the horizon, focal length 1, sees the floor at 1 / height
    np.testing.assert_allclose(floor[rows, SIDE // 2], heights, rtol=1e-4)


def _seen(surface: Surface) -> NDArray[np.float32]:
    """Nearness of a surface alone."""
    view = _View(1.0, np.zeros((SIDE, SIDE, 3), np.float32), np.zeros((SIDE, SIDE), np.float32))
    view.paint(surface, Image.new("RGB", (8, 8)), 1.0, None)
    return view.nearness


def test_some_training_pictures_are_composed() -> None:
    photos = [Photo("0", Image.new("RGB", (64, 48), (120, 90, 60)), None)]
    spreads = []
    for composed in (0.0, 0.5, 1.0):
        batch = HazyCrops(photos, guide_size=16, crop=16, crops=1, batch=40, seed=0, composed=composed)[0]
        spreads.append((batch.clear_guide.std(dim=(2, 3)).amax(1) > 1e-3).float().mean())
        if composed == 1:
            jumps = batch.guide_transmission.diff(dim=3).abs().amax(dim=(1, 2, 3))
            assert (jumps > 0.05).float().mean() > 0.5
        modelled = batch.clear_guide * batch.guide_transmission + batch.airlight * (1 - batch.guide_transmission)
        assert (modelled - batch.copy).abs().mean(dim=(1, 2, 3)).median() < 0.02
    assert spreads[0] == 0
    assert 0.3 < spreads[1] < 0.7
    torch.testing.assert_close(spreads[2], torch.tensor(1.0))
