import io
import os
import stat
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from tiny import tiny_dehazer

import difflid
from difflid import Dehazer, image
from difflid.errors import ConfigError, DataError, ImageError, ModelError
from difflid.inference import FileFailure, FileReport, Job, Settings, dehaze_file, dehaze_files, plan_outputs, undone
from difflid.inference.files import MOST_PIXELS


@pytest.fixture(scope="module")
def dehazer():
    return tiny_dehazer()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    for name in ("b.png", "a.JPG", "c.tif"):
        photo().save(folder / name)
    (folder / "notes.txt").write_text("sunny")
    return folder


def photo(width=24, height=16):
    return Image.fromarray(astronaut()[:height, :width])


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


# where results go


def test_one_picture_goes_to_a_file(tmp_path):
    assert plan_outputs([Path("a.jpg")], tmp_path / "b.png") == [Job(Path("a.jpg"), tmp_path / "b.png")]


@pytest.mark.parametrize("made", [True, False])
def test_one_picture_goes_into_a_folder(tmp_path, made):
    if made:
        (tmp_path / "out").mkdir()
    assert plan_outputs([Path("a.jpg")], tmp_path / "out") == [Job(Path("a.jpg"), tmp_path / "out/a.jpg")]


def test_a_pipe_without_haze_is_copied_whole(dehazer, tmp_path):
    with torch.no_grad():
        dehazer.network.coarse_haze.bias.fill_(-20)
    given = image.encode(image.load(photo()), "PNG")
    read, write = os.pipe()
    os.write(write, given)
    os.close(write)
    report = dehaze_file(dehazer, Path(f"/dev/fd/{read}"), tmp_path / "out.png")
    os.close(read)
    assert isinstance(report, FileReport)
    assert (tmp_path / "out.png").read_bytes() == given


def test_without_an_output_results_go_beside_the_inputs(folder):
    targets = [job.target for job in plan_outputs([folder / "b.png", folder])]
    beside = folder.parent / "holiday-dehazed"
    assert targets == [folder / "b.dehazed.png", beside / "a.JPG", beside / "b.png", beside / "c.tif"]


def test_the_current_folder_has_a_name_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert plan_outputs([Path()])[0].target == folder.parent / "holiday-dehazed/a.JPG"


def test_a_folder_stands_for_its_pictures_sorted(folder, tmp_path):
    jobs = plan_outputs([folder], tmp_path / "out")
    assert [job.source.name for job in jobs] == ["a.JPG", "b.png", "c.tif"]
    assert [job.target for job in jobs] == [tmp_path / "out" / job.source.name for job in jobs]


def test_two_results_of_one_name_are_refused(folder, tmp_path):
    (tmp_path / "other").mkdir()
    photo().save(tmp_path / "other/b.png")
    with pytest.raises(ConfigError, match=r"holiday/b\.png and .*other/b\.png would both"):
        plan_outputs([folder, tmp_path / "other/b.png"], tmp_path / "out")


def test_maps_of_one_name_are_refused(tmp_path):
    inputs = [tmp_path / "a.png", tmp_path / "a.jpg"]
    assert len(plan_outputs(inputs, tmp_path / "out")) == 2
    with pytest.raises(ConfigError, match=r"a\.transmission\.png"):
        plan_outputs(inputs, tmp_path / "out", maps=True)


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_input_is_never_overwritten(folder, overwrite):
    with pytest.raises(ConfigError, match=r"a\.JPG is an input"):
        plan_outputs([folder], folder, overwrite=overwrite)
    with pytest.raises(ConfigError, match=r"b\.png is an input"):
        plan_outputs([folder / "b.png"], folder / "../holiday/b.png", overwrite=overwrite)


def test_a_result_that_exists_is_overwritten_only_when_asked(folder, tmp_path):
    (tmp_path / "out.png").touch()
    with pytest.raises(ConfigError, match=r"out\.png exists"):
        plan_outputs([folder / "b.png"], tmp_path / "out.png")
    assert plan_outputs([folder / "b.png"], tmp_path / "out.png", overwrite=True)
    (tmp_path / "new.airlight.png").touch()
    with pytest.raises(ConfigError, match=r"new\.airlight\.png exists"):
        plan_outputs([folder / "b.png"], tmp_path / "new.png", maps=True)


def test_several_results_need_a_folder(folder, tmp_path):
    (tmp_path / "out.png").touch()
    with pytest.raises(ConfigError, match=r"out\.png names one file"):
        plan_outputs([folder], tmp_path / "out.png", overwrite=True)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(DataError, match="no picture"):
        plan_outputs([tmp_path])


@pytest.fixture
def tree(folder):
    for name in ("day/b.png", "day/night/d.webp", ".thumbs/a.png", "day/._b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photo().save(folder / name)
    return folder


def test_sub_folders_are_kept_and_hidden_ones_left_out(tree, tmp_path):
    jobs = plan_outputs([tree], tmp_path / "out", recursive=True)
    names = [str(job.source.relative_to(tree)) for job in jobs]
    assert names == ["a.JPG", "b.png", "c.tif", "day/b.png", "day/night/d.webp"]
    assert [job.target for job in jobs] == [tmp_path / "out" / name for name in names]


def test_earlier_results_inside_the_folder_are_no_inputs(tree):
    first = plan_outputs([tree], tree / "clear", recursive=True)
    for job in first:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        job.target.touch()
    assert plan_outputs([tree], tree / "clear", recursive=True, overwrite=True) == first


def test_patterns_that_the_shell_left_are_expanded(tree, tmp_path):
    found = plan_outputs([tree / "**/b.*"], maps=True)
    assert [job.source for job in found] == [tree / "b.png", tree / "day/b.png"]
    assert plan_outputs([tree / "*.[JP]*"], tmp_path / "out") == [Job(tree / "a.JPG", tmp_path / "out/a.JPG")]
    with pytest.raises(DataError, match=r"nothing matches .*\*\.gif"):
        plan_outputs([tree / "*.gif"])


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path):
    photo().save(tmp_path / "a[1].png")
    assert [job.source for job in plan_outputs([tmp_path / "a[1].png"])] == [tmp_path / "a[1].png"]


def test_a_picture_meant_twice_is_dehazed_once(folder, tmp_path):
    jobs = plan_outputs([folder / "b.png", folder, folder / "*.png"], tmp_path / "out")
    assert [job.source.name for job in jobs] == ["b.png", "a.JPG", "c.tif"]


@pytest.mark.parametrize("output", ["out", "out.png"])
def test_a_picture_spelt_in_two_ways_is_dehazed_once(folder, monkeypatch, output):
    monkeypatch.chdir(folder)
    for again in ("./b.png", str(folder / "b.png"), "../holiday/b.png"):
        assert [job.source for job in plan_outputs(["b.png", again], output)] == [Path("b.png")]
    jobs = plan_outputs([folder, "b.png"], "out")
    assert [job.source.name for job in jobs] == ["a.JPG", "b.png", "c.tif"]


def test_a_folder_without_a_name_needs_an_output(tmp_path, monkeypatch):
    monkeypatch.setattr("difflid.inference.plan.photo_files", lambda *_, **__: [Path("/a.png")])
    for folder in ("/", "memory://"):
        with pytest.raises(ConfigError, match=r"/ has no name to call .* choose an output"):
            plan_outputs([folder])
    assert plan_outputs(["/"], tmp_path) == [Job(Path("/a.png"), tmp_path / "a.png")]


def test_done_is_done_with_all_maps(folder, tmp_path):
    (job,) = plan_outputs([folder / "b.png"], tmp_path / "b.png")
    assert undone([job]) == [job]
    job.target.touch()
    assert undone([job]) == []
    assert undone([job], maps=True) == [job]


# what is done


def test_a_file_is_dehazed_as_the_dehazer_does(dehazer, tmp_path):
    photo().save(tmp_path / "a.png")
    report = dehaze_file(dehazer, tmp_path / "a.png", tmp_path / "new/folder/b.png")
    np.testing.assert_array_equal(pixels(tmp_path / "new/folder/b.png"), np.asarray(dehazer(photo())))
    assert (report.name, report.size) == (str(tmp_path / "a.png"), (24, 16))
    assert 0 <= report.haze_score <= 1
    assert report.seconds > 0


@pytest.mark.parametrize("tile", [0, 8, None])
def test_strength_zero_changes_nothing_at_any_depth(dehazer, tmp_path, tile):
    samples = np.random.default_rng(0).integers(0, 65535, (20, 30, 4), dtype=np.uint16)
    image.save(image.from_samples(samples, "RGBA"), tmp_path / "a.tif")
    dehaze_file(dehazer, tmp_path / "a.tif", tmp_path / "b.tif", Settings(strength=0, tile=tile))
    np.testing.assert_array_equal(image.load(tmp_path / "b.tif").samples, samples)


def test_maps_are_written_beside_the_result(dehazer, tmp_path):
    photo().save(tmp_path / "a.jpg")
    dehaze_file(dehazer, tmp_path / "a.jpg", tmp_path / "out/b.jpg", Settings(maps=True))
    written = {path.name: pixels(path).shape for path in (tmp_path / "out").iterdir()}
    assert written == {
        "b.jpg": (16, 24, 3),
        "b.transmission.png": (16, 24),
        "b.depth.png": (16, 24),
        "b.airlight.png": (16, 24, 3),
    }


def test_streams_keep_the_format(dehazer):
    data, target = io.BytesIO(), io.BytesIO()
    photo().save(data, "WEBP")
    report = dehaze_file(dehazer, data.getvalue(), target)
    assert report.name == "-"
    with Image.open(target) as result:
        assert (result.format, result.size) == ("WEBP", (24, 16))


def test_what_fsspec_opens_can_be_read_and_written(dehazer):
    with fsspec.open("memory://hazy.png", "wb") as file:
        photo().save(file, "PNG")
    with fsspec.open("memory://hazy.png") as source, fsspec.open("memory://clear.png", "wb") as target:
        dehaze_file(dehazer, source.read(), target)
    with fsspec.open("memory://clear.png") as result:
        np.testing.assert_array_equal(pixels(result), np.asarray(dehazer(photo())))


def test_a_bad_picture_does_not_stop_the_others(dehazer, folder, tmp_path):
    (folder / "aa.jpg").write_text("no picture")
    (folder / "bb.png").write_bytes((folder / "b.png").read_bytes()[:100])
    results = list(dehaze_files(dehazer, plan_outputs([folder], tmp_path / "out")))
    assert [type(result) for result in results] == [FileReport, FileFailure, FileReport, FileFailure, FileReport]
    assert isinstance(results[1].error, ImageError)
    assert results[1].name == str(folder / "aa.jpg")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.JPG", "b.png", "c.tif"]


def test_many_pictures_are_as_one_by_one_in_their_order(dehazer, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    jobs = [Job(tmp_path / f"{index}.png", tmp_path / f"out/{index}.png") for index in range(12)]
    for index, job in enumerate(jobs):  # large ones first, so that the small overtake them where order is not kept
        size = (200, 300, 3) if index % 4 == 0 else (8, 9, 3)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(job.source)
    jobs[6].source.write_bytes(b"no picture")
    for most_pixels in (MOST_PIXELS, 100):
        monkeypatch.setattr("difflid.inference.files.MOST_PIXELS", most_pixels)
        results = list(dehaze_files(dehazer, jobs))
        assert [result.name for result in results] == [str(job.source) for job in jobs]
        assert [index for index, result in enumerate(results) if isinstance(result, FileFailure)] == [6]
        for job in jobs[:6] + jobs[7:]:
            dehaze_file(dehazer, job.source, tmp_path / "alone.png")
            assert job.target.read_bytes() == (tmp_path / "alone.png").read_bytes()
            job.target.unlink()


@pytest.mark.parametrize(("most_pixels", "expected"), [(10_000, 2), (100, 1)])
def test_few_pictures_are_in_memory_at_once(dehazer, tmp_path, monkeypatch, most_pixels, expected):
    """At most one of any size beside ``MOST_PIXELS``; counted by the pictures that are alive when one is decoded."""
    alive, most = weakref.WeakSet(), 0
    load = image.load

    def counted(source):
        nonlocal most
        most = max(most, len(alive) + 1)
        picture = load(source)
        alive.add(picture)
        return picture

    monkeypatch.setattr("difflid.inference.files.MOST_PIXELS", most_pixels)
    monkeypatch.setattr("difflid.image.load", counted)
    jobs = [Job(tmp_path / f"{index}.png", tmp_path / f"out/{index}.png") for index in range(8)]
    for job in jobs:
        photo(100, 100).save(job.source)
    assert len(list(dehaze_files(dehazer, jobs))) == 8
    assert most <= expected


def test_a_caller_who_stops_early_is_not_kept(dehazer, folder, tmp_path):
    results = dehaze_files(dehazer, plan_outputs([folder], tmp_path / "out"))
    next(results)
    results.close()
    assert (tmp_path / "out/a.JPG").is_file()


def test_a_folder_that_cannot_be_made_is_said(dehazer, tmp_path):
    photo().save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="cannot make the folder"):
        dehaze_file(dehazer, tmp_path / "a.png", tmp_path / "a.png/b.png")


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (20_000, 50), (1, 50)])
def test_odd_sizes(dehazer, tmp_path, size):
    Image.new("L", size, 99).save(tmp_path / "a.png")
    dehaze_file(dehazer, tmp_path / "a.png", tmp_path / "b.png")
    assert pixels(tmp_path / "b.png").shape == size[::-1]


def test_a_picture_without_haze_keeps_its_bytes(tmp_path):
    clear = tiny_dehazer()
    clear.network.coarse_haze.bias.data.fill_(-20)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(tmp_path / "a.jpg", exif=exif, quality=50)
    before = (tmp_path / "a.jpg").read_bytes()
    for target, same in (("b.jpg", True), ("b.png", False)):
        dehaze_file(clear, tmp_path / "a.jpg", tmp_path / target)
        assert ((tmp_path / target).read_bytes() == before) is same
        np.testing.assert_array_equal(image.load(tmp_path / target).samples, image.load(before).samples)
    dehaze_file(clear, tmp_path / "a.jpg", tmp_path / "c.jpg", Settings(writing=image.Writing(metadata=False)))
    assert image.load(tmp_path / "c.jpg").exif == b""


@pytest.mark.parametrize(("given", "kept"), [(0o600, 0o600), (0o640, 0o640), (0o444, 0o644), (0o777, 0o644)])
def test_a_result_is_no_less_private_than_its_source(dehazer, tmp_path, given, kept):
    photo().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(given)
    before = os.umask(0o022)
    try:
        dehaze_file(dehazer, tmp_path / "a.png", tmp_path / "out/b.png", Settings(maps=True))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {kept}


def test_raw_files_become_tiff(tmp_path):
    for name in ("a.dng", "b.heic", "c.avif"):
        (tmp_path / name).touch()
    assert [job.target.name for job in plan_outputs([tmp_path])] == ["a.tif", "b.heic", "c.avif"]
    assert plan_outputs([Path("a.dng")])[0].target == Path("a.dehazed.tif")
    assert plan_outputs([Path("a.NEF"), Path("b.jpg")], tmp_path)[0].target == tmp_path / "a.tif"


# from Python


@pytest.fixture(scope="module")
def model(dehazer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    dehazer.save_pretrained(folder)
    return folder


def test_one_call_is_what_the_dehazer_does(model, tmp_path):
    photo().save(tmp_path / "a.png")
    expected = np.asarray(Dehazer.from_pretrained(model)(photo(), strength=0.5, tile=8))
    for kind in (photo(), np.asarray(photo()), tmp_path / "a.png"):
        np.testing.assert_array_equal(np.asarray(difflid.dehaze(kind, model=model, strength=0.5, tile=8)), expected)


def test_the_model_stays_loaded_until_another_is_asked_for(model, tmp_path):
    before = np.asarray(difflid.dehaze(photo(), model=model))
    other = tmp_path / "other"
    tiny_dehazer(seed=1).save_pretrained(other)
    weights = other / "model.safetensors"
    assert not np.array_equal(np.asarray(difflid.dehaze(photo(), model=other)), before)
    weights.rename(other / "away")
    difflid.dehaze(photo(), model=other)
    np.testing.assert_array_equal(np.asarray(difflid.dehaze(photo(), model=model)), before)
    with pytest.raises(ModelError):
        difflid.dehaze(photo(), model=other)


def test_threads_may_share_a_dehazer(dehazer):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40 + index, 56, 3), np.uint8) for index in range(16)]
    expected = [dehazer(picture, strength=index / 16) for index, picture in enumerate(pictures)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda index: dehazer(pictures[index], strength=index / 16), [*range(16)] * 4))
    for result, alone in zip(results, expected * 4, strict=True):
        np.testing.assert_array_equal(result, alone)
