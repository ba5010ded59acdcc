"""Video: what comes out is what came in, but for the haze. Real files, made and read back by PyAV."""

import io
import re
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from av.video.reformatter import Colorspace
from click.testing import CliRunner
from films import SOURCE, about, listen, look, make_film, make_film_of_the_future, play
from PIL import Image
from skimage.data import chelsea
from test_image_formats import P3
from tiny import tiny_dehazer

import difflid.inference.steady
from difflid.cli import main
from difflid.cli.reports import Reports, line
from difflid.errors import ConfigError, MissingExtra, VideoError
from difflid.image import Writing
from difflid.inference import FileFailure, FileReport, Job, Settings, Steady, dehaze_files, dehaze_frames, plan_outputs
from difflid.inference.steady import SMOOTHING
from difflid.inference.video import dehaze_video
from difflid.network import Condition

KINDS = {
    "variable-rate.mp4": {"steps": (1, 1, 3)},
    "upside.mp4": {"rotation": 180},
    "portrait.mov": {"rotation": -90},
    "matroska.mkv": {"time_base": Fraction(1, 1000), "sound": "flac"},
    "deep.mp4": {"codec": "libx265", "pixels": "yuv420p10le", "colours": (9, 1, 9, 16)},
    "full-range.mp4": {"colours": (1, 2, 1, 13)},
    "web.webm": {"codec": "libvpx-vp9", "time_base": Fraction(1, 1000), "sound": "libopus"},
    "camera.ts": {"time_base": Fraction(1, 90_000), "sound": None},
    "old.avi": {"codec": "mpeg4", "time_base": Fraction(1, 25), "sound": "pcm_s16le", "colours": (2, 1, 2, 2)},
    "odd.mkv": {"codec": "ffv1", "pixels": "yuv444p", "size": (33, 25), "time_base": Fraction(1, 1000)},
}


@pytest.fixture(scope="module")
def dehazer():
    return tiny_dehazer()


@pytest.mark.parametrize("name", KINDS)
def test_all_but_the_haze_is_kept(dehazer, tmp_path, name):
    make_film(tmp_path / name, **KINDS[name])
    (job,) = plan_outputs([tmp_path / name], tmp_path / "out")
    report = dehaze_video(dehazer, job.source, job.target, Settings(strength=0))
    (before, hazy), (after, clear) = look(job.source), look(job.target)
    assert after == before
    assert report.frames == len(before) == 9
    assert max(np.abs(a - b).mean() for a, b in zip(hazy, clear, strict=True)) < 2.5
    with av.open(str(job.source)) as source, av.open(str(job.target)) as target:
        assert about(source).items() <= about(target).items()
        assert "title" in about(source) or name == "camera.ts"  # which holds no metadata
        assert len(target.streams.audio) == len(source.streams.audio)
        if source.streams.audio:
            (kept, times), (given, due) = listen(job.target), listen(job.source)
            assert kept == given != []
            assert times == pytest.approx(due, abs=0.001)  # Matroska counts milliseconds


def test_the_same_film_gives_the_same_bytes(dehazer, tmp_path):
    make_film(tmp_path / "a.mp4", frames=14, size=(96, 64), steps=(1, 1, 3), time_base=Fraction(1, 1000))
    results = set()
    for _ in range(6):
        dehaze_video(dehazer, tmp_path / "a.mp4", tmp_path / "b.mp4", Settings(smoothing=0))
        results.add((tmp_path / "b.mp4").read_bytes())
    assert len(results) == 1


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "colours"),
    [("a.mkv", "libx264rgb", "rgb24", (0, 2, 1, 13)), ("a.mov", "qtrle", "rgb24", (2, 0, 2, 2))],
)
def test_what_was_rgb_is_coded_by_the_matrix_that_is_declared(dehazer, tmp_path, name, codec, pixels, colours):
    film = {"codec": codec, "pixels": pixels, "colours": colours, "time_base": Fraction(1, 1000)}
    make_film(tmp_path / name, frames=1, sound=None, **film)
    dehaze_video(dehazer, tmp_path / name, tmp_path / "b.mkv", Settings(strength=0))
    (_, [hazy]), ([facts], [clear]) = look(tmp_path / name), look(tmp_path / "b.mkv")
    assert facts[5] == Colorspace.ITU709
    assert np.abs(hazy - clear).mean() < 2.5


def test_what_becomes_rgb_has_no_matrix(dehazer, tmp_path):
    make_film(tmp_path / "a.mp4", frames=1, sound=None)
    dehaze_video(dehazer, tmp_path / "a.mp4", tmp_path / "b.mkv", Settings(strength=0, codec="libx264rgb"))
    (_, [hazy]), ([facts], [clear]) = look(tmp_path / "a.mp4"), look(tmp_path / "b.mkv")
    assert facts[4:6] == ("gbrp", 0)
    assert np.abs(hazy - clear).mean() < 2.5


def test_sound_of_an_unknown_codec_is_left_out_aloud(dehazer, tmp_path, caplog):
    make_film_of_the_future(tmp_path / "a.mkv", "sound")
    report = dehaze_video(dehazer, tmp_path / "a.mkv", tmp_path / "b.mkv")
    assert report.frames == 2
    assert re.findall("a.mkv: audio left out, whose codec FFmpeg does not know", caplog.text)
    with av.open(str(tmp_path / "b.mkv")) as film:
        assert not film.streams.audio


def test_an_interlaced_film_is_said_to_become_progressive(dehazer, tmp_path, caplog):
    for flags in ("+ilme+ildct", "0"):
        caplog.clear()
        options = {"flags": flags, "b:v": "1M"}
        make_film(
            tmp_path / "a.mkv", frames=1, sound=None, codec="mpeg2video", time_base=Fraction(1, 25), options=options
        )
        dehaze_video(dehazer, tmp_path / "a.mkv", tmp_path / "b.mkv")
        assert ("a.mkv is interlaced" in caplog.text) == (flags != "0")


def test_subtitles_and_chapters_are_kept(dehazer, tmp_path):
    make_film(tmp_path / "film.mkv", time_base=Fraction(1, 1000))
    (tmp_path / "words.srt").write_text("1\n00:00:00,040 --> 00:00:00,200\nFog everywhere.\n")
    chapters = [{"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "London"}}]
    with (
        av.open(str(tmp_path / "film.mkv")) as film,
        av.open(str(tmp_path / "words.srt")) as words,
        av.open(str(tmp_path / "both.mkv"), "w") as both,
    ):
        streams = {stream: both.add_stream_from_template(stream) for stream in (*film.streams, *words.streams)}
        both.set_chapters(chapters)
        for packet in (*film.demux(), *words.demux()):
            if packet.size:
                packet.stream = streams[packet.stream]
                both.mux(packet)
    dehaze_video(dehazer, tmp_path / "both.mkv", tmp_path / "clear.mkv")
    with av.open(str(tmp_path / "clear.mkv")) as clear:
        assert [chapter["metadata"] for chapter in clear.chapters()] == [{"title": "London"}]
        (packet,) = [packet for packet in clear.demux(subtitles=0) if packet.size]
        assert (bytes(packet), packet.pts) == (b"Fog everywhere.", 40)


def test_frames_are_dehazed_as_a_sequence(dehazer, tmp_path):
    lossless = {"codec": "ffv1", "pixels": "yuv444p", "sound": None, "time_base": Fraction(1, 1000)}
    make_film(tmp_path / "a.mkv", **lossless)
    seen = []
    report = dehaze_video(
        dehazer,
        tmp_path / "a.mkv",
        tmp_path / "b.mkv",
        Settings(codec="ffv1", strength=0.3),  # at 1 this model makes 30 of what reading in 8 bit changes
        progress=lambda *now: seen.append(now),
    )
    frames = [frame.astype(np.uint8) for frame in look(tmp_path / "a.mkv")[1]]
    expected = list(dehaze_frames(dehazer, frames, strength=0.3))
    for ours, theirs in zip(look(tmp_path / "b.mkv")[1], expected, strict=True):
        assert np.abs(ours - theirs).mean() < 1.5
    assert seen == [(count, 9) for count in range(1, 10)]
    assert (report.size, report.frames) == ((64, 48), 9)
    assert 0 < report.haze_score < 1


@pytest.mark.parametrize("turn", [-90, 90])
def test_the_dehazer_sees_frames_upright(dehazer, tmp_path, turn):
    """A film that is turned to be shown gives what the film stored upright gives."""
    make_film(tmp_path / "a.mov", rotation=turn, sound=None, frames=1)
    dehaze_video(dehazer, tmp_path / "a.mov", tmp_path / "b.mov", Settings(crf=1))
    quarters = 1 if turn == 90 else -1
    upright = np.rot90(look(tmp_path / "a.mov")[1][0].astype(np.uint8), quarters)
    expected = np.rot90(dehazer(np.ascontiguousarray(upright)), -quarters)
    sideways = dehazer(look(tmp_path / "a.mov")[1][0].astype(np.uint8))
    result = look(tmp_path / "b.mov")[1][0]
    assert np.abs(result - expected).mean() < np.abs(result - sideways).mean() / 1.1


@pytest.mark.parametrize("name", ["a.gif", "a.y4m"])
def test_animations_and_raw_films_are_videos(dehazer, tmp_path, name):
    with av.open(str(tmp_path / name), "w") as film:
        codec, pixels = ("gif", "rgb8") if name == "a.gif" else ("wrapped_avframe", "yuv420p")
        video = film.add_stream(codec, rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, pixels
        for index in range(4):
            film.mux(
                video.encode(av.VideoFrame.from_ndarray(SOURCE[:48, index : index + 64].copy()).reformat(format=pixels))
            )
        film.mux(video.encode(None))
    (job,) = plan_outputs([tmp_path / name])
    assert job.target.name == "a.dehazed.mkv"
    dehaze_video(dehazer, job.source, job.target)
    assert [fact[0] for fact in look(job.target)[0]] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_strip_drops_what_is_said_of_the_film(dehazer, tmp_path):
    make_film(tmp_path / "a.mp4", frames=2)
    dehaze_video(dehazer, tmp_path / "a.mp4", tmp_path / "b.mp4", Settings(writing=Writing(metadata=False)))
    with av.open(str(tmp_path / "b.mp4")) as film:
        assert not {"title", "com.example.lens"} & set(about(film))


def test_the_result_of_a_private_film_is_private(dehazer, tmp_path):
    make_film(tmp_path / "a.mp4", sound=None, frames=2)
    (tmp_path / "a.mp4").chmod(0o600)
    assert len(list(dehaze_files(dehazer, [Job(tmp_path / "a.mp4", tmp_path / "b.mp4")]))) == 1
    assert (tmp_path / "b.mp4").stat().st_mode & 0o777 == 0o600


def test_the_white_balance_is_of_pictures(dehazer, tmp_path):
    make_film(tmp_path / "a.mp4", frames=2)
    with pytest.raises(VideoError, match="white balance is of pictures only"):
        dehaze_video(dehazer, tmp_path / "a.mp4", tmp_path / "b.mp4", Settings(white_balance=True))
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.parametrize(
    ("codec", "name"), [("h264", "h264"), ("hevc", "hevc"), ("av1", "av1"), ("vp9", "vp9"), ("prores_ks", "prores")]
)
def test_codecs(dehazer, tmp_path, codec, name):
    make_film(tmp_path / "a.mp4", frames=2, sound=None)
    dehaze_video(dehazer, tmp_path / "a.mp4", tmp_path / "b.mkv", Settings(codec=codec))
    with av.open(str(tmp_path / "b.mkv")) as film:
        assert film.streams.video[0].codec_context.codec.canonical_name == name


def test_quality_can_be_chosen(dehazer, tmp_path):
    make_film(tmp_path / "a.mp4", sound=None)
    for crf in (10, 45):
        dehaze_video(dehazer, tmp_path / "a.mp4", tmp_path / f"{crf}.mp4", Settings(crf=crf))
    assert (tmp_path / "10.mp4").stat().st_size > 2 * (tmp_path / "45.mp4").stat().st_size


@pytest.mark.parametrize(
    ("name", "target", "codec", "message"),
    [
        ("text.mp4", "out.mp4", None, "cannot dehaze .*text.mp4"),
        ("missing.mp4", "out.mp4", None, "No such file"),
        ("sound.mkv", "out.mp4", None, "no video stream"),
        ("future.mkv", "out.mp4", None, "FFmpeg does not know the codec of its video"),
        ("film.mp4", "out.webm", None, "a webm file cannot hold audio as aac; write an .mkv file"),
        ("film.mp4", "out.mp4", "abacus", "abacus encodes no video; expected h264, hevc, av1, vp9 or a video encoder"),
        ("film.mp4", "out.mp4", "aac", "aac encodes no video; expected h264"),
        ("film.mp4", "out.webm", "hevc", "a webm file cannot hold hevc; write an .mkv file"),
        ("film.mp4", "film.mp4/out.mp4", None, "cannot dehaze"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(dehazer, tmp_path, name, target, codec, message):
    (tmp_path / "text.mp4").write_text("no video")
    make_film(tmp_path / "film.mp4", frames=2)
    make_film_of_the_future(tmp_path / "future.mkv", "video")
    with av.open(str(tmp_path / "sound.mkv"), "w") as film:
        play(film, film.add_stream("flac", rate=48_000))
    (tmp_path / "out.mp4").write_bytes(b"precious")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(VideoError, match=message):
        dehaze_video(dehazer, tmp_path / name, tmp_path / target, Settings(codec=codec))
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def test_damaged_parts_are_left_out_and_counted(dehazer, tmp_path):
    make_film(tmp_path / "a.mp4", frames=12, sound=None)
    with av.open(str(tmp_path / "a.mp4")) as film:
        middle = [packet for packet in film.demux(video=0) if packet.size][6]
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    data[middle.pos : middle.pos + 4] = b"\xff" * 4  # the length of what follows
    (tmp_path / "a.mp4").write_bytes(data)
    report = dehaze_video(dehazer, tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert report.damaged == 1
    assert report.frames == len(look(tmp_path / "b.mp4")[0]) == 11
    assert line(report).endswith("  1 damaged parts left out")


def test_pictures_and_videos_in_one_go(dehazer, tmp_path):
    make_film(tmp_path / "b.mp4", frames=2)
    (tmp_path / "c.mp4").write_text("no video")
    for name in ("a.png", "d.png"):
        Image.fromarray(SOURCE).save(tmp_path / name)
    jobs = plan_outputs([tmp_path / name for name in ("a.png", "b.mp4", "c.mp4", "d.png")], tmp_path / "out")
    results = list(dehaze_files(dehazer, jobs))
    assert [type(result) for result in results] == [FileReport, FileReport, FileFailure, FileReport]
    assert [result.frames for result in results if isinstance(result, FileReport)] == [1, 2, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.mp4", "d.png"]


def test_where_videos_go(tmp_path):
    inputs = [Path("a.mp4"), Path("b.AVI"), Path("c.ts")]
    names = [job.target.name for job in plan_outputs(inputs, tmp_path)]
    assert names == ["a.mp4", "b.mkv", "c.mkv"]
    assert plan_outputs([Path("b.avi")]) == [Job(Path("b.avi"), Path("b.dehazed.mkv"))]
    with pytest.raises(ConfigError, match=r"cannot write video to .*b\.avi: expected one of \.m4v, "):
        plan_outputs([Path("a.mp4")], tmp_path / "b.avi")
    with pytest.raises(ConfigError, match=r"a\.mp4 is a video, and maps"):
        plan_outputs([Path("a.mp4")], tmp_path / "b.mp4", maps=True)


def test_a_folder_stands_for_its_pictures_only(tmp_path):
    make_film(tmp_path / "b.mp4", frames=1, sound=None)
    Image.fromarray(SOURCE).save(tmp_path / "a.png")
    assert [job.source.name for job in plan_outputs([tmp_path])] == ["a.png"]


def test_without_pyav_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "difflid.inference.video")
    with pytest.raises(MissingExtra, match=r"video needs .*: pip install 'difflid\[video\]'"):
        import difflid.inference.video  # noqa: F401


def test_the_command_line(dehazer, tmp_path):
    dehazer.save_pretrained(tmp_path / "model")
    make_film(tmp_path / "a.mp4", frames=3)
    words = ["dehaze", str(tmp_path / "a.mp4"), "--model", str(tmp_path / "model"), "--device", "cpu"]
    result = CliRunner().invoke(
        main, [*words, "--smoothing", "0", "--codec", "hevc", "--crf", "30", "--strength", "0.5"]
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.match(r".*a\.mp4  64x48  3 frames  .*haze \(0\.\d\d\)  .* s per frame\)\n$", result.stdout)
    with av.open(str(tmp_path / "a.dehazed.mp4")) as film:
        assert film.streams.video[0].codec_context.codec.canonical_name == "hevc"
        assert film.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("expected", [8, None])
def test_a_bar_counts_the_frames(monkeypatch, expected):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    with Reports(1, file=terminal) as reports:
        reports.count_frames(1, expected)
        assert f"0/{expected or '?'} frames |" in terminal.getvalue()
        reports.tell([FileReport("a.mp4", (3, 2), 0.5, 1.0, frames=8)])


# steadiness


def noisy(picture, count):
    rng = np.random.default_rng(0)
    frames = (picture + rng.normal(0, 12, picture.shape) for _ in range(count))
    return [np.clip(frame, 0, 255).astype(np.uint8) for frame in frames]


def test_no_smoothing_is_every_frame_for_itself(dehazer):
    frames = noisy(SOURCE, 3)
    for ours, frame in zip(dehaze_frames(dehazer, frames, smoothing=0), frames, strict=True):
        np.testing.assert_array_equal(ours, dehazer(frame))


def seen_over_time(dehazer, frames, smoothing):
    """How thick the haze of one picture is found, seen as each frame is."""
    steady, still = Steady(dehazer, smoothing=smoothing), to_tensor(SOURCE)
    seen = [steady.see(to_tensor(frame), index / 25) for index, frame in enumerate(frames)]
    return torch.cat([dehazer.restore(still, condition).haze_score for _, condition in seen])


def to_tensor(frame):
    return torch.from_numpy(frame.copy()).permute(2, 0, 1)[None] / 255


def test_what_is_seen_of_a_still_scene_changes_less(dehazer):
    frames = noisy(SOURCE, 20)
    alone, smooth = (seen_over_time(dehazer, frames, smoothing).diff().std() for smoothing in (0, 0.5))
    assert smooth < alone / 3


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_fade_is_seen_as_its_frames_are(dehazer, monkeypatch, end):
    """What was seen in the dark is out of date when the light comes, and the other way round."""
    frames = [to_tensor(SOURCE) * abs(1 - end - min(1.0, index / 20)) for index in range(22)]
    alone, off = dehazer.encode(frames[-1]), []
    for fade in (0.04, 1e9):
        monkeypatch.setattr(difflid.inference.steady, "_FADE", fade)
        steady = Steady(dehazer)
        for index, frame in enumerate(frames):
            _, condition = steady.see(frame, index / 25)
        off.append((condition.airlight - alone.airlight).abs().mean())
    assert off[0] < off[1] / 3


class Bright:
    """A dehazer that takes what is bright for haze."""

    @staticmethod
    def encode(frame):
        haze = F.adaptive_avg_pool2d(frame.mean(dim=1, keepdim=True), 32)
        return Condition((), (), haze, torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1))


def off_after_a_pan(columns):
    """How far what is seen after a pan is from what the last frame alone shows, in some columns of the map."""
    scene = F.interpolate(torch.rand(1, 3, 12, 60), size=(96, 480), mode="bicubic").clamp(0, 1)
    steady = Steady(Bright())
    for index in range(20):
        frame = scene[..., 2 * index : 2 * index + 320]
        _, condition = steady.see(frame, index / 25)
    return (condition.haze - Bright.encode(frame).haze)[..., columns].abs().mean()


@pytest.mark.parametrize(
    ("without", "instead", "columns", "times"),
    [
        ("moved", lambda maps, _: maps, slice(4, -4), 3),  # what is known goes with the scene
        ("in_sight", lambda *_: torch.ones(()), slice(-4, None), 2),  # what comes into sight was not known
    ],
)
def test_what_was_seen_goes_with_the_camera(monkeypatch, without, instead, columns, times):
    follows = off_after_a_pan(columns)
    torch.manual_seed(0)
    monkeypatch.setattr(difflid.inference.steady, without, instead)
    assert follows < off_after_a_pan(columns) / times


def test_a_cut_forgets_the_scene_before(dehazer):
    other = chelsea()[:48, :160]
    frames = [*noisy(SOURCE, 5), *noisy(other, 2)]
    results = list(dehaze_frames(dehazer, frames))
    np.testing.assert_array_equal(results[5], dehazer(frames[5]))
    assert not np.array_equal(results[6], dehazer(frames[6]))


def test_after_a_long_time_the_scene_is_seen_anew(dehazer):
    first, second = (torch.rand(1, 3, 16, 16) * 0.05 + 0.5 for _ in range(2))
    alone = dehazer.restore(second, dehazer.encode(second)).clear
    for pause, same in ((60.0, True), (0.04, False), (-1.0, True)):
        steady = Steady(dehazer)
        steady.restore(first, 0.0)
        assert torch.equal(steady.restore(second, pause).clear, alone) == same


@pytest.mark.parametrize("command", ["dehaze", "live"])
def test_commands_smooth_as_the_library_does(command):
    assert {option.name: option.default for option in main.get_command(None, command).params}["smoothing"] == SMOOTHING


@pytest.mark.parametrize("smoothing", [-1, float("nan"), float("inf")])
def test_illegal_smoothing_is_refused(dehazer, smoothing):
    with pytest.raises(ValueError, match="0 or more seconds, got"):
        Steady(dehazer, smoothing=smoothing)


@pytest.mark.parametrize("kind", ["array", "grey", "tensor", "picture"])
def test_frames_come_back_as_they_came(dehazer, kind):
    frame = {
        "array": SOURCE,
        "grey": SOURCE[..., 0].astype(np.uint16) * 257,
        "tensor": torch.from_numpy(SOURCE.copy()).permute(2, 0, 1),
        "picture": Image.fromarray(SOURCE),
    }[kind]
    (result,) = dehaze_frames(dehazer, [frame])
    assert type(result) is type(frame)
    assert np.asarray(result).shape == np.asarray(frame).shape
    assert np.asarray(result).dtype == np.asarray(frame).dtype


@pytest.mark.parametrize("strength", [0, 1])
def test_frames_keep_what_is_beyond_srgb(dehazer, strength):
    frame = Image.fromarray(np.full((32, 32, 3), (250, 20, 20), np.uint8))
    frame.info["icc_profile"] = P3
    (result,) = dehaze_frames(dehazer, [frame], strength=strength)
    assert np.asarray(result)[..., 1:].max() <= 20  # cut off, green would be 51
