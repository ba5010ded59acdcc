"""Pairs in tar files: what goes in comes out, in an order that is a function of seed and epoch."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from difflid.cli import main
from difflid.data.dataset import HazyCrops
from difflid.data.pairs import load_pair
from difflid.data.real_pairs import PairSet, to_image
from difflid.data.shards import Shards, write_shards
from difflid.errors import DataError

COUNT = 12


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Pairs named and cropped as those of ITS; every one of another colour."""
    rng = np.random.default_rng(0)
    for scene in range(1, COUNT + 1):
        for folder, name, size in (("hazy", f"{scene}_1_0.90179", (24, 32)), ("clear", f"{scene}", (44, 52))):
            path = tmp_path / "its" / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
    return tmp_path / "its"


@pytest.fixture
def shards(source: Path, tmp_path: Path) -> Path:
    write_shards(PairSet(str(source), "its").pairs(), tmp_path / "shards", shard_bytes=20_000)
    return tmp_path / "shards"


def test_what_goes_in_comes_out(source: Path, shards: Path) -> None:
    packed = Shards(shards)
    names = [line.split("\t")[1] for line in (shards / "names.txt").read_text().splitlines()]
    by_name = {pair.name: pair for pair in PairSet(str(source), "its").pairs()}
    assert len(packed) == len(names) == COUNT
    assert sorted(names) == sorted(by_name)
    assert names != sorted(names)
    for place, name in enumerate(names):
        hazy, clear = (np.asarray(to_image(picture)) for picture in load_pair(by_name[name]))
        assert np.array_equal(np.asarray(packed[place].hazy), hazy)
        assert np.array_equal(np.asarray(packed[place].clear), clear)


def test_the_tar_files_are_those_of_webdataset(source: Path, shards: Path) -> None:
    paths = sorted(shards.glob("*.tar"))
    assert len(paths) > 2
    members: dict[str, bytes] = {}
    for path in paths:
        with tarfile.open(path) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert sorted(members)[:2] == ["00000000.clear.png", "00000000.hazy.png"]
    name = (shards / "names.txt").read_text().splitlines()[0].split("\t")[1]
    assert members["00000000.hazy.png"] == (source / "hazy" / f"{name}.png").read_bytes()


def test_an_epoch_meets_every_pair_once_shard_by_shard(shards: Path) -> None:
    packed = Shards(shards)
    epochs = [[packed.place(epoch * COUNT + number, seed=0) for number in range(COUNT)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [packed.place(number, seed=1) for number in range(COUNT)]
    shard_of = np.load(shards / "index.npy")[:, 0]
    assert (np.diff(shard_of[epochs[0]]) != 0).sum() == shard_of.max()  # each is left once


def test_batches_are_functions_of_seed_and_number_and_need_no_fixed_size(shards: Path) -> None:
    whole = HazyCrops((), 16, 16, 2, batch=6, seed=0, pairs=Shards(shards))[1]
    parts = [HazyCrops((), 16, 16, 2, batch=3, seed=0, pairs=Shards(shards))[index] for index in (2, 3)]
    assert all(torch.equal(a, torch.cat(both)) for a, *both in zip(whole, *parts, strict=True))


def test_names_that_are_not_utf_8(source: Path, tmp_path: Path) -> None:
    (source / "clear" / "5.png").rename(source / "clear" / os.fsdecode(b"\xff.png"))
    (source / "hazy" / "5_1_0.90179.png").rename(source / "hazy" / os.fsdecode(b"\xff_1_0.9.png"))
    arguments = ["data", "pack", str(source), "-o", str(tmp_path / "shards"), "--rule", "its"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.exception
    assert b"\xff_1_0.9\n" in (tmp_path / "shards" / "names.txt").read_bytes()
    with pytest.raises(DataError, match=r"validation pairs .* \(12 in all\)"):
        Shards(tmp_path / "shards").refuse_shared(PairSet(str(source), "its").pairs())


def test_a_damaged_pair_is_named_and_left_out(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    shard, _, _, begin, size = np.load(shards / "index.npy")[5]
    with (shards / f"{shard:06}.tar").open("r+b") as tar:
        tar.seek(begin)
        tar.write(bytes(size))
    batch = HazyCrops((), 16, 16, 1, batch=COUNT, seed=0, pairs=Shards(shards))[0]
    assert batch.skipped.sum() == 1
    assert "cannot read pair 00000005 of " in caplog.text


def test_damaged_pairs_are_not_packed(source: Path, tmp_path: Path) -> None:
    damaged = source / "clear" / "5.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    Image.new("RGB", (5, 5)).save(source / "clear" / "6.png")
    result = CliRunner().invoke(main, ["data", "pack", str(source), "-o", str(tmp_path / "out"), "--rule", "its"])
    assert result.exit_code == 1
    assert "2 of 12 cannot be used" in result.output
    assert "clear/5.png" in result.output
    assert "clear/6.png differ in size" in result.output
    assert not (tmp_path / "out").exists()


def test_a_scene_in_both_splits_is_found_wherever_its_files_went(source: Path, shards: Path, tmp_path: Path) -> None:
    source.rename(tmp_path / "moved")
    pairs = PairSet(str(tmp_path / "moved"), "its").pairs()
    for pair in pairs[2:]:
        Image.new("RGB", (52, 44)).save(pair.clear)  # other pictures of the same names
    packed = Shards(shards)
    packed.refuse_shared(pairs[2:])
    with pytest.raises(
        DataError, match=rf"validation pairs .* in the shards of .*shards: {pairs[0].name}, .* \(2 in all\)"
    ):
        packed.refuse_shared(pairs)


def test_shards_of_another_version_are_refused(shards: Path) -> None:
    (shards / "scenes.txt").unlink()
    with pytest.raises(DataError, match="no complete shards"):
        Shards(shards)
    (shards / "about.json").write_text('{"version": 1, "crop": 10, "pairs": 12}')
    with pytest.raises(DataError, match="are of version 1, expected 2; pack again"):
        Shards(shards)


def test_shards_without_an_index_are_refused(shards: Path) -> None:
    (shards / "index.npy").unlink()
    with pytest.raises(DataError, match="no complete shards"):
        Shards(shards)


def test_an_empty_index_is_no_index(shards: Path) -> None:
    (shards / "index.npy").write_bytes(b"")
    with pytest.raises(DataError, match="no complete shards"):
        Shards(shards)


def test_the_command_packs_a_split_and_never_overwrites(source: Path, tmp_path: Path) -> None:
    arguments = ["data", "pack", str(source), "-o", str(tmp_path / "out"), "--rule", "its", "--names", "1..10"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "10 pairs in 1 shards" in result.output
    assert len(Shards(tmp_path / "out")) == 10
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "is not empty" in again.output
