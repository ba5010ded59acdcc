"""Flicker, sound, duration and seconds per frame of dehazing a film made from one hazy photograph.

A crop of the photograph stands still or moves, by whole pixels ("pan"), half a pixel more ("between") or a quarter more
("quarter"), and has sensor noise and a tone. Flicker is how much a frame differs from the mean of the frames before and
after it at the same place of the scene, divided by sqrt(1.5), so that independent noise gives its standard deviation;
steady change and the motion itself do not count. Of three signals: the mean of what the three frames share ("mean"),
the means of its 16 x 16 squares ("squares"), and its pixels, all in 255ths. Compared are frames between which the scene
has moved by whole pixels: of "between" every second, of "quarter" every fourth. Removing haze stretches contrast, and
noise with it: "per contrast" is the ratio of the flickers divided by that of the contrasts (standard deviations over
the frame). Films are written without loss, so that codecs play no part.

python scripts/benchmark_video.py hazy.jpg [--height 720] [--seconds 10] [--threads 2] [--smoothing 0.5] [--detail auto]
                                  [--scenes still pan between quarter] [--keep FOLDER]
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from difflid import Dehazer
from difflid.inference import FileReport, Settings
from difflid.inference.video import dehaze_video

RATE = 25  # frames per second
SOUND_RATE = 48_000
SQUARE = 16  # pixels
SPEEDS = {"still": 0.0, "pan": 0.0025, "between": 0.0025, "quarter": 0.0025}  # widths of the frame per frame
PARTS = {"between": Fraction(1, 2), "quarter": Fraction(1, 4)}  # of a pixel per frame more


@dataclass(frozen=True)
class Flicker:
    """See the module."""

    mean: float
    squares: float
    pixels: float
    contrast: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--height", type=int, default=720, help="the frames are 16:9")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--noise", type=float, default=4, help="standard deviation in 255ths")
    parser.add_argument("--smoothing", type=float, default=Settings().smoothing)
    parser.add_argument("--detail", default=Settings().detail)
    parser.add_argument("--scenes", nargs="+", choices=SPEEDS, default=list(SPEEDS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="leave the films here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dehazer = Dehazer.from_pretrained(arguments.model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(smoothing=arguments.smoothing, detail=arguments.detail, crf=0)
        for scene in arguments.scenes:
            hazy, clear = folder / f"{scene}.mp4", folder / f"{scene}.dehazed.mp4"
            step = round(SPEEDS[scene] * even(arguments.height * 16 / 9)) + PARTS.get(scene, Fraction())
            make_film(arguments, step, hazy)
            start = time.process_time()
            report = dehaze_video(dehazer, hazy, clear, settings)
            describe(scene, report, time.process_time() - start, hazy, clear, step)


def describe(scene: str, report: FileReport, work: float, hazy: Path, clear: Path, step: Fraction) -> None:
    before, after = (measured(path, step) for path in (hazy, clear))
    gain = after.contrast / before.contrast
    size, pace = "x".join(map(str, report.size)), report.seconds / report.frames
    print(f"{scene}: {size}, {report.frames} frames, {pace:.2f} s each ({work / report.frames:.2f} s of a processor)")
    print(f"  contrast x {gain:.2f}")
    for name in ("mean", "squares", "pixels"):
        old, new = getattr(before, name), getattr(after, name)
        print(
            f"  flicker of the {name}: {old:.4f} -> {new:.4f}, x {new / old:.2f}, per contrast x {new / old / gain:.2f}"
        )
    print(f"  sound {'intact' if sound(hazy) == sound(clear) else 'CHANGED'}, ", end="")
    print(f"time-stamps {'equal' if times(hazy) == times(clear) else 'DIFFER'}")


def make_film(arguments: argparse.Namespace, step: Fraction, path: Path) -> None:
    fine = step.denominator  # pixels of the scene per pixel
    count = round(arguments.seconds * RATE)
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=RATE, options={"crf": "0", "preset": "veryfast"})
        tone = film.add_stream("aac", rate=SOUND_RATE)
        video.width, video.height, video.pix_fmt = even(arguments.height * 16 / 9), arguments.height, "yuv420p"
        scene = enlarged(arguments.photo, fine * math.ceil(video.width + step * count), fine * video.height)
        for index in range(count):
            left = int(fine * step * index)
            crop = shrunk(scene[: fine * video.height, left : left + fine * video.width], fine)
            noisy = np.rint(crop + rng.normal(0, arguments.noise, crop.shape)).clip(0, 255).astype(np.uint8)
            film.mux(video.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        film.mux(video.encode(None))
        wave = np.sin(2 * np.pi * 440 / SOUND_RATE * np.arange(count * SOUND_RATE // RATE))
        frame = av.AudioFrame.from_ndarray((wave * 10_000).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = SOUND_RATE
        film.mux(tone.encode(frame))
        film.mux(tone.encode(None))


def shrunk(picture: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    return picture.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))


def even(size: float) -> int:
    return 2 * round(size / 2)


def enlarged(photo: Path, width: int, height: int) -> NDArray[np.float32]:
    with Image.open(photo) as image:
        scale = max(width / image.width, height / image.height)
        size = math.ceil(image.width * scale), math.ceil(image.height * scale)
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), np.float32)


def frames(path: Path) -> Iterator[NDArray[np.float32]]:
    with av.open(str(path)) as film:
        for frame in film.decode(film.streams.video[0]):
            yield frame.to_ndarray(format="rgb24").astype(np.float32)


def measured(path: Path, step: Fraction) -> Flicker:
    every = step.denominator
    return flicker(islice(frames(path), 0, None, every), int(step * every))


def flicker(film: Iterable[NDArray[np.float32]], step: int) -> Flicker:
    changes: list[tuple[float, ...]] = []
    contrasts, window = [], []
    for frame in film:
        contrasts.append(frame.std())
        window = [*window[-2:], frame]
        if len(window) == 3:
            width = frame.shape[1] - 2 * step
            before, now, after = (
                each[:, start : start + width] for each, start in zip(window, (2 * step, step, 0), strict=True)
            )
            change = now - (before + after) / 2
            signals = change.mean(axis=(0, 1)), block_means(change), change
            changes.append(tuple(float(np.square(signal).mean()) for signal in signals))
    return Flicker(*np.sqrt(np.mean(changes, axis=0) / 1.5).tolist(), contrast=float(np.mean(contrasts)))


def block_means(values: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = values.shape[0] // SQUARE, values.shape[1] // SQUARE
    blocks = values[: rows * SQUARE, : columns * SQUARE].reshape(rows, SQUARE, columns, SQUARE, 3)
    return blocks.mean(axis=(1, 3))


def sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as film:
        return [bytes(packet) for packet in film.demux(film.streams.audio[0])]


def times(path: Path) -> list[tuple[Fraction | None, float]]:
    with av.open(str(path)) as film:
        return [(frame.pts * frame.time_base, frame.duration) for frame in film.decode(film.streams.video[0])]


if __name__ == "__main__":
    main()
