"""Real pairs as training data: which belong to a split, and crops and guides of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from difflid.data.dataset import HazyBatch, HazyCrops, Photo
from difflid.data.real_pairs import PairSet, RealPair, load_real_pairs, refuse_shared, scenes
from difflid.errors import ConfigError, DataError


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """Six tiny pairs, named as Dense-HAZE names them."""
    rng = np.random.default_rng(0)
    for number in range(1, 7):
        for folder, kind in (("hazy", "hazy"), ("GT", "GT")):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number:02}_{kind}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ((), [1, 2, 3, 4, 5, 6]),
        (("2..4",), [2, 3, 4]),
        (("01..02", "06_hazy"), [1, 2, 6]),
        (("0[35]*",), [3, 5]),
        (("05..99",), [5, 6]),
    ],
)
def test_a_split_is_chosen_by_name(dense: Path, names: tuple[str, ...], chosen: list[int]) -> None:
    found = PairSet(str(dense), "dense-haze", names).pairs()
    assert [int(pair.name[:2]) for pair in found] == chosen


def test_all_hazy_versions_of_a_scene_are_in_one_split(tmp_path: Path) -> None:
    listed = "".join(f"{name}.png\t{name}.png\n" for name in ("1399_9", "1400_1", "1400_10", "street"))
    for line in listed.splitlines():
        (tmp_path / line.split("\t")[0]).touch()
    (tmp_path / "pairs.tsv").write_text(listed)
    names = [pair.name for pair in PairSet(str(tmp_path / "pairs.tsv"), names=("1400..1449",)).pairs()]
    assert names == ["1400_1", "1400_10"]


def test_a_name_that_chooses_nothing_is_an_error(dense: Path) -> None:
    with pytest.raises(DataError, match=r"'46\.\.50'.*01_hazy"):
        PairSet(str(dense), "dense-haze", ("01..03", "46..50")).pairs()


def test_an_unknown_rule_is_an_error(dense: Path) -> None:
    with pytest.raises(ConfigError, match="dense-haze"):
        PairSet(str(dense), "densehaze").pairs()


def test_a_list_of_pairs_has_no_rule(dense: Path) -> None:
    (dense / "pairs.tsv").write_text("hazy/01_hazy.png\tGT/01_GT.png\n")
    with pytest.raises(ConfigError, match=r"rule 'its' .*pairs\.tsv"):
        PairSet(str(dense / "pairs.tsv"), "its").pairs()


def test_splits_must_not_share_scenes(dense: Path) -> None:
    train, validation = (PairSet(str(dense), "dense-haze", (names,)).pairs() for names in ("1..4", "4..6"))
    trained = scenes(train)
    with pytest.raises(DataError, match=r"validation pairs .* trained on, here: 04_hazy \(1 in all\)"):
        refuse_shared(trained, validation, "here")
    refuse_shared(trained, validation[1:], "here")
    shutil.copy(train[0].clear, validation[1].clear)
    with pytest.raises(DataError, match=": 05_hazy"):
        refuse_shared(trained, validation[1:], "here")


def test_decoding_keeps_the_samples(dense: Path) -> None:
    pairs = PairSet(str(dense), "dense-haze").pairs()
    for pair, decoded in zip(pairs, load_real_pairs(pairs), strict=True):
        assert decoded.name == pair.name
        for picture, path in ((decoded.hazy, pair.hazy), (decoded.clear, pair.clear)):
            assert np.array_equal(np.asarray(picture), np.asarray(Image.open(path)))


def test_a_damaged_picture_is_named(dense: Path) -> None:
    path = dense / "GT" / "03_GT.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"03_GT\.png"):
        load_real_pairs(PairSet(str(dense), "dense-haze").pairs())


def ramps(size: tuple[int, int] = (160, 120)) -> RealPair:
    """Red tells the column, green the row; the clear picture is half as bright."""
    columns, rows = np.meshgrid(np.linspace(0, 250, size[0]), np.linspace(0, 250, size[1]))
    hazy = np.stack([columns, rows, np.zeros_like(rows)], axis=-1)
    return RealPair("ramps", *(Image.fromarray(np.round(part).astype(np.uint8)) for part in (hazy, hazy / 2)))


def batch_of(frame: float, step: int = 0, photos: tuple[Photo, ...] = ()) -> HazyBatch:
    return HazyCrops(photos, 16, 32, 2, batch=16, seed=0, pairs=[ramps()], frame=frame)[step]


@pytest.mark.parametrize("frame", [1.0, 0.5])
def test_hazy_and_clear_show_the_same_part(frame: float) -> None:
    batch = batch_of(frame)
    assert batch.hazy.shape == batch.clear.shape == (32, 3, 32, 32)
    assert (batch.hazy / 2 - batch.clear).abs().max() < 0.01
    assert (batch.copy / 2 - batch.clear_guide).abs().max() < 0.01


@pytest.mark.parametrize("frame", [1.0, 0.5])
def test_crops_lie_where_their_windows_say(frame: float) -> None:
    batch = batch_of(frame)
    top, left, height, width = batch.window.unbind(1)
    for colour, start, side in ((0, left, width), (1, top, height)):
        ramp = batch.copy[:, colour].mean(dim=1 + colour).repeat_interleave(2, 0)  # (32, 16) along the ramp
        position = (start + 16) / side * 16 - 0.5  # of the crop's centre, in pixels of the guide
        below = position.floor().clamp(0, 14).long()
        value = torch.lerp(*(ramp.gather(1, (below + i)[:, None])[:, 0] for i in (0, 1)), position - below)
        assert (value - batch.hazy[:, colour].mean(dim=(1, 2))).abs().max() < 0.02


def test_a_frame_is_a_part_of_the_picture() -> None:
    spans = {frame: batch_of(frame).copy[:, 0].amax(dim=(1, 2)) for frame in (1.0, 0.5)}
    assert spans[1.0].std() < 0.01
    assert spans[0.5].std() > 0.05


def test_photographs_and_pairs_are_mixed_by_share() -> None:
    photo = Photo("photo", ramps().clear, None)
    pairs = [ramps()]
    shares = []
    for share in (0.0, 0.25, 1.0):
        batch = HazyCrops([photo], 16, 32, 1, batch=200, seed=0, pairs=pairs, pair_share=share)[0]
        shares.append(1 - batch.physics.mean().item())
    assert shares[0] == 0
    assert shares[1] == pytest.approx(0.25, abs=0.08)
    assert shares[2] == 1


def test_real_haze_claims_no_physics() -> None:
    assert (batch_of(1.0).physics == 0).all()
    assert all(torch.isfinite(field).all() for field in batch_of(1.0))


def test_batches_of_pairs_are_functions_of_seed_and_step() -> None:
    assert all(torch.equal(a, b) for a, b in zip(batch_of(0.5, 3), batch_of(0.5, 3), strict=True))
    assert not torch.equal(batch_of(0.5, 3).hazy, batch_of(0.5, 4).hazy)
