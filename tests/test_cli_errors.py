"""Every verb, given what it cannot work with: 2 where the command line is wrong, 1 where the world is; in one line."""

import itertools

import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import tiny_dehazer

from difflid.cli import main
from difflid.zoo import DEFAULT


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    tiny_dehazer().save_pretrained(folder / "model")
    for name in ("empty", "pairs/hazy", "pairs/clear", "photos", "reported"):
        (folder / name).mkdir(parents=True)
    for name in ("a.png", "pairs/hazy/a.png", "pairs/clear/a.png", "photos/a.png"):
        Image.new("RGB", (64, 64), (120, 130, 140)).save(folder / name)
    for name in ("reported/results.json", "reported/study.json", "text.toml"):
        (folder / name).write_text("x = = 1")
    return folder


FAILURES = {  # verb -> what fails, whatever the file system says of it
    "dehaze --model model --device cpu": [
        "none.png",
        "empty",
        "none*.png",
        "a.png -o a.png/b.png",
        "a.png -o a.png",
        "a.png -o b.gif",
        "photos -o a.png",
    ],
    "dehaze a.png": ["--model none", "--model empty", "--model a.png"],
    "train": ["none.toml", "empty", "a.png", "text.toml"],
    "prior train": ["none.toml", "empty", "a.png", "text.toml"],
    "prior convert": ["none.pt out", "a.png out", "empty out", "none.pt photos"],
    "prior import": ["empty out", "empty photos"],
    "prior show": ["none", "a.png", "empty", "model"],
    "evaluate hazy --data": [
        "none",
        "a.png",
        "empty",
        "clear:photos --report a.png",
        "clear:photos --report a.png/b",
        "clear:photos --report reported",
    ],
    "evaluate none --data": ["clear:photos"],
    "study": [
        "none --photos photos --report out",
        "a.png --photos photos --report out",
        f"{DEFAULT} --photos none --report out",
        f"{DEFAULT} --photos photos --report a.png/b",
        f"{DEFAULT} --photos photos --report reported",
        f"{DEFAULT} --photos photos --report out",
    ],
    "data pack": ["none -o out", "empty -o out", "a.png -o out", "pairs -o a.png", "pairs -o out --names none"],
    "synthesize": ["none -o out", "a.png -o out", "empty -o out", "photos -o a.png", "photos -o pairs"],
}
USAGE = {
    "dehaze": ["", "a.png --device none", "a.png --detail none", "a.png --none", "none://a.png"],
    "train": ["", "text.toml --none", "text.toml --threads 0"],
    "prior": ["", "none", "train", "convert a", "convert a b --dtype none", "import a", "show"],
    "evaluate": [
        "",
        "hazy",
        "--data clear:photos",
        "hazy --data clear:photos --protocol none",
        "hazy --data clear:photos --metric none",
        "hazy --data clear:photos --metric none:none",
        "hazy --data clear:photos --device none",
        "--command none --data clear:photos",
    ],
    "study": [
        "",
        DEFAULT,
        f"{DEFAULT} --photos photos --report out --timesteps none",
        f"{DEFAULT} --photos photos --report out --timesteps 0,1000",
    ],
    "data": ["", "none", "pack pairs", "pack pairs -o out --rule none", "pack pairs -o out --seed -1"],
    "synthesize": ["", "photos", "photos -o out --count 0", "photos -o out --seed -1"],
    "info": ["none"],
    "none": [""],
}


def cases(given):
    return [words for verb, rest in given.items() for words in map(" ".join, itertools.product([verb], rest))]


def run(words, world, monkeypatch):
    monkeypatch.chdir(world)
    result = CliRunner().invoke(main, words.split())
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


@pytest.mark.parametrize("words", cases(FAILURES))
def test_what_cannot_be_done_exits_1(words, world, monkeypatch):
    result = run(words, world, monkeypatch)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if not line.startswith("evaluating")]
    assert len(errors) == 1
    assert errors[0].startswith("difflid: error: ")


@pytest.mark.parametrize("words", cases(USAGE))
def test_wrong_usage_exits_2(words, world, monkeypatch):
    result = run(words, world, monkeypatch)
    assert result.exit_code == 2
    said = result.stderr.splitlines()
    assert said[0].startswith("Usage: ")
    assert said[-1].startswith("Error: ") or words.strip() in ("prior", "data")  # groups alone say what there is
