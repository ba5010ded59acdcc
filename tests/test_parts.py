"""A film that was interrupted goes on behind what is done, and comes out as if nothing had happened."""

import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from films import listen, look, make_film
from tiny import tiny_dehazer

from difflid.files import unfinished, whole
from difflid.inference import Settings
from difflid.inference.parts import Part
from difflid.inference.video import dehaze_video

KIND = {"frames": 14, "steps": (1, 1, 3)}  # of a variable rate


@pytest.fixture(scope="module")
def dehazer():
    return tiny_dehazer()


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    for module in ("parts", "video"):
        monkeypatch.setattr(f"difflid.inference.{module}.PART", 4)


def interrupt_at(frame):
    def progress(done, _):
        if done == frame:
            raise KeyboardInterrupt

    return progress


def work_again(dehazer, source, target, settings=None):
    """Dehaze a film; which of its frames were dehazed, and not taken from an earlier run."""
    dehazed = []
    restore = type(dehazer).restore

    class Counted(type(dehazer)):
        def restore(self, *words, **more):
            dehazed.append(1)
            return restore(self, *words, **more)

    kind, dehazer.__class__ = type(dehazer), Counted
    try:
        report = dehaze_video(dehazer, source, target, settings)
    finally:
        dehazer.__class__ = kind
    return report, len(dehazed)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize(("stop", "smoothing"), [(3, 0.5), (4, 0), (11, 0), (11, 0.5), (13, 0.1)])
def test_an_interrupted_film_goes_on(dehazer, tmp_path, suffix, stop, smoothing):
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    sound = "libopus" if suffix == "webm" else "aac"
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    size = (128, 96)  # on fewer pixels the pan is not found exactly, and where it begins makes a difference
    make_film(source, sound=sound, codec=codec, size=size, time_base=Fraction(1, 1000), **KIND)
    settings = Settings(smoothing=smoothing, crf=1)
    whole = dehaze_video(dehazer, source, tmp_path / f"whole.{suffix}", settings)
    with pytest.raises(KeyboardInterrupt):
        dehaze_video(dehazer, source, target, settings, progress=interrupt_at(stop))
    assert not target.exists()
    report, dehazed = work_again(dehazer, source, target, settings)
    done = (stop - 1) // 4 * 4  # a part is kept when the next begins
    times = [fact[0] for fact in look(source)[0]]
    again = sum(time > times[done - 1] - 6.3 * smoothing for time in times[:done])  # for the average
    assert dehazed == 14 - done + again
    assert (report.frames, report.haze_score) == (14, pytest.approx(whole.haze_score, abs=0.01))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [source.name, target.name, f"whole.{suffix}"]
    )  # nothing is left behind
    (facts, pictures), (others, expected) = look(target), look(tmp_path / f"whole.{suffix}")
    assert facts == others
    assert [fact[0] for fact in facts] == times
    assert listen(target) == listen(tmp_path / f"whole.{suffix}")
    assert max(np.abs(a - b).mean() for a, b in zip(pictures, expected, strict=True)) < (
        1 if smoothing == 0.1 else 1e-9
    )


@pytest.mark.parametrize("codec", ["hevc", "av1", "ffv1"])
def test_parts_of_every_codec_fit_together(dehazer, tmp_path, codec):
    make_film(tmp_path / "a.mkv", time_base=Fraction(1, 1000), **KIND)
    dehaze_video(dehazer, tmp_path / "a.mkv", tmp_path / "b.mkv", Settings(codec=codec))
    assert [fact[0] for fact in look(tmp_path / "b.mkv")[0]] == [fact[0] for fact in look(tmp_path / "a.mkv")[0]]


def test_what_a_killed_run_has_left_goes_and_what_another_writes_stays(dehazer, tmp_path):
    make_film(tmp_path / "a.mp4", sound=None, frames=3)
    with whole(tmp_path / "b.mp4") as left, whole(tmp_path / "b.mp4") as written:
        left.touch()
        written.touch()
        dehaze_video(
            dehazer, tmp_path / "a.mp4", tmp_path / "b.mp4", progress=lambda done, _: os.utime(written, (done, done))
        )
        assert (left.exists(), written.exists()) == (False, True)
        left.touch()


@pytest.mark.parametrize("change", ["settings", "film", "model", "damage"])
def test_what_has_changed_starts_anew(dehazer, tmp_path, change):
    make_film(tmp_path / "a.mp4", **KIND)
    settings = Settings(smoothing=0)
    with pytest.raises(KeyboardInterrupt):
        dehaze_video(dehazer, tmp_path / "a.mp4", tmp_path / "b.mp4", settings, progress=interrupt_at(11))
    kept = sorted((tmp_path / ".b.mp4.parts").iterdir())
    assert len(kept) == 2
    if change == "film":
        make_film(tmp_path / "a.mp4", frames=14)
    if change == "damage":
        kept[0].write_bytes(kept[0].read_bytes()[:-100])
    settings = Settings(smoothing=0, strength=0.5) if change == "settings" else settings
    _, dehazed = work_again(
        tiny_dehazer(seed=1) if change == "model" else dehazer, tmp_path / "a.mp4", tmp_path / "b.mp4", settings
    )
    assert dehazed == 14
    assert not (tmp_path / ".b.mp4.parts").exists()


def test_a_part_comes_back_as_it_was(tmp_path):
    make_film(tmp_path / "a.mp4", sound=None)
    with av.open(str(tmp_path / "a.mp4")) as film:
        packets = [packet for packet in film.demux(video=0) if packet.size]
        packets[0].dts = None
        Part(packets, 0.25).save(tmp_path / "a.npz")
    part = Part.load(tmp_path / "a.npz")
    facts = [[(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in each] for each in (packets, part.packets)]
    assert facts[0] == facts[1]
    assert (part.veil, part.end) == (0.25, max(packet.pts for packet in packets))


KILLED = """
import os, sys
from pathlib import Path
from difflid import Dehazer
from difflid.inference import parts, video
parts.PART = video.PART = 4
kill = lambda done, _: done == 11 and os._exit(9)
video.dehaze_video(Dehazer.from_pretrained(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), progress=kill)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(dehazer, tmp_path):
    """Killed, it can tidy nothing up: the unfinished file stays until another run has finished."""
    dehazer.save_pretrained(tmp_path / "model")
    saved = type(dehazer).from_pretrained(tmp_path / "model")
    make_film(tmp_path / "a.mp4", **KIND)
    words = [str(tmp_path / name) for name in ("model", "a.mp4", "b.mp4")]
    assert subprocess.run([sys.executable, "-c", KILLED, *words], timeout=120).returncode == 9
    assert len(unfinished(tmp_path / "b.mp4")) == 1
    report, dehazed = work_again(saved, tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert (report.frames, dehazed) == (14, 14)  # all are near enough to count in the average
    assert not list(tmp_path.glob(".b.mp4*"))
