"""Watching a folder; what happens between two looks is scripted."""

import os
import shutil
from contextlib import suppress
from functools import partial

import pytest
from click.testing import CliRunner
from PIL import Image
from skimage.data import astronaut
from tiny import tiny_dehazer

from difflid.cli import main
from difflid.inference import watch_folder


class Script:
    """Waits by doing the next step, and interrupts after the last."""

    def __init__(self, *steps):
        self.steps = iter(steps)

    def __call__(self, *_):
        step = next(self.steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()


def watched(folder, *steps, arrived=None, **options):
    arrived = [] if arrived is None else arrived
    with suppress(KeyboardInterrupt):
        for jobs, failures in watch_folder(folder, folder / "out", wait=Script(*steps), **options):
            arrived.append([job.source.name for job in jobs] + [str(failure.error) for failure in failures])
            for job in jobs:
                job.target.parent.mkdir(parents=True, exist_ok=True)
                job.target.touch()
    return arrived


def nothing():
    return None


def photo():
    return Image.fromarray(astronaut()[:16, :24])


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def test_a_picture_is_taken_when_it_no_longer_grows(tmp_path):
    path = tmp_path / "a.jpg"
    arrived = []
    grow = [partial(append, path, b"1"), partial(append, path, b"2"), lambda: arrived.append("grown"), nothing, nothing]
    watched(tmp_path, *grow, arrived=arrived)
    assert arrived == ["grown", ["a.jpg"]]


def test_what_is_there_comes_first_and_what_has_its_result_is_left(tmp_path):
    for name in ("b.jpg", "a.jpg", "out/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    steps = [nothing, lambda: append(tmp_path / "c.jpg", b"1"), nothing, nothing]
    assert watched(tmp_path, *steps) == [["a.jpg"], ["c.jpg"]]
    assert watched(tmp_path, nothing, nothing, recursive=True, overwrite=True) == [["a.jpg", "b.jpg", "c.jpg"]]


def test_empty_files_and_files_that_go_away_are_not_taken(tmp_path):
    path = tmp_path / "a.jpg"
    assert watched(tmp_path, path.touch, nothing, nothing, path.unlink, nothing) == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_picture_that_changes_is_taken_again_only_to_overwrite(tmp_path, overwrite):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1")
    steps = [nothing, nothing, lambda: os.utime(path, (1, 1)), nothing, nothing]
    assert watched(tmp_path, *steps, overwrite=overwrite) == [["a.jpg"]] * (2 if overwrite else 1)


def test_a_result_that_another_has_is_told_once_and_the_others_go_on(tmp_path):
    def arrive(name):
        return lambda: append(tmp_path / name, b"1")

    def take_away():
        (tmp_path / "b.tif").unlink()
        (tmp_path / "out" / "b.tif").unlink()

    steps = [arrive("b.tif"), nothing, arrive("a.png"), arrive("b.nef"), nothing, arrive("c.png"), nothing, nothing]
    steps += [take_away, nothing, nothing]
    told = f"{tmp_path}/b.tif and {tmp_path}/b.nef would both be written to {tmp_path}/out/b.tif; dehaze them apart"
    for overwrite in (False, True):
        assert watched(tmp_path, *steps, overwrite=overwrite) == [["b.tif"], ["a.png"], [told], ["c.png"], ["b.nef"]]
        shutil.rmtree(tmp_path / "out")
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_result_that_another_has_fails_at_the_command_line(tmp_path, monkeypatch):
    tiny_dehazer().save_pretrained(tmp_path / "model")
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.webp"):
        photo().save(tmp_path / "in" / name)
    monkeypatch.setattr("difflid.inference.watch.time.sleep", Script(nothing, nothing))
    words = ["dehaze", str(tmp_path / "in"), "--watch", "--maps", "--model", str(tmp_path / "model")]
    result = CliRunner().invoke(main, [*words, "-o", str(tmp_path / "out"), "--device", "cpu"])
    assert result.exit_code == 1
    assert "a.png  24x16  " in result.stdout
    assert "difflid: 1 dehazed, 1 failed in " in result.stderr
    assert "would both be written to" in result.stderr


def test_the_command_line_ends_with_a_summary(tmp_path, monkeypatch):
    tiny_dehazer().save_pretrained(tmp_path / "model")
    folder = tmp_path / "in"
    folder.mkdir()
    steps = [nothing, lambda: photo().save(folder / "a.png"), nothing, lambda: append(folder / "b.png", b"no"), nothing]
    monkeypatch.setattr("difflid.inference.watch.time.sleep", Script(*steps))
    words = ["dehaze", str(folder), "--watch", "-o", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    result = CliRunner().invoke(main, [*words, "--device", "cpu"])
    assert result.exit_code == 1  # b.png is no picture
    assert result.stdout.startswith(f"{folder / 'a.png'}  24x16  ")
    said = result.stderr.splitlines()
    assert said[0] == "difflid: watching; Ctrl-C ends it"
    assert "b.png" in said[1]
    assert said[2].startswith("difflid: 1 dehazed, 1 failed in ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize("words", [["a.png"], ["-"], [".", "-o", "-"]])
def test_one_folder_is_watched(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["dehaze", *words, "--watch"])
    assert (result.exit_code, [*tmp_path.iterdir()]) == (2, [])
