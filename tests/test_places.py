"""Files at URLs: fsspec's memory file system, one that shows files as they grow, and a server on this machine."""

import io
import subprocess
import sys
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from skimage.data import astronaut
from tiny import tiny_dehazer

import difflid
from difflid import image
from difflid.cli import main
from difflid.errors import ConfigError, DataError, ImageError, MissingExtra
from difflid.inference import Job, dehaze_files, plan_outputs, undone
from difflid.places import Remote, place


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_dehazer().save_pretrained(folder)
    return folder


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def photos(memory):
    for name in ("b.png", "a.JPG", "day/c.webp", ".hidden/d.png", ".e.png"):
        memory.pipe_file(f"/photos/{name}", encoded(Path(name).suffix))
    memory.pipe_file("/photos/notes.txt", b"sunny")
    return "memory://photos"


def photo():
    return Image.fromarray(astronaut()[:16, :24])


def encoded(suffix):
    file = io.BytesIO()
    photo().save(file, Image.registered_extensions()[suffix.lower()])
    return file.getvalue()


def dehaze(model, *words):
    return CliRunner().invoke(main, ["dehaze", "--model", str(model), "--device", "cpu", *map(str, words)])


# names


def test_what_is_of_this_machine_is_a_path(tmp_path):
    assert place(f"file://{tmp_path}/a.jpg") == tmp_path / "a.jpg"
    assert [place(name) for name in ("a.jpg", "C:/a.jpg", "a:b.jpg", "a b://c")] == [
        Path("a.jpg"),
        Path("C:/a.jpg"),
        Path("a:b.jpg"),
        Path("a b://c"),
    ]


def test_a_url_has_a_name_as_a_path_has():
    found = place("memory://photos/day/a.b.jpg")
    assert (str(found), found.name, found.stem, found.suffix) == (
        "memory:///photos/day/a.b.jpg",
        "a.b.jpg",
        "a.b",
        ".jpg",
    )
    assert str(found.with_suffix(".png")) == "memory:///photos/day/a.b.png"
    assert found.relative_to(place("memory://photos")) == Path("day/a.b.jpg")
    assert found == place("memory:///photos/day/") / "a.b.jpg"


def test_the_query_of_a_web_address_is_no_part_of_the_name():
    found = place("https://host/a/b.jpg?size=3&name=c.png")
    assert (found.name, found.suffix, found.has_magic, found.writable) == ("b.jpg", ".jpg", False, False)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nowhere://a/b.jpg", ConfigError, "cannot open nowhere://a/b.jpg: Protocol not known"),
        ("zip://a.jpg::/nowhere.zip", ConfigError, "cannot open zip://a.jpg::/nowhere.zip: .*No such file"),
        ("oci://a@b/c.jpg", MissingExtra, "the URL oci://a@b/c.jpg needs an optional dependency: Install ocifs"),
    ],
)
def test_what_cannot_be_opened_is_said(url, error, message):
    for use in (place, image.load, difflid.dehaze, lambda url: plan_outputs([url])):
        with pytest.raises(error, match=message):
            use(url)


@pytest.mark.parametrize(("missing", "url"), [("fsspec", "memory://a.jpg"), ("aiohttp", "https://host/a.jpg")])
def test_a_missing_package_is_told_with_the_line_that_installs_it(missing, url):
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom difflid.places import place\nplace({url!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        f"difflid.errors.MissingExtra: the URL {url} needs an optional dependency: pip install 'difflid[url]'"
    )


# where results go


def targets(*arguments, **options):
    return {str(job.source): str(job.target) for job in plan_outputs(*arguments, **options)}


def test_a_folder_at_a_url_stands_for_its_pictures(photos):
    a, b, c = (f"memory:///photos/{name}" for name in ("a.JPG", "b.png", "day/c.webp"))
    assert targets([photos], "memory://out") == {a: "memory:///out/a.JPG", b: "memory:///out/b.png"}
    assert targets([photos], "here", recursive=True) == {a: "here/a.JPG", b: "here/b.png", c: "here/day/c.webp"}
    assert targets([photos])[b] == "memory:///photos-dehazed/b.png"
    assert targets([b]) == {b: "memory:///photos/b.dehazed.png"}
    assert targets([b], "memory://out/x.tif") == {b: "memory:///out/x.tif"}


def test_patterns_are_expanded(photos, memory):
    assert [*targets([f"{photos}/**/*.[pw]*"], "out").values()] == ["out/b.png", "out/c.webp"]
    memory.pipe_file("/photos/f[1].png", encoded(".png"))
    assert [*targets([f"{photos}/f[1].png"], "out").values()] == ["out/f[1].png"]
    for given, message in (
        (f"{photos}/*.gif", "nothing matches"),
        ("memory://photos/day/", None),
        (f"{photos}/x*", "n"),
    ):
        if message:
            with pytest.raises(DataError, match=message):
                plan_outputs([given], "out")
        else:
            assert len(plan_outputs([given], "out")) == 1
    memory.pipe_file("/empty/notes.txt", b"sunny")
    with pytest.raises(DataError, match="no picture in memory:///empty"):
        plan_outputs(["memory://empty"])


def test_results_at_a_url_are_not_replaced_unasked_nor_are_they_inputs(photos, memory):
    memory.pipe_file("/photos/out/b.png", b"precious")
    with pytest.raises(ConfigError, match=r"memory:///photos/out/b\.png exists"):
        plan_outputs([f"{photos}/b.png"], f"{photos}/out")
    jobs = plan_outputs([photos], f"{photos}/out", recursive=True, overwrite=True)
    assert [job.source.name for job in jobs] == ["a.JPG", "b.png", "c.webp"]
    assert [job.source.name for job in undone(jobs)] == ["a.JPG", "c.webp"]
    with pytest.raises(ConfigError, match=r"b\.png is an input"):
        plan_outputs([f"{photos}/b.png"], photos)


def test_a_folder_of_results_that_does_not_exist_yet_is_empty(photos, monkeypatch):
    def find(self, path, *arguments, **options):
        if "new" in path:
            raise FileNotFoundError(path)  # as object stores do
        return super(MemoryFileSystem, self).find(path, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    jobs = plan_outputs([photos], "memory://new")
    assert undone(jobs) == jobs
    assert len(jobs) == 2


def test_nothing_is_written_to_the_web_and_no_video_at_a_url():
    with pytest.raises(ConfigError, match=r"cannot write to https://host/a\.dehazed\.jpg; choose an output"):
        plan_outputs(["https://host/a.jpg"])
    with pytest.raises(ConfigError, match="on this machine only"):
        plan_outputs(["memory://a.mp4"], "b.mp4")
    with pytest.raises(ConfigError, match="on this machine only"):
        plan_outputs(["a.mp4"], "memory://b.mp4")


# what is done


def test_from_folder_to_folder_by_the_command_line(model, photos, memory):
    memory.pipe_file("/photos/bad.jpg", b"no picture")
    result = dehaze(model, photos, "-o", "memory://out", "--recursive", "--maps")
    assert result.exit_code == 1
    assert result.stderr.count("failed: cannot read memory:///photos/bad.jpg: not a picture") == 1
    names = [path.removeprefix("/out/") for path in memory.find("/out")]
    assert {name for name in names if name.count(".") == 1} == {"a.JPG", "b.png", "day/c.webp"}
    assert len(names) == 12
    alone = dehaze(model, f"{photos}/b.png", "-o", "memory://alone.png")
    assert (alone.exit_code, alone.stdout[:24]) == (0, "memory:///photos/b.png  ")
    assert memory.cat_file("/alone.png") == memory.cat_file("/out/b.png")
    again = dehaze(model, photos, "-o", "memory://out", "-r", "--skip-existing")
    assert again.stderr.splitlines()[-2].startswith("difflid: 0 dehazed, 3 skipped, 1 failed in ")


def test_standard_streams_and_urls(model, photos, memory):
    result = dehaze(model, f"{photos}/b.png", "-o", "-")
    assert result.exit_code == 0, result.stderr
    words = ["dehaze", "--model", str(model), "--device", "cpu", "-", "-o", "memory://out/c.png"]
    assert CliRunner().invoke(main, words, input=encoded(".png")).exit_code == 0
    assert memory.cat_file("/out/c.png") == result.stdout_bytes


def test_from_python_too(model, photos):
    expected = np.asarray(difflid.dehaze(photo(), model=model))
    np.testing.assert_array_equal(np.asarray(difflid.dehaze(f"{photos}/b.png", model=model)), expected)
    image.save(image.load(place(f"{photos}/b.png")), "memory://copy.png")
    np.testing.assert_array_equal(image.load("memory://copy.png").samples, np.asarray(photo()))
    with pytest.raises(ImageError, match=r"cannot read memory://none\.png: no such file"):
        image.load("memory://none.png")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere://a.jpg"], 2, "Protocol not known: nowhere"),
        (["a.jpg", "-o", "nowhere://a.jpg"], 2, "Protocol not known: nowhere"),
        (["oci://a@b/c.jpg"], 1, "Install ocifs"),
        (["memory://none.jpg", "-o", "out"], 1, "cannot read memory:///none.jpg: no such file"),
        (["memory://photos", "--watch"], 2, "--watch needs one folder of this machine"),
        (["memory://photos", "-o", "memory://b.png"], 1, "names one file"),
    ],
)
def test_errors_at_the_command_line(model, photos, words, code, message, tmp_path, monkeypatch):  # noqa: ARG001
    monkeypatch.chdir(tmp_path)
    result = dehaze(model, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


class Growing(MemoryFileSystem):
    """Shows a file as it grows, as a server of files does; the connection breaks at a file that says so."""

    protocol = "sftp"
    store, pseudo_dirs = {}, [""]

    def pipe_file(self, path, value, mode="overwrite", **_):
        super().pipe_file(path, value[: len(value) // 2], mode)
        assert len(self.ls(self._parent(path))) > 0
        if b"break" in value:
            raise EOFError("connection lost")
        super().pipe_file(path, value, mode)


def test_a_file_at_a_url_appears_whole_or_not_at_all():
    system = Growing(skip_instance_cache=True)
    target = Remote(system, "/new/a.jpg")
    for before in ([], ["/new/a.jpg"]):
        with pytest.raises(OSError, match="connection lost"):
            target.write_whole(b"break" * 10)
        assert system.find("/new") == before
        target.write_whole(b"whole")
        assert (system.find("/new"), target.read_bytes()) == (["/new/a.jpg"], b"whole")
    with pytest.raises(ImageError, match=r"cannot write .*a\.jpg: connection lost"):
        image.write_parts([b"br", b"eak"], target)


def test_two_writers_at_a_url_do_not_meet(monkeypatch):
    parts, pipe_file = [], Growing.pipe_file

    def noted(self, path, *rest):
        parts.append(path)
        pipe_file(self, path, *rest)

    monkeypatch.setattr(Growing, "pipe_file", noted)
    for _ in range(2):
        Remote(Growing(skip_instance_cache=True), f"/both/{'a' * 250}.jpg").write_whole(b"whole")
    assert len(set(parts)) == 2
    assert max(len(Path(path).name) for path in parts) < 64


def test_a_store_that_fails_fails_one_picture(model, photos, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("the token has expired")

    jobs = [Job(place(f"{photos}/b.png"), place("memory://out/b.png"))]
    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    (failure,) = dehaze_files(difflid.Dehazer.from_pretrained(model), jobs)
    assert str(failure.error) == "cannot read memory:///photos/b.png: the token has expired"


def test_a_picture_is_read_from_a_server(model, tmp_path):
    photo().save(tmp_path / "a.png")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    handler.func.log_message = lambda *_: None
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        result = dehaze(model, f"{url}/a.png?size=large", "-o", tmp_path / "out")
        assert result.exit_code == 0, result.stderr
        assert dehaze(model, f"{url}/none.png", "-o", tmp_path / "out").exit_code == 1
        server.shutdown()
    with Image.open(tmp_path / "out/a.png") as written:
        np.testing.assert_array_equal(np.asarray(written), np.asarray(difflid.dehaze(photo(), model=model)))
