"""Options in any combination, with sensible and senseless values: done, or refused in one line; never a traceback."""

import shutil
from pathlib import Path
from tempfile import gettempdir

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from PIL import Image
from tiny import tiny_dehazer

from difflid.cli import main

set_hypothesis_home_dir(Path(gettempdir()) / "difflid-hypothesis")  # or it would be made in the current folder

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), max_size=8)
ODD = st.sampled_from(["nan", "inf", "-inf", "1e400", "0x10", "1_0", "٣", "", "-0", "9" * 30, "-1", "101", "1.5"])
NAMES = ["a.png", "b.jpg", "c.tif", "photos", "bad.png", "none.png", "empty", "*.png", "*.gif", "[", ".", "a.png/x"]
URLS = ["memory://a.png", "memory://none.png", "none://a", "file://a.png", "://", "zip://a::none.zip", "x.mp4"]
OUTPUTS = ["out", "out.png", "out.jpg", "out.gif", "out.mp4", "out.v2", "memory://out", "none://out", "-", "a.png"]
INPUT = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES[:4]), st.sampled_from([*URLS, "-"]), TEXT)


def numbers(low: float, high: float) -> st.SearchStrategy[str]:
    return st.one_of(st.floats(low, high).map(str), st.integers(int(low), int(high)).map(str), ODD)


def words(*sensible: str) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(sensible), st.sampled_from(sensible), TEXT)


VALUED = {
    "--strength": numbers(-1, 2),
    "--tile": numbers(0, 40),
    "--detail": words("auto", "exact", "fast"),
    "--quality": numbers(1, 100),
    "--subsampling": words("4:4:4", "4:2:2", "4:2:0"),
    "--smoothing": numbers(0, 3),
    "--crf": numbers(0, 63),
    "--codec": words("h264", "vp9"),
    "--device": words("cpu", "cuda:99", "meta"),
    "--output": words(*OUTPUTS),
    "--model": words("none", "a.png", "empty", "a/b/c"),
}
FLAGS = [
    "--maps",
    "--white-balance",
    "--strip",
    "-r",
    "--overwrite",
    "--skip-existing",
    "--none",
    "-o",
    "-h",
    "--threads=1",
]
OPTION = st.one_of(
    st.sampled_from(FLAGS).map(lambda flag: [flag]),
    *(st.tuples(st.just(name), values).map(list) for name, values in VALUED.items()),
)
ARGUMENTS = st.tuples(st.lists(INPUT, min_size=1, max_size=2), st.lists(OPTION, max_size=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    tiny_dehazer().save_pretrained(folder / "model")
    (folder / "files" / "empty").mkdir(parents=True)
    (folder / "files" / "photos").mkdir()
    for name in ("a.png", "b.jpg", "c.tif", "photos/a.png"):
        Image.new("RGB", (9, 7), (120, 130, 140)).save(folder / "files" / name)
    (folder / "files" / "bad.png").write_bytes(b"no picture")
    return folder


@settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ARGUMENTS)
def test_any_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[list[str], list[list[str]]]
) -> None:
    here = folder / "here"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(folder / "files", here)
    monkeypatch.chdir(here)
    inputs, options = arguments
    asked = [word for option in options for word in option]
    command = ["dehaze", "--model", str(folder / "model"), "--device", "cpu", *asked, *inputs]
    result = CliRunner().invoke(main, command, input=(here / "a.png").read_bytes())
    event(f"exit code {result.exit_code}")
    assert result.exception is None or isinstance(result.exception, SystemExit), (command, repr(result.exception))
    assert result.exit_code in (0, 1, 2)
    said = result.stderr.splitlines()
    if result.exit_code == 1:
        assert any(line.startswith("difflid: error: ") for line in said), (command, said)
    if result.exit_code == 2:
        assert any(line.startswith("Error: ") for line in said), (command, said)
    assert (here / "a.png").read_bytes() == (folder / "files" / "a.png").read_bytes()
