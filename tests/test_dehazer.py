import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage.data import astronaut
from tiny import TINY_NETWORK, tiny_dehazer, tiny_prior

from difflid.dehazer import NO_HAZE, PIXEL_BYTES, WITNESS, Dehazer, DehazerConfig
from difflid.errors import ModelError
from difflid.haze import LUMA
from difflid.image import Picture, from_samples
from difflid.network import DiffLI2D, Scattering

EXAMPLE = Path(__file__).parents[1] / "examples" / "harbour-coast.jpg"
SIZES = [(1, 1), (1, 50), (50, 1), (2, 3), (64, 64), (67, 129)]


@pytest.fixture(scope="module")
def dehazer() -> Dehazer:
    return tiny_dehazer()


def test_a_network_without_levels_is_always_fast_and_follows_edges() -> None:
    config = replace(TINY_NETWORK, levels=())
    dehazer = Dehazer(tiny_prior(), DiffLI2D(config), DehazerConfig(config))
    dehazer.network.coarse_haze.weight.data.normal_()
    image = torch.rand(1, 3, 300, 200)
    condition = dehazer.encode(image)
    exact, fast = (dehazer.restore(image, condition, detail=detail) for detail in ("exact", "fast"))
    assert torch.equal(exact.clear, fast.clear)
    plain = torch.nn.functional.interpolate(condition.coarse().transmission, size=(300, 200), mode="bilinear")
    assert not torch.allclose(exact.transmission, plain, atol=1e-3)  # it follows the picture
    assert dehazer(image[0]).shape == (3, 300, 200)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_comes_back_as_it_came(dehazer: Dehazer, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    result = dehazer.restore(image, dehazer.encode(image))
    assert result.clear.shape == image.shape
    assert result.transmission.shape == (2, 1, *size)
    assert 0 <= result.clear.min() <= result.clear.max() <= 1
    assert result.haze_score.shape == (2,)


@pytest.mark.parametrize("tile", [8, 24, 50, None])
@pytest.mark.parametrize("size", [(67, 129), (200, 90)])
def test_tiles_equal_the_whole_picture(dehazer: Dehazer, size: tuple[int, int], tile: int | None) -> None:
    image = torch.rand(1, 3, *size)
    condition = dehazer.encode(image)
    whole = dehazer.restore(image, condition, tile=0)
    tiled = dehazer.restore(image, condition, tile=tile)
    torch.testing.assert_close(tiled.clear, whole.clear, atol=1e-5, rtol=0)
    torch.testing.assert_close(tiled.transmission, whole.transmission, atol=1e-5, rtol=0)


def test_alone_or_in_a_batch_is_the_same(dehazer: Dehazer) -> None:
    batch = torch.rand(3, 3, 40, 56)
    together = dehazer.restore(batch, dehazer.encode(batch)).clear
    for index, image in enumerate(batch.split(1)):
        alone = dehazer.restore(image, dehazer.encode(image)).clear
        torch.testing.assert_close(alone, together[index : index + 1], atol=1e-5, rtol=0)


def test_a_batch_has_smaller_tiles(dehazer: Dehazer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network looks at takes no more of the memory in a batch than alone."""
    looked: list[int] = []
    look = dehazer.network.look

    def counted(image: torch.Tensor, *rest: torch.Tensor) -> Scattering:
        looked.append(image.shape[0] * image.shape[2] * image.shape[3])
        return look(image, *rest)

    free = 2 * PIXEL_BYTES * 160**2  # of which half may be taken
    monkeypatch.setattr("difflid.tiling.LEAST_SIDE", 8)
    monkeypatch.setattr("difflid.dehazer.free_memory", lambda _: free)
    monkeypatch.setattr(dehazer.network, "look", counted)
    for count in (1, 4):
        batch = torch.zeros(count, 3, 160, 160)
        dehazer.restore(batch, dehazer.encode(batch))
    assert max(looked) * PIXEL_BYTES <= 1.1 * free / 2  # a tile is rounded up to the stride


def test_a_mirrored_picture_is_dehazed_as_the_mirror_image_of_what_it_was() -> None:
    for changes in ({}, {"levels": ()}, {"levels": (), "guide_reviews": 2, "guide_glow": True}):
        dehazer = tiny_dehazer()
        network = DiffLI2D(replace(TINY_NETWORK, **changes)) if changes else dehazer.network
        network.coarse_haze.weight.data.normal_()
        if network.review is not None:
            network.review.change[-1].weight.data.normal_(std=0.1)
        if network.guide.glow is not None:
            network.guide.glow.weight.data.normal_()
        both, one = (
            Dehazer(dehazer.prior, network, DehazerConfig(network.config, mirrored=mirrored))
            for mirrored in (True, False)
        )
        picture = torch.rand(2, 3, 48, 80)
        seen, mirror, alone = both.encode(picture), both.encode(picture.flip(3)), one.encode(picture)
        torch.testing.assert_close(mirror.haze.flip(3), seen.haze, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mirror.airlight.flip(3), seen.airlight, rtol=1e-4, atol=1e-5)
        assert (seen.haze - alone.haze).abs().max() > 1e-3
        assert both.restore(picture, seen).clear.shape == picture.shape


@pytest.mark.parametrize("smoke", [False, True])
def test_what_blank_fog_hides_is_not_invented_but_by_one_who_knows_smoke(smoke: bool) -> None:
    config = replace(TINY_NETWORK, levels=(), guide_smoke=smoke)
    dehazer = Dehazer(tiny_prior(), DiffLI2D(config), DehazerConfig(config))
    dehazer.network.coarse_haze.bias.data.fill_(20)
    thinner = torch.zeros(1, 1, 16, 16)
    thinner[..., 7:, :12] = -22  # where most is seen: below, but for the right
    dehazer.network.coarse_haze.register_forward_hook(lambda *told: told[-1] + thinner)
    picture = torch.full((1, 3, 40, 40), 0.7)
    picture[..., 28:, :] = torch.rand(1, 3, 12, 40)
    gain = 1 / dehazer.restore(picture, dehazer.encode(picture)).transmission[0, 0] - 1
    assert gain[36:, 34:].min() > 30
    assert (gain[:4].max() < 2.5) != smoke


def test_a_model_of_before_the_airlight_was_weighted_is_read(tmp_path: Path, dehazer: Dehazer) -> None:
    dehazer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {WITNESS: torch.zeros_like(weights[WITNESS])}, tmp_path / "model.safetensors")
    picture = torch.rand(1, 3, 24, 24)
    even = Dehazer.from_pretrained(tmp_path)
    del weights[WITNESS]
    save_file(weights, tmp_path / "model.safetensors")
    assert torch.equal(Dehazer.from_pretrained(tmp_path)(picture), even(picture))
    assert not torch.equal(dehazer(picture), even(picture))


def test_two_runs_are_identical(dehazer: Dehazer) -> None:
    image = torch.rand(1, 3, 40, 56)
    first, second = (dehazer.restore(image, dehazer.encode(image)).clear for _ in range(2))
    assert torch.equal(first, second)


def test_strength_zero_is_the_picture_itself(dehazer: Dehazer) -> None:
    image = torch.rand(1, 3, 20, 30)
    assert torch.equal(dehazer.restore(image, dehazer.encode(image), strength=0).clear, image)


def picture(height: int, width: int, dtype: type = np.uint8) -> Picture:
    photo = np.resize(astronaut(), (height, width, 3)).astype(np.float64) / 255
    return from_samples(photo if dtype is np.float64 else np.rint(photo * np.iinfo(dtype).max).astype(dtype), "RGB")


@pytest.mark.parametrize("detail", ["exact", "fast"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (67, 129)])
def test_a_picture_is_dehazed_as_its_tensor_is(dehazer: Dehazer, size: tuple[int, int], detail: str) -> None:
    given = picture(*size, np.float64)
    tensor = torch.from_numpy(given.samples).permute(2, 0, 1)[None].float()
    seen = dehazer.restore(tensor, dehazer.encode(tensor), strength=0.7, detail=detail)
    dehazed = dehazer.dehaze(given, strength=0.7, tile=24, detail=detail, maps=True)
    np.testing.assert_allclose(dehazed.picture.samples, seen.clear[0].permute(1, 2, 0), atol=1e-5)
    assert dehazed.haze_score == pytest.approx(seen.haze_score.item(), abs=1e-6)
    assert {name: values.shape for name, values in dehazed.maps.items()} == {
        "transmission": (*size, 1),
        "depth": (*size, 1),
        "airlight": (*size, 3),
    }
    np.testing.assert_allclose(dehazed.maps["transmission"][..., 0] / 255, seen.transmission[0, 0], atol=0.51 / 255)


@pytest.mark.parametrize("strength", [-1, 0.5, 1, 2])
def test_the_fast_path_is_seamless(dehazer: Dehazer, strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difflid.views.FAST_PIXELS", 900)
    given = picture(67, 129, np.uint16)
    whole = dehazer.dehaze(given, strength=strength, detail="fast").picture.samples
    assert np.array_equal(dehazer.dehaze(given, strength=strength, detail="fast").picture.samples, whole)
    monkeypatch.setattr("difflid.views.BAND_PIXELS", 500)
    tiled = dehazer.dehaze(given, strength=strength, detail="fast", tile=8).picture.samples
    np.testing.assert_allclose(tiled.astype(int), whole, atol=8)  # of 65535


def test_the_fast_path_is_close_to_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difflid.views.FAST_PIXELS", 30_000)
    default, given = Dehazer.from_pretrained(), Image.open(EXAMPLE).reduce(2)
    exact, fast = (np.asarray(default(given, detail=detail), np.float64) for detail in ("exact", "fast"))
    assert np.abs(exact - given).mean() > 5
    assert np.abs(exact - fast).mean() < 2


def test_auto_is_fast_for_large_pictures(dehazer: Dehazer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difflid.views.FAST_PIXELS", 100)
    monkeypatch.setattr("difflid.dehazer.FAST_FROM", 1000)
    for given, same in ((picture(30, 30), "exact"), (picture(40, 40), "fast")):
        results = {detail: dehazer.dehaze(given, detail=detail).picture.samples for detail in ("auto", "exact", "fast")}
        assert np.array_equal(results["auto"], results[same])
        assert not np.array_equal(results["exact"], results["fast"])


@pytest.mark.parametrize("strength", [-1, 1])
def test_a_picture_without_haze_is_left_alone(strength: float) -> None:
    dehazer, given = tiny_dehazer(), picture(20, 30)
    assert not dehazer.dehaze(given, strength=strength).left_alone
    with torch.no_grad():
        dehazer.network.coarse_haze.bias.fill_(-20)
    dehazed = dehazer.dehaze(given, strength=strength)
    assert dehazed.left_alone
    assert dehazed.haze_score < NO_HAZE
    assert dehazed.picture is given
    tensor = torch.from_numpy(given.samples).permute(2, 0, 1)
    assert torch.equal(dehazer(tensor, strength=strength), tensor)
    assert not np.shares_memory(dehazer(given.samples, strength=strength), given.samples)


def test_the_white_balance_is_of_pictures_without_haze_too() -> None:
    dehazer, given = tiny_dehazer(), picture(20, 30)
    with torch.no_grad():
        dehazer.network.coarse_haze.bias.fill_(-20)
    dehazed = dehazer.dehaze(given, white_balance=True)
    assert (dehazed.haze_score < NO_HAZE, dehazed.left_alone) == (True, False)
    assert not np.array_equal(dehazed.picture.samples, given.samples)


def test_white_balance_makes_the_airlight_grey() -> None:
    dehazer, colour = tiny_dehazer(), np.array([0.5, 0.4, 0.3])
    given = from_samples(np.tile(colour, (20, 30, 1)), "RGB")
    tensor = torch.from_numpy(colour).float().view(1, 3, 1, 1).repeat(1, 1, 20, 30)
    airlight = dehazer.encode(tensor).coarse().airlight.mean(dim=(0, 2, 3)).double().numpy()
    plain, balanced = (dehazer.dehaze(given, strength=0, white_balance=each).picture.samples for each in (False, True))
    assert np.array_equal(plain, given.samples)
    assert airlight.std() > 1e-3
    np.testing.assert_allclose(airlight * balanced[10, 15] / colour, np.full(3, airlight @ LUMA), rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"detail": "coarse"}, {"strength": 2.1}, {"strength": -1.5}, {"strength": float("nan")}, {"tile": -1}]
)
def test_illegal_settings_are_refused(dehazer: Dehazer, settings: dict[str, float]) -> None:
    image = torch.rand(1, 3, 20, 30)
    with pytest.raises(ValueError, match="got"):
        dehazer.restore(image, dehazer.encode(image), **settings)  # type: ignore[arg-type]


def test_the_same_kind_comes_back(dehazer: Dehazer, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    result = dehazer(array)
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    picture = dehazer(Image.fromarray(array))
    assert np.array_equal(np.asarray(picture), result)
    Image.fromarray(array).save(tmp_path / "photo.png")
    assert np.array_equal(np.asarray(dehazer(tmp_path / "photo.png")), result)
    encoded = dehazer((tmp_path / "photo.png").read_bytes())
    assert isinstance(encoded, bytes)
    assert dehazer(torch.from_numpy(array).permute(2, 0, 1)).shape == (3, 20, 30)


def test_a_saved_model_is_the_same_model(dehazer: Dehazer, tmp_path: Path) -> None:
    dehazer.save_pretrained(tmp_path)
    first = Dehazer.from_pretrained(tmp_path)
    first.save_pretrained(tmp_path / "again")
    second = Dehazer.from_pretrained(tmp_path / "again")
    assert first.config == second.config == dehazer.config
    image = torch.rand(1, 3, 24, 24)
    results = [model.restore(image, model.encode(image)).clear for model in (dehazer, first, second)]
    assert torch.equal(results[1], results[2])
    torch.testing.assert_close(results[0], results[1], atol=5e-3, rtol=0)  # float16 weights


def test_no_such_model() -> None:
    with pytest.raises(ModelError, match="no model 'no-such-model'"):
        Dehazer.from_pretrained("no-such-model")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "prior/config.json", "prior/model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_folder_is_refused(dehazer: Dehazer, tmp_path: Path, file: str, damage: str) -> None:
    dehazer.save_pretrained(tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="is not a"):
        Dehazer.from_pretrained(tmp_path)


def test_weights_of_another_network_are_refused(dehazer: Dehazer, tmp_path: Path) -> None:
    dehazer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["guide_width"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="do not fit its config"):
        Dehazer.from_pretrained(tmp_path)


def test_a_prior_the_network_was_not_built_for_is_refused() -> None:
    from dataclasses import replace

    config = replace(TINY_NETWORK, latent_channels=16)
    with pytest.raises(ModelError, match="8 channels at 1/2, DiffLI2D was built for 16"):
        Dehazer(tiny_prior(), DiffLI2D(config), DehazerConfig(config))
