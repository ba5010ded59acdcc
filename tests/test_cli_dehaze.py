import io
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from skimage.data import astronaut
from tiny import tiny_dehazer

from difflid.cli import main
from difflid.cli.reports import Reports, _haze
from difflid.dehazer import NO_HAZE
from difflid.inference import FileReport


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_dehazer().save_pretrained(folder)
    return folder


@pytest.fixture
def dehaze(model, tmp_path):
    for name in ("a.png", "b.jpg"):
        photo().save(tmp_path / name)

    def run(*arguments, **options):
        words = ["dehaze", "--model", str(model), "--device", "cpu", *(str(argument) for argument in arguments)]
        return CliRunner().invoke(main, words, **options)

    return run


def photo():
    return Image.fromarray(astronaut()[:16, :24])


def test_a_picture_is_dehazed_beside_itself_and_reported(dehaze, tmp_path):
    result = dehaze(tmp_path / "b.jpg")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{tmp_path / 'b.jpg'}  24x16  ")
    assert "haze" in result.stdout
    with Image.open(tmp_path / "b.dehazed.jpg") as written:
        assert written.size == (24, 16)


def test_all_options_together(dehaze, tmp_path):
    options = (
        "--strength",
        "0",
        "--tile",
        "8",
        "--maps",
        "--threads",
        "1",
        "--overwrite",
        "--detail",
        "fast",
        "--strip",
    )
    result = dehaze(tmp_path / "a.png", "-o", tmp_path / "out" / "c.png", *options)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "c.airlight.png",
        "c.depth.png",
        "c.png",
        "c.transmission.png",
    ]
    with Image.open(tmp_path / "out/c.png") as written:
        np.testing.assert_array_equal(np.asarray(written), np.asarray(photo()))


def test_how_a_picture_is_written_can_be_chosen(dehaze, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    photo().resize((240, 160)).save(tmp_path / "c.jpg", exif=exif)
    for name, options in (("d", []), ("e", ["--quality", "20", "--strip", "--white-balance"])):
        assert dehaze(tmp_path / "c.jpg", "-o", tmp_path / f"{name}.jpg", *options).exit_code == 0
    with Image.open(tmp_path / "d.jpg") as kept, Image.open(tmp_path / "e.jpg") as small:
        assert kept.getexif()[0x010F] == "maker"
        assert not small.getexif()
    assert (tmp_path / "e.jpg").stat().st_size < 0.7 * (tmp_path / "d.jpg").stat().st_size


def test_failures_are_told_and_listed_and_the_rest_is_done(dehaze, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    result = dehaze(tmp_path / "bad.jpg", tmp_path / "a.png", tmp_path / "missing.jpg", "-o", tmp_path / "out")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("difflid: error: ")
    assert "bad.jpg" in lines[0]
    assert "missing.jpg: no such file" in lines[1]
    assert lines[2].startswith("difflid: 1 dehazed, 2 failed in ")
    assert [line.removeprefix("  failed: ") for line in lines[3:]] == [
        line.removeprefix("difflid: error: ") for line in lines[:2]
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_result_that_exists_is_an_error_before_any_work(dehaze, tmp_path):
    (tmp_path / "out.png").write_bytes(b"precious")
    result = dehaze(tmp_path / "a.png", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"difflid: error: {tmp_path / 'out.png'} exists; choose another output, or ask to overwrite it\n"
    )
    assert (tmp_path / "out.png").read_bytes() == b"precious"
    assert dehaze(tmp_path / "a.png", "-o", tmp_path / "out.png", "--overwrite").exit_code == 0


def test_what_has_its_result_is_skipped(dehaze, tmp_path):
    assert dehaze(tmp_path / "a.png", "-o", tmp_path / "out").exit_code == 0
    before = (tmp_path / "out/a.png").stat().st_mtime_ns
    result = dehaze(tmp_path, "-o", tmp_path / "out", "--recursive", "--skip-existing")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [str(tmp_path / "b.jpg")]
    assert result.stderr.startswith("difflid: 1 dehazed, 1 skipped in ")
    assert (tmp_path / "out/a.png").stat().st_mtime_ns == before
    result = dehaze(tmp_path, "-o", tmp_path / "out", "--recursive", "--skip-existing")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("difflid: 0 dehazed, 2 skipped in ")


def test_a_single_picture_that_is_skipped_is_told(dehaze, tmp_path):
    (tmp_path / "b.png").touch()
    result = dehaze(tmp_path / "a.png", "-o", tmp_path / "b.png", "--skip-existing")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("difflid: 0 dehazed, 1 skipped in ")


def test_names_that_are_not_utf_8(dehaze, tmp_path):
    (tmp_path / "in").mkdir()
    photo().save(tmp_path / "in" / os.fsdecode(b"\xff.png"))
    result = dehaze(tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes.startswith(os.fsencode(tmp_path) + b"/in/\xff.png  24x16  ")
    assert [os.fsencode(path.name) for path in (tmp_path / "out").iterdir()] == [b"\xff.png"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_only(monkeypatch, terminal):
    file = io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: terminal)
    with Reports(2, file=file) as reports:
        reports.tell([FileReport("a.png", (3, 2), 0.5, 1.0)])
    assert ("0/2 pictures |" in file.getvalue()) == terminal
    assert ("left" in file.getvalue()) == terminal


def test_standard_input_and_output(dehaze, tmp_path):
    result = dehaze("-", input=(tmp_path / "b.jpg").read_bytes())
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("-  24x16  ")
    with Image.open(io.BytesIO(result.stdout_bytes)) as written:
        assert (written.format, written.size) == ("JPEG", (24, 16))


def test_one_end_may_be_a_file(dehaze, tmp_path):
    assert dehaze("-", "-o", tmp_path / "c.webp", input=(tmp_path / "b.jpg").read_bytes()).exit_code == 0
    with Image.open(tmp_path / "c.webp") as written:
        assert written.format == "WEBP"
    result = dehaze(tmp_path / "a.png", "-o", "-")
    with Image.open(io.BytesIO(result.stdout_bytes)) as written:
        assert written.format == "PNG"


def test_bad_bytes_from_standard_input(dehaze):
    result = dehaze("-", input=b"no picture")
    assert result.exit_code == 1
    assert result.stdout_bytes == b""
    assert result.stderr.startswith("difflid: error: cannot read the picture: not a picture")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.png", "--strength", "3"],
        ["a.png", "--tile", "-1"],
        ["a.png", "--threads", "0"],
        ["a.png", "--detail", "coarse"],
        ["a.png", "--quality", "101"],
        ["a.png", "--subsampling", "4:1:0"],
        ["a.png", "--nonsense"],
        [""],
        ["a.png", "-o", ""],
        ["a.png", "--strength", "nan"],
        ["-", "a.png"],
        ["-", "-o", "a.mp4"],
        ["a.mp4", "-o", "-"],
        [".", "-o", "-"],
        ["-", "--maps"],
        ["-", "-o", "folder"],
        ["a.png", "--overwrite", "--skip-existing"],
    ],
)
def test_wrong_usage_exits_2(arguments):
    assert CliRunner().invoke(main, ["dehaze", *arguments], input=b"").exit_code == 2


@pytest.mark.parametrize(
    ("option", "value", "code", "message"),
    [
        ("--model", "nowhere", 1, "no model 'nowhere'"),
        ("--device", "abacus", 2, "Invalid value for '--device': no device 'abacus' here: expected one of"),
    ],
)
def test_what_is_not_there_is_said(dehaze, tmp_path, option, value, code, message):
    result = dehaze(tmp_path / "a.png", option, value)
    assert result.exit_code == code
    assert message in result.stderr


def test_no_haze_is_said_aloud():
    def seen(score, **more):
        return FileReport("a", (3, 2), score, 1.0, **more)

    assert _haze(seen(NO_HAZE / 2)).startswith("no haze found (0.0")
    assert _haze(seen(NO_HAZE / 2, left_alone=True)).startswith("no haze found, left as it is (0.0")
    assert [_haze(seen(score)) for score in (0.1, 0.3, 0.8, 1.0)] == [
        "light haze (0.10)",
        "haze (0.30)",
        "dense haze (0.80)",
        "dense haze (1.00)",
    ]


def test_interruption_exits_130(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("difflid.cli.info._row", interrupt)
    assert CliRunner().invoke(main, ["info"]).exit_code == 130


def test_info_names_versions_devices_and_models():
    result = CliRunner().invoke(main, ["info"])
    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} >= {
        "difflid",
        "torch",
        "diffusers",
        "python",
        "device",
        "model",
    }


def test_help_lists_every_verb_without_importing_torch():
    code = (
        "import sys\n"
        "from difflid.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'numpy', 'diffusers', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    for verb in ("dehaze", "train", "prior", "evaluate", "synthesize", "info"):
        assert f"\n  {verb} " in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch's threads are those of another library")
@pytest.mark.parametrize(
    ("asked", "spins"), [({}, 1000), ({"GOMP_SPINCOUNT": "7"}, 7), ({"OMP_WAIT_POLICY": "ACTIVE"}, 30_000_000_000)]
)
def test_threads_that_wait_leave_the_processor_to_others_unless_asked_otherwise(asked, spins):
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", "from difflid.cli import main; main(['info'])"]
    environment = {**inherited, "OMP_DISPLAY_ENV": "verbose", **asked}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr  # the library says so when torch loads it


@pytest.mark.parametrize("verb", ["dehaze", "train", "prior", "evaluate", "synthesize", "info"])
def test_every_verb_explains_itself(verb):
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {verb}")
