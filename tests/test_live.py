"""What plays: over the loopback, through pipes, from a device of FFmpeg. Every wait is bounded."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import pytest
from click.testing import CliRunner
from films import listen, look, make_film, make_film_of_the_future, panned, play
from tiny import tiny_dehazer

from difflid.cli import main
from difflid.errors import VideoError
from difflid.files import unfinished
from difflid.inference.live import Source, dehaze_live

TIMES = {"time_base": Fraction(1, 90_000)}


@pytest.fixture(scope="module")
def dehazer():
    return tiny_dehazer()


@pytest.fixture(scope="module")
def model(dehazer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    dehazer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def film(tmp_path):
    make_film(tmp_path / "film.ts", frames=40, sound="mp2", **TIMES)
    return tmp_path / "film.ts"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def at_work(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(timeout=5)
    assert not thread.is_alive()


@contextmanager
def listening(serve):
    """A server that does ``serve`` with who calls first; the address."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)

    def work():
        with server, server.accept()[0] as caller:
            serve(caller)

    with at_work(work):
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_what_waits_is_kept_whole(dehazer, film, tmp_path):
    """Over HTTP: all frames with their time-stamps, counted from the first, and the sound as it is."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = Source(f"http://127.0.0.1:{server.server_address[1]}/film.ts")
        report = dehaze_live(dehazer, source, tmp_path / "clear.mkv", patience=5)
        server.shutdown()
    (before, _), (after, _) = look(film), look(tmp_path / "clear.mkv")
    assert (report.frames, report.dropped) == (len(before), 0) == (40, 0)
    start = before[0][0]
    assert [frame[0] for frame in after] == pytest.approx([frame[0] - start for frame in before], abs=0.001)
    given = zip(*listen(film), strict=True)
    assert listen(tmp_path / "clear.mkv")[0] == [sound for sound, when in given if when >= start] != []


def test_what_plays_on_loses_the_frames_that_cannot_be_computed(dehazer, tmp_path):
    address, stop = f"udp://127.0.0.1:{free_port()}", threading.Event()

    def send():
        with av.open(f"{address}?pkt_size=1316", "w", format="mpegts") as sender:
            video = sender.add_stream("mpeg2video", rate=25, options={"g": "1"})
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for index in range(200):
                sender.mux(video.encode(panned(index % 90, (64, 48)).reformat(format="yuv420p")))
                time.sleep(0.02)
                if stop.is_set():
                    return

    def slowly(done, dropped):
        time.sleep(0.1)
        if done >= 8 and dropped:
            stop.set()

    with at_work(send):
        report = dehaze_live(dehazer, Source(address), tmp_path / "a.mkv", stop=stop, patience=5, progress=slowly)
    times = [frame[0] for frame in look(tmp_path / "a.mkv")[0]]
    assert len(times) == report.frames >= 8
    assert report.dropped >= 8
    assert times[0] == 0
    assert times[-1] >= 0.04 * (len(times) + 4)  # later than if no frame were missing between


PUBLISHER = """
import sys, time, av
for attempt in range(50):
    try:
        sender = av.open(sys.argv[1], "w", format="rtsp", options={"rtsp_transport": "tcp"})
        video = sender.add_stream("mpeg2video", rate=25, options={"g": "5"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sender.start_encoding()
        break
    except OSError:  # nobody listens yet
        time.sleep(0.1)
for index in range(100):
    sender.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
    time.sleep(0.02)
"""


def test_rtsp(dehazer, tmp_path):
    """A publisher and we talk RTSP; we are the one that listens, for no server is at hand."""
    address, stop = f"rtsp://127.0.0.1:{free_port()}/fog", threading.Event()

    def count(done, _):
        if done >= 5:
            stop.set()

    source = Source(address, options={"rtsp_flags": "listen", "listen_timeout": "8"})
    with subprocess.Popen([sys.executable, "-c", PUBLISHER, address], stderr=subprocess.DEVNULL) as publisher:
        try:
            report = dehaze_live(dehazer, source, tmp_path / "a.mp4", stop=stop, patience=10, progress=count)
        finally:
            publisher.kill()
    assert len(look(tmp_path / "a.mp4")[0]) == report.frames >= 5


def test_a_source_that_stalls_is_said_and_what_came_is_kept(dehazer, film, tmp_path):
    done = threading.Event()

    def half(caller):
        caller.sendall(film.read_bytes()[: film.stat().st_size * 3 // 4])
        done.wait(10)

    with listening(half) as address:
        source = Source(address, options={"analyzeduration": "100000", "probesize": "10000"})
        with pytest.raises(VideoError, match=rf"{address}: nothing came for 2 seconds; the \d+ frames that came"):
            dehaze_live(dehazer, source, tmp_path / "a.mkv", patience=2)
        done.set()
    assert len(look(tmp_path / "a.mkv")[0]) > 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tcp://127.0.0.1:{port}", "Connection refused"),
        ("/dev/video987", "No such file"),
        ("udp://127.0.0.1:{port}", r"nothing came for 0\.5 seconds"),
        ("abacus://127.0.0.1", "Protocol not found"),
        ("text.ts", "Invalid data"),
        ("sound.mkv", "no video stream"),
        ("future.mkv", "FFmpeg does not know the codec of its video"),
    ],
)
def test_what_cannot_be_played_is_said_and_leaves_nothing(dehazer, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.ts").write_text("no video")
    with av.open("sound.mkv", "w") as sound:
        play(sound, sound.add_stream("flac", rate=48_000))
    make_film_of_the_future(tmp_path / "future.mkv", "video")
    before = set(tmp_path.iterdir())
    with pytest.raises(VideoError, match=message):
        dehaze_live(dehazer, Source(name.format(port=free_port())), tmp_path / "a.mkv", patience=0.5)
    assert set(tmp_path.iterdir()) == before


def test_sound_of_an_unknown_codec_is_left_out_aloud(dehazer, tmp_path, caplog):
    make_film_of_the_future(tmp_path / "a.mkv", "sound")
    report = dehaze_live(dehazer, Source(str(tmp_path / "a.mkv")), tmp_path / "b.mkv", patience=5)
    assert report.frames == len(look(tmp_path / "b.mkv")[0]) == 2
    assert "a.mkv: audio left out, whose codec FFmpeg does not know" in caplog.text
    with av.open(str(tmp_path / "b.mkv")) as film:
        assert not film.streams.audio


def test_which_sources_do_not_wait():
    for name in ("/dev/video0", "rtsp://camera/live", "udp://239.0.0.1:5000", "srt://host:1", "rtmp://host/app"):
        assert Source(name).drops
        assert not Source(name, drop=False).drops
    for name in ("-", "http://host/film.ts", "tcp://host:1", "film.mkv", "rtsp.mkv"):
        assert not Source(name).drops


@contextmanager
def standard_streams(source, target):
    """Standard input and output of the process are these files, as a shell connects them."""
    before = os.dup(0), os.dup(1)
    with source.open("rb") as given, target.open("wb") as taken:
        os.dup2(given.fileno(), 0)
        os.dup2(taken.fileno(), 1)
    try:
        yield
    finally:
        for number, stream in enumerate(before):
            os.dup2(stream, number)
            os.close(stream)


def test_pipes(film, model, tmp_path):
    with standard_streams(film, tmp_path / "clear.mkv"):
        result = CliRunner().invoke(main, ["live", "-", "-o", "-", "--model", model, "--device", "cpu"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (0, "", 1)
    assert "40 frames" in result.stderr
    assert len(look(tmp_path / "clear.mkv")[0]) == 40
    assert len(listen(tmp_path / "clear.mkv")[0]) > 5


def test_ctrl_c_completes_the_file(model, tmp_path):
    """A device of FFmpeg that makes pictures without end stands for a camera."""
    words = ["live", "testsrc=size=64x48:rate=25", "--input-format", "lavfi", "-o", str(tmp_path / "a.mp4"), "--drop"]
    before = signal.getsignal(signal.SIGINT)  # a run in the background ignores it

    def interrupt():
        for _ in range(300):
            time.sleep(0.1)
            if unfinished(tmp_path / "a.mp4"):
                break
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    with at_work(interrupt):
        result = CliRunner().invoke(main, [*words, "--model", model, "--device", "cpu"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(look(tmp_path / "a.mp4")[0]) > 1
    assert signal.getsignal(signal.SIGINT) is before
    again = CliRunner().invoke(main, words)
    assert (again.exit_code, "a.mp4 exists" in again.stderr) == (2, True)
