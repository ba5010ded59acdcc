"""Damage encoded pictures in every format, read them and write them again, in bounded time and memory.

Each must be a picture, which can be written in every format that has its mode, or an ImageError.

python scripts/fuzz_decode.py [--count 5000] [--seed 0] [--keep FOLDER]

Exit code 1 when a file crashed the process, hung, raised anything else, or took too much memory; its name says how to
make it again, and --keep writes it. The limits are those of one small file, whatever size it claims to have.
"""

import argparse
import io
import logging
import multiprocessing
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from difflid import image
from difflid.errors import DifflidError
from difflid.image import Writing

SECONDS = 20  # for one file
MEMORY = 3 << 30  # bytes of address space beyond what the process starts with
LARGE = 2000  # rows of a picture that is not written
CHUNK = 100  # files per process
DEPTHS = (np.uint8, np.uint16, np.float32)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files that failed")
    arguments = parser.parse_args()
    sources = list(pictures())
    failed = 0
    for start in range(0, arguments.count, CHUNK):
        numbers = range(start, min(start + CHUNK, arguments.count))
        for number, reason in attempt(sources, arguments.seed, numbers):
            name, data = damaged(sources, arguments.seed, number)
            print(f"seed {arguments.seed} number {number} ({name}): {reason}")
            failed += 1
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{arguments.seed}-{number}-{name}").write_bytes(data)
    print(f"{arguments.count} damaged files of {len(sources)} kinds: {failed} failed")
    sys.exit(failed > 0)


def pictures() -> Iterator[tuple[str, bytes]]:
    """One small picture of each kind that can be written, with all metadata, and some that only Pillow writes."""
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8825] = "maker", 6, {1: "N"}
    described = {
        "exif": exif.tobytes().removeprefix(b"Exif\0\0"),
        "xmp": b"<x tiff:Orientation='6'/>",
        "icc": bytes(200),
    }
    for format in ("AVIF", "BMP", "HEIF", "JPEG", "PNG", "TIFF", "WEBP"):
        for mode, channels in (("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4), ("CMYK", 4)):
            for dtype in DEPTHS if format in ("PNG", "TIFF") else DEPTHS[:1]:
                values = random.random((17, 23, channels)) * (1 if dtype == np.float32 else np.iinfo(dtype).max)
                picture = image.from_samples(values.astype(dtype), mode, **described)
                try:
                    yield f"{mode}-{np.dtype(dtype)}.{format.lower()}", image.encode(picture, format, Writing())
                except DifflidError:
                    continue  # a mode that the format does not have
    for name, options in (("palette.png", {}), ("lzw.tiff", {"compression": "tiff_lzw"}), ("gray.jpeg", {})):
        file = io.BytesIO()
        palette = Image.fromarray(random.integers(0, 255, (17, 23, 3), np.uint8)).quantize(16)
        picture = palette if name.startswith("palette") else palette.convert("RGB")
        picture.save(file, name.rpartition(".")[2], progressive=True, **options)
        yield name, file.getvalue()


def damaged(sources: list[tuple[str, bytes]], seed: int, number: int) -> tuple[str, bytes]:
    """Damage one of the pictures in one to eight places; a function of seed and number."""
    random = np.random.default_rng([seed, number])
    name, data = sources[number % len(sources)]
    damage = (flip, overwrite, cut, remove, repeat)
    for _ in range(random.integers(1, 9)):
        data = damage[random.integers(len(damage))](data, random) or data
    return name, data


def flip(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    changed[place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def overwrite(data: bytes, random: np.random.Generator) -> bytes:
    """Put an extreme number where one may stand."""
    start, value = place(data, random), int(random.choice(EXTREMES))
    number = value.to_bytes(4, "big" if random.integers(2) else "little")[: int(random.choice([1, 2, 4]))]
    return data[:start] + number + data[start + len(number) :]


def cut(data: bytes, random: np.random.Generator) -> bytes:
    return data[: place(data, random)] if random.random() < 0.2 else data


def remove(data: bytes, random: np.random.Generator) -> bytes:
    start = place(data, random)
    return data[:start] + data[start + int(random.integers(1, 20)) :]


def repeat(data: bytes, random: np.random.Generator) -> bytes:
    start = place(data, random)
    return data[:start] + data[start : start + int(random.integers(1, 60))] + data[start:]


def place(data: bytes, random: np.random.Generator) -> int:
    """Anywhere, but half of the time in the first 200 bytes, where the structure is."""
    return int(random.integers(min(len(data), 200) if random.integers(2) else len(data)))


def attempt(sources: list[tuple[str, bytes]], seed: int, numbers: range) -> Iterator[tuple[int, str]]:
    """Read damaged files in a process of their own, and in a further one after each that ended it."""
    context = multiprocessing.get_context("fork")
    start = numbers.start
    while start < numbers.stop:
        answers, end = context.Pipe(duplex=False)
        worker = context.Process(target=read_all, args=(sources, seed, range(start, numbers.stop), end))
        worker.start()
        end.close()
        try:
            while True:
                start, reason = answers.recv()
                if reason:
                    yield start, reason
                start += 1
        except EOFError:
            worker.join()
        if worker.exitcode:
            name = signal.Signals(-worker.exitcode).name if worker.exitcode < 0 else worker.exitcode
            yield start, f"hung for {SECONDS} s" if worker.exitcode == -signal.SIGALRM else f"ended the process: {name}"
            start += 1


def read_all(sources: list[tuple[str, bytes]], seed: int, numbers: range, end) -> None:  # type: ignore[no-untyped-def]
    warnings.simplefilter("ignore")
    logging.disable()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    for number in numbers:
        signal.alarm(SECONDS)  # without a handler it ends the process, also inside a library
        end.send((number, read(damaged(sources, seed, number)[1])))
        signal.alarm(0)


def read(data: bytes) -> str:
    """Return what is wrong with how ``data`` was read; nothing when it is a picture or an ImageError."""
    try:
        picture = image.load(data)
    except DifflidError as error:
        return "out of memory" if isinstance(error.__cause__, MemoryError) else ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if picture.pixels.shape != (*picture.size[::-1], 3):
        return "another size than it says"
    return "" if len(picture.samples) > LARGE else write(picture)


def write(picture: image.Picture) -> str:
    """Return what is wrong with how ``picture`` was written."""
    for format in ("AVIF", "JPEG", "PNG", "TIFF", "WEBP"):
        try:
            image.encode(picture, format)
        except DifflidError:
            continue
        except Exception as error:
            return f"writing {format}: {type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main()
