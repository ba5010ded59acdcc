from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from difflid.data.dataset import HazyCrops, Photo, load_photos
from difflid.data.photos import open_photo
from difflid.data.synthesis import (
    Camera,
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
from difflid.data.synthetic_pairs import write_pairs
from difflid.errors import DataError
from difflid.network.blocks import sample_at

DEPTH = np.linspace(1, 0, 40, dtype=np.float32)[:, None].repeat(60, axis=1)


def draws(count: int = 300, **settings: float) -> list[Haze]:
    return [draw_haze(DEPTH, np.random.default_rng(seed), **settings) for seed in range(count)]


def test_densities_range_from_none_to_nearly_blank() -> None:
    means = np.array([np.exp(-haze.optical_depth).mean() for haze in draws(2000)])
    assert (means == 1).mean() == pytest.approx(0.04, abs=0.01)
    assert (means < 0.2).mean() > 0.05
    assert ((means > 0.3) & (means < 0.95)).mean() > 0.4


def test_half_of_the_haze_is_grey_and_of_one_density() -> None:
    hazes = [haze for haze in draws() if haze.present]
    grey = [
        np.ptp(haze.airlight) < 0.04 and not (haze.linear or haze.angstrom or haze.glow is not None) for haze in hazes
    ]
    by_depth = [np.ptp(haze.optical_depth, axis=1).max() < 1e-6 for haze in hazes]  # the depth is that of the row
    assert 0.45 < np.mean(np.logical_and(grey, by_depth)) < 0.65
    uneven = [haze.glow is not None for haze in hazes]
    assert 0.2 < np.mean(uneven) < 0.4


def test_some_haze_begins_behind_near_things_and_some_before_them() -> None:
    depths = [haze.optical_depth for haze in draws(1000) if haze.present and haze.glow is None]
    near, far = (np.array([depth[row].mean() for depth in depths]) for row in (-4, 0))  # the far end is the first row
    assert 0.02 < ((near == 0) & (far > 0.3)).mean() < 0.2
    assert (near > 0.1).mean() > 0.3


def test_dense_smoke_is_lit_unevenly() -> None:
    dense = [haze for haze in draws(2000) if haze.optical_depth.mean() > 2.5]
    lit = np.array([0.0 if haze.glow is None else haze.airlight_at((20, 20), (0, 0, 1, 1)).std() for haze in dense])
    assert (lit > 0.05).mean() > 0.4
    assert np.mean([haze.airlight.mean() < 0.7 for haze in dense]) > 0.2


def test_much_haze_is_white() -> None:
    white = np.array([haze.airlight.min() > 0.99 for haze in draws(1000) if haze.present])
    assert 0.04 < white.mean() < 0.15


def test_the_airlight_is_grey_mostly_and_else_of_the_sky_or_of_dust() -> None:
    airlights = np.stack([haze.airlight for haze in draws()])
    assert 0 <= airlights.min() <= airlights.max() <= 1
    red, green, blue = airlights.T
    assert (np.ptp(airlights, axis=1) < 0.05).mean() > 0.7
    for first, last in ((red, blue), (blue, red)):  # blue, warm
        tinted = last > first + 0.05
        assert tinted.mean() > 0.03
        assert 0.2 < (last - first)[tinted].max() < 0.5
        assert ((first < green + 0.03) & (green < last + 0.03))[tinted].all()


def test_haze_is_a_function_of_the_generator() -> None:
    first, second = (draw_haze(DEPTH, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.optical_depth, second.optical_depth)
    assert np.array_equal(first.airlight, second.airlight)


def test_without_depth_there_is_haze_too() -> None:
    hazes = [draw_haze(None, np.random.default_rng(seed), clear_share=0) for seed in range(20)]
    assert all(haze.present and np.isfinite(haze.optical_depth).all() for haze in hazes)


def test_render_is_the_scattering_model() -> None:
    haze = Haze(np.full((4, 4), np.log(2), np.float32), np.array([0.8, 0.9, 1.0], np.float32), linear=False)
    hazy, transmission = render(np.zeros((10, 12, 3), np.float32), haze)
    np.testing.assert_allclose(transmission, 0.5, atol=1e-6)
    np.testing.assert_allclose(hazy[3, 4], [0.4, 0.45, 0.5], atol=1e-6)


def test_an_uneven_airlight_is_brighter_on_one_side_and_never_leaves_its_range() -> None:
    glow = np.linspace(-0.1, 0.1, 50, dtype=np.float32)[:, None] * np.array([1, 1, 0.5], np.float32)
    even = Haze(np.full((4, 4), 20.0, np.float32), np.array([0.8, 0.9, 1.0], np.float32), linear=False)
    veil = render(np.zeros((3, 200, 3), np.float32), replace(even, glow=glow[None]))[0]
    np.testing.assert_allclose(veil[:, 100], np.broadcast_to(even.airlight, (3, 3)), atol=2e-3)
    np.testing.assert_allclose(veil[1, 0], [0.72, 0.81, 0.95], atol=2e-3)
    np.testing.assert_allclose(veil[1, -1], [0.88, 0.99, 1.0], atol=2e-3)
    down = render(np.zeros((200, 3, 3), np.float32), replace(even, glow=glow[:, None]))[0]
    np.testing.assert_array_equal(down, veil.swapaxes(0, 1))


def test_linear_light_keeps_the_ends() -> None:
    clear = np.random.default_rng(0).random((6, 6, 3), np.float32)
    airlight = np.array([0.8, 0.9, 1.0], np.float32)
    thin, thick = (Haze(np.full((4, 4), depth, np.float32), airlight, linear=True) for depth in (1e-7, 20.0))
    np.testing.assert_allclose(render(clear, thin)[0], clear, atol=1e-5)
    np.testing.assert_allclose(render(clear, thick)[0], np.broadcast_to(airlight, clear.shape), atol=1e-5)


@pytest.mark.parametrize("glow", [None, np.linspace(-0.2, 0.2, 48, dtype=np.float32).reshape(4, 4, 3)])
@pytest.mark.parametrize("linear", [False, True])
def test_the_transmission_in_srgb_undoes_the_haze(linear: bool, glow: NDArray[np.float32] | None) -> None:
    clear, box = np.random.default_rng(0).random((6, 6, 1), np.float32).repeat(3, axis=2), (0.5, 0.25, 1, 0.75)
    haze = Haze(np.full((4, 4), 0.7, np.float32), np.full(3, 0.8, np.float32), linear, glow=glow)
    airlight = np.broadcast_to(haze.airlight_at((6, 6), box), clear.shape)
    clear[0, 0] = airlight[0, 0]
    hazy, physical = render(clear, haze, box)
    seen = in_srgb(physical, clear, hazy, haze, box)
    assert 0 < seen.min() <= seen.max() <= 1
    assert seen[0, 0] == physical[0, 0]
    assert (seen == physical).all() != linear
    far = np.abs(clear - airlight).min(-1) > 0.1  # where it can be told
    np.testing.assert_allclose(((hazy - airlight) / seen[..., None] + airlight)[far], clear[far], atol=0.01)


def test_a_part_rendered_alone_is_the_part_of_the_whole() -> None:
    clear = np.random.default_rng(0).random((80, 120, 3), np.float32)
    haze = next(haze for haze in draws(clear_share=0) if haze.glow is not None)
    whole, _ = render(clear, haze)
    part, _ = render(clear[20:60, 30:90], haze, (0.25, 0.25, 0.75, 0.75))
    np.testing.assert_allclose(part, whole[20:60, 30:90], atol=5e-3)


def test_clear_pictures_stay_exactly_as_they_are() -> None:
    clear = np.random.default_rng(0).random((8, 8, 3), np.float32)
    for haze in draws(30, clear_share=0.5):
        if not haze.present:
            rng = np.random.default_rng(0)
            assert np.array_equal(photograph(render(clear, haze)[0], draw_camera(haze, rng), rng), clear)


def test_the_camera_adds_what_it_says() -> None:
    grey = np.full((64, 64, 3), 0.5, np.float32)
    noisy = photograph(grey, Camera(0.02, None), np.random.default_rng(0))
    assert noisy.std() == pytest.approx(0.02, rel=0.05)
    textured = np.random.default_rng(0).random((64, 64, 3), np.float32)
    assert 0.01 < np.abs(photograph(textured, Camera(0.0, 70), np.random.default_rng(0)) - textured).mean() < 0.3


def test_resample_keeps_a_ramp() -> None:
    ramp = np.linspace(0, 1, 100, dtype=np.float32)[None].repeat(4, axis=0)
    part = resample(ramp, (50, 4), (0.5, 0, 1, 1))
    np.testing.assert_allclose(part[0], np.linspace(0.5, 1, 50), atol=0.02)


def photos() -> list[Photo]:
    rng = np.random.default_rng(0)
    return [
        Photo(f"{i}", Image.fromarray(rng.integers(0, 256, size, np.uint8)), DEPTH)
        for i, size in enumerate([(120, 160, 3), (90, 40, 3)])
    ]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    crops = HazyCrops(photos(), guide_size=16, crop=32, crops=2, batch=4, seed=0)
    again, other = HazyCrops(photos(), 16, 32, 2, 4, 0), HazyCrops(photos(), 16, 32, 2, 4, 1)
    assert all((a == b).all() for a, b in zip(crops[7], again[7], strict=True))
    assert not (crops[7].hazy == crops[8].hazy).all()
    assert not (crops[7].hazy == other[7].hazy).all()


def test_the_truth_of_a_zoomed_guide_is_its_mean() -> None:
    plain = HazyCrops(photos(), guide_size=16, crop=32, crops=2, batch=4, seed=0)[3]
    zoomed = HazyCrops(photos(), guide_size=4, crop=32, crops=2, batch=4, seed=0, guide_zoom=4)[3]
    for name, given, before in zip(plain._fields, zoomed, plain, strict=True):
        mean = name in ("clear_guide", "guide_transmission", "airlight")
        torch.testing.assert_close(given, F.avg_pool2d(before, 4) if mean else before)


def test_a_batch_obeys_the_scattering_model_up_to_the_camera() -> None:
    batch = HazyCrops(photos(), guide_size=16, crop=32, crops=2, batch=64, seed=0)[0]
    assert batch.hazy.shape == batch.clear.shape == (128, 3, 32, 32)
    assert batch.copy.shape == batch.clear_guide.shape == (64, 3, 16, 16)
    airlight = sample_at(batch.airlight.repeat_interleave(2, 0), batch.window, (32, 32), 1)
    modelled = batch.clear * batch.transmission + airlight * (1 - batch.transmission)
    errors = (modelled - batch.hazy).abs().mean(dim=(1, 2, 3))
    assert errors.median() < 0.02
    modelled = batch.clear_guide * batch.guide_transmission + batch.airlight * (1 - batch.guide_transmission)
    assert (modelled - batch.copy).abs().mean(dim=(1, 2, 3)).median() < 0.02
    unchanged = batch.transmission.amin(dim=(1, 2, 3)) == 1
    assert unchanged.any()
    assert (batch.hazy == batch.clear)[unchanged].all()


def test_the_truth_explains_the_picture_that_the_camera_shows() -> None:
    """Grey photographs of one level, some under haze of linear light: I = J t + A (1 - t) all the same."""
    greys = [Photo("0", Image.new("RGB", (64, 64), (100, 100, 100)), DEPTH)]
    batch = HazyCrops(greys, guide_size=16, crop=16, crops=1, batch=256, seed=0)[0]
    assert (batch.airlight <= 1).all()
    t = batch.guide_transmission
    scene = (batch.copy - batch.airlight * (1 - t)) / t
    told = (t.mean(dim=(1, 2, 3)) > 0.3) & (batch.airlight.amax(dim=(1, 2, 3)) < 1)
    assert told.sum() > 100
    assert (scene - batch.clear_guide).abs().amax(dim=(1, 2, 3))[told].median() < 1e-3


def as_grey_as_near() -> Photo:
    """Dark in the distance, which lies to the right and up: what is shown of it tells the depth."""
    depth = np.add.outer(np.linspace(0.5, 0, 40), np.linspace(0, 0.5, 60)).astype(np.float32)
    grey = np.rint(255 * (1 - depth)).astype(np.uint8)
    return Photo("0", Image.fromarray(np.repeat(grey.repeat(8, 0).repeat(8, 1)[..., None], 3, axis=2)), depth)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_frame_has_the_depth_that_lies_there(mirrored: bool) -> None:
    photo = as_grey_as_near()
    part = photo.framed((0.1, 0.25, 0.6, 0.75), mirrored=mirrored)
    assert part.clear.size == (240, 160)
    shown = np.asarray(part.clear.resize((60, 40), Image.Resampling.BOX), np.float32)[..., 0] / 255
    assert part.depth is not None
    assert np.abs(shown - (1 - part.depth)).max() < 0.02
    assert (np.diff(part.depth.mean(0)) < 0).all() == mirrored
    whole = photo.framed((0, 0, 1, 1), mirrored=False)
    assert whole.clear.tobytes() == photo.clear.tobytes()
    np.testing.assert_array_equal(whole.depth, photo.depth)


def test_pictures_are_other_parts_with_the_haze_of_their_depth() -> None:
    photo = as_grey_as_near()
    whole, parts = (HazyCrops([photo], 16, 16, 0, 128, 0, frame=frame)[0] for frame in (1.0, 0.5))
    spans = [np.ptp(batch.clear_guide.numpy(), (1, 2, 3)) for batch in (whole, parts)]
    assert spans[1].mean() < 0.9 * spans[0].mean()
    assert len(set(spans[1].round(3))) > 60
    rank = [
        np.corrcoef(clear.mean(0).flatten(), t.flatten())[0, 1]
        for clear, t in zip(parts.clear_guide.numpy(), parts.guide_transmission.numpy(), strict=True)
        if np.ptp(t) > 0.05
    ]
    assert np.mean(np.array(rank) > 0.9) > 0.5  # what is near is light, and hidden least; ramps and patches aside


def test_some_pictures_lie_under_the_haze_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    across = np.linspace(0, 1, 60, dtype=np.float32)[None].repeat(40, axis=0)
    photos = [
        Photo(f"{i}", Image.new("RGB", (60, 40), (200 * i, 90, 60)), depth) for i, depth in enumerate((DEPTH, across))
    ]
    shares = []
    for foreign in (0.0, 0.5, 1.0):
        monkeypatch.setattr("difflid.data.dataset.FOREIGN", foreign)
        batch = HazyCrops(photos, guide_size=16, crop=16, crops=0, batch=400, seed=0)[0]
        changes = [np.ptp(batch.guide_transmission.mean(dim=(1, axis)).numpy(), axis=1) for axis in (2, 3)]
        red = batch.clear_guide[:, 0].mean(dim=(1, 2)).numpy() > 0.1  # has the depth that grows across
        shares.append(np.mean((changes[0] < changes[1])[red & (np.maximum(*changes) > 0.05)]))
    assert shares[0] < 0.2  # ramps and patches
    assert shares[0] + 0.15 < shares[1] < shares[2] - 0.1


def test_crops_and_the_whole_are_developed_alike() -> None:
    photo = Photo("0", Image.new("RGB", (64, 64), (120, 90, 60)), DEPTH)
    batch = HazyCrops([photo], guide_size=16, crop=16, crops=1, batch=64, seed=0)[0]
    torch.testing.assert_close(batch.clear.mean(dim=(2, 3)), batch.clear_guide.mean(dim=(2, 3)))
    assert 20 < len(set(batch.clear.mean(dim=(1, 2, 3)).tolist())) < 50


def test_another_taste_keeps_black_black() -> None:
    tastes = [draw_taste(np.random.default_rng(seed)) for seed in range(200)]
    assert 0.4 < np.mean([taste == Taste() for taste in tastes]) < 0.6
    clear = np.random.default_rng(0).random((5, 7, 3), np.float32)
    clear[0, 0] = 0
    np.testing.assert_array_equal(Taste().develop(clear), clear)
    for taste in tastes:
        developed = taste.develop(clear)
        assert developed.dtype == np.float32
        assert developed.min() == developed[0, 0].max() == 0
        assert developed.max() <= 1
    grey = Taste(saturation=0.0).develop(clear)
    assert np.ptp(grey, axis=-1).max() < 1e-6
    assert np.ptp(Taste(gamma=1.3, saturation=1.4).develop(grey), axis=-1).max() < 1e-5


def test_windows_lie_in_their_pictures() -> None:
    batch = HazyCrops(photos(), guide_size=16, crop=32, crops=2, batch=32, seed=0)[0]
    top, left, height, width = batch.window.unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + 32 <= height + 1e-3).all()
    assert (left + 32 <= width + 1e-3).all()


def test_photographs_are_upright_and_meet_their_own_depth(tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a[1].jpg", exif=exif)
    Image.new("L", (3, 2), 51).save(tmp_path / "depth" / "a[1].2.png")  # of another photograph
    deep = np.linspace(0, 65535, 60, dtype=np.uint16).reshape(10, 6)
    Image.fromarray(deep).save(tmp_path / "depth" / "a[1].png")
    (photo,) = load_photos([tmp_path / "a[1].jpg"], tmp_path / "depth")
    assert photo.clear.size == (20, 40)
    assert photo.depth is not None
    np.testing.assert_allclose(photo.depth, deep / 65535, atol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_photographs_in_16_bit_grey_keep_their_light(tmp_path: Path, suffix: str) -> None:
    deep = np.linspace(0, 65535, 60, dtype=np.uint16).reshape(10, 6)
    Image.fromarray(deep).save(tmp_path / f"a{suffix}")
    clear = np.asarray(open_photo(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(clear, np.rint(deep / 257)[..., None].repeat(3, axis=-1))


def test_photographs_of_one_stem_are_refused_before_the_work(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"a\.jpg and a\.png would both be written to a_0\.png; rename one"):
        write_pairs(tmp_path, tmp_path / "out", depth=None, count=1, seed=0)
    assert not (tmp_path / "out").exists()


def test_missing_depth_and_earlier_pairs_are_said(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="no such folder"):
        write_pairs(tmp_path, tmp_path / "out", depth=tmp_path / "nope", count=1, seed=0)
    write_pairs(tmp_path, tmp_path / "out", depth=None, count=1, seed=0)
    Image.new("L", (8, 8)).save(tmp_path / "out" / "of another.png")
    with pytest.raises(DataError, match=r"no picture in .*out is named as a photograph in .*, such as a"):
        write_pairs(tmp_path, tmp_path / "other", depth=tmp_path / "out", count=1, seed=0)
    with pytest.raises(DataError, match="out exists already"):
        write_pairs(tmp_path, tmp_path / "out", depth=None, count=1, seed=0)
