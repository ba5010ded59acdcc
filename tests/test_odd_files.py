"""Odd files of every kind through the folder command: each comes out as it should, or is refused for a reason."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import tifffile
from click.testing import CliRunner, Result
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from skimage.data import astronaut
from tiny import tiny_dehazer

from difflid import image
from difflid.cli import main

PHOTO = Image.fromarray(astronaut()[100:116, 200:224])
DEEP = np.asarray(PHOTO).astype(np.uint16) * 257
UNIT = (np.asarray(PHOTO) / 255).astype(np.float32)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:creator="A. B."/></x:xmpmeta>'
LOSSY = {".jpg": 20, ".webp": 20, ".avif": 20, ".heic": 8}  # how far a sample may be off, of 255
LOSSLESS = 0.0


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x010F], block[0x0112] = "maker", orientation
    block[0x8769] = {0x927C: b"maker note", 0x9003: "2024:01:02 03:04:05"}
    block[0x8825] = {1: "N", 2: (48.0, 12.0, 3.5)}
    described = Image.Exif()
    described.load(block.tobytes())  # as read from a file, which TIFF needs
    return described


def saved(picture: Image.Image, **options: object) -> Callable[[Path], None]:
    return lambda path: picture.save(path, **options)


def tiff(samples: np.ndarray, photometric: str = "rgb", **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, samples, photometric=photometric, **options)


def written(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def deep_png() -> bytes:
    return image.encode(image.from_samples(DEEP, "RGB", icc=ICC), "PNG")


def modes() -> Iterator[tuple[str, Callable[[Path], object]]]:
    for mode, suffixes in {
        "1": "png tif bmp",
        "L": "jpg png tif webp bmp avif heic",
        "LA": "png tif webp avif heic",
        "P": "png tif bmp webp",
        "RGB": "jpg png tif webp bmp avif heic",
        "RGBA": "png tif webp avif heic",
        "CMYK": "jpg tif",
        "I;16": "png tif",
    }.items():
        picture = Image.fromarray(DEEP[..., 1]) if mode == "I;16" else PHOTO.convert(mode)
        for suffix in suffixes.split():
            yield f"mode-{mode.replace(';', '')}.{suffix}", saved(picture)


def described() -> Iterator[tuple[str, Callable[[Path], object]]]:
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", XMP)
    for orientation in (1, 3, 6, 8):
        for suffix in ("jpg", "png", "webp", "avif", "heic", "tif"):
            carried = {"pnginfo": xmp} if suffix == "png" else {} if suffix == "tif" else {"xmp": XMP}
            options = {"exif": exif(orientation), "icc_profile": ICC} | carried
            yield f"turned-{orientation}.{suffix}", saved(PHOTO, **options)


GOOD: dict[str, Callable[[Path], object]] = dict(
    [
        *modes(),
        *described(),
        ("progressive.jpg", saved(PHOTO, progressive=True, quality=95)),
        ("420.jpg", saved(PHOTO, subsampling=2, quality=95)),
        ("lossless.webp", saved(PHOTO, lossless=True)),
        ("palette-2.png", saved(PHOTO.quantize(2), bits=1)),
        ("palette-key.png", saved(PHOTO.quantize(8), transparency=3)),
        ("damaged-profile.jpg", saved(PHOTO, icc_profile=b"x" * 300)),
        ("grey-profile.jpg", saved(PHOTO.convert("L"), icc_profile=ICC)),
        ("no-such-orientation.jpg", saved(PHOTO, exif=exif(9))),
        ("1x1.png", saved(PHOTO.resize((1, 1)))),
        ("1x1.jpg", saved(PHOTO.resize((1, 1)))),
        ("1x1.avif", saved(PHOTO.resize((1, 1)))),
        ("strip.png", saved(PHOTO.resize((3000, 2)))),
        ("png-in-disguise.jpg", written(encoded(PHOTO, "PNG"))),
        ("deep.png", written(deep_png())),
        ("lzw.tif", saved(PHOTO, compression="tiff_lzw")),
        ("jpeg.tif", saved(PHOTO, compression="jpeg")),
        ("fax.tif", saved(PHOTO.convert("1"), compression="group4")),
        ("planes.tif", tiff(np.moveaxis(np.asarray(PHOTO), -1, 0), planarconfig="separate")),
        ("deep.tif", tiff(DEEP, iccprofile=ICC)),
        ("deep-planes.tif", tiff(np.moveaxis(DEEP, -1, 0), planarconfig="separate")),
        ("deep-tiles.tif", tiff(DEEP, tile=(16, 16))),
        ("deep-strips.tif", tiff(DEEP, rowsperstrip=5, byteorder=">")),
        ("deep-zip.tif", tiff(DEEP, compression="zlib", predictor=True)),
        ("deep-alpha.tif", tiff(DEEP[..., :2], "minisblack", planarconfig="contig", extrasamples=["unassalpha"])),
        ("big.tif", tiff(DEEP, bigtiff=True)),
        ("white-is-zero.tif", tiff(np.asarray(PHOTO.convert("L")), "miniswhite")),
        ("float.tif", tiff(UNIT)),
        ("float-big-endian.tif", tiff(UNIT, byteorder=">")),
        ("half.tif", tiff(UNIT.astype(np.float16), compression="zlib")),
        ("double-grey.tif", tiff(UNIT[..., 0].astype(np.float64), "minisblack")),
    ]
)
BAD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty.jpg": ("it is empty", written(b"")),
    "text.jpg": ("not a picture of a kind that is read", written(b"hello")),
    "gif-in-disguise.png": ("not a picture of a kind that is read", written(encoded(PHOTO, "GIF"))),
    "cut.jpg": ("damaged", written(encoded(PHOTO, "JPEG")[:600])),
    "cut.png": ("damaged", written(encoded(PHOTO, "PNG")[:600])),
    "cut.tif": ("damaged", written(encoded(PHOTO, "TIFF")[:700])),
    "cut.heic": ("damaged", written(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")),
    "no-raw.dng": ("not a raw file", written(encoded(PHOTO, "JPEG"))),
    "animation.webp": ("it holds 2 pictures", saved(PHOTO, save_all=True, append_images=[PHOTO.rotate(90)])),
    "pages.tif": ("it holds 2 pictures", tiff(np.stack([np.asarray(PHOTO)] * 2))),
    "lab.tif": (
        "mode LAB is not supported",
        tiff(np.asarray(PHOTO), "cielab"),
    ),
    "infrared.tif": (
        "one or more of its 4 channels are neither colour nor alpha",
        tiff(np.asarray(PHOTO.convert("RGBA")), extrasamples=["unspecified"]),
    ),
    "32-bit.tif": ("not a TIFF of a kind that is read", tiff(DEEP.astype(np.uint32))),
    "deep-inks.tif": ("not supported", tiff(np.dstack([DEEP, DEEP[..., :1]]), "separated")),
    "bright-float.tif": (r"must lie in \[0, 1\]", tiff(UNIT * 17)),
    "folder.jpg": ("it is a folder", Path.mkdir),
    "gone.jpg": ("no such file", lambda path: path.symlink_to("nowhere")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pillow_heif.register_heif_opener()
    folder = tmp_path_factory.mktemp("odd")
    (folder / "in").mkdir()
    for name, make in [*GOOD.items(), *((name, make) for name, (_, make) in BAD.items())]:
        make(folder / "in" / name)
    tiny_dehazer().save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    options = ["--model", str(folder / "model"), "--device", "cpu", "--strength", "0"]
    return CliRunner().invoke(main, ["dehaze", str(folder / "in"), "-o", str(folder / "out"), *options])


def test_every_file_is_worked_at_or_refused(folder: Path, result: Result) -> None:
    assert len(GOOD) > 50
    assert result.exit_code == 1
    assert {path.name for path in (folder / "out").iterdir()} == set(GOOD)
    assert len(result.stdout.splitlines()) == len(GOOD)
    assert f"difflid: {len(GOOD)} dehazed, {len(BAD)} failed in " in result.stderr


@pytest.mark.parametrize("name", BAD)
def test_the_reason_is_said(name: str, result: Result) -> None:
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("  failed: ") and f"/{name}: " in line)
    assert re.search(BAD[name][0], line), line


@pytest.mark.usefixtures("result")
@pytest.mark.parametrize("name", GOOD)
def test_strength_zero_gives_the_picture_with_its_depth_profile_and_metadata(name: str, folder: Path) -> None:
    before, after = Seen(folder / "in" / name), Seen(folder / "out" / name)
    assert (after.samples.shape, after.samples.dtype) == (before.samples.shape, before.samples.dtype)
    most = 255 if before.samples.dtype == np.uint8 else 1
    off = np.abs(after.samples.astype(float) - before.samples).max() / most * 255
    lossless = name == "lossless.webp"
    assert off <= (LOSSLESS if lossless else LOSSY.get(Path(name).suffix, LOSSLESS))
    assert (after.icc, after.xmp) == (before.icc, before.xmp)
    assert after.exif == before.exif


class Seen:
    """What other libraries see in a file, turned upright."""

    def __init__(self, path: Path) -> None:
        self.icc, self.xmp, self.exif = None, None, b""
        try:
            with Image.open(path) as picture:
                picture.load()
                self._read(picture)
        except Image.UnidentifiedImageError:
            self.samples = tifffile.imread(path)
        if (path.suffix == ".tif" and self.samples.dtype != np.uint8) or path.name.startswith("deep"):
            self.samples = deep(path)

    def _read(self, picture: Image.Image) -> None:
        self.icc, self.xmp = picture.info.get("icc_profile"), picture.info.get("xmp")
        upright = ImageOps.exif_transpose(picture)
        if picture.mode == "1":
            upright = upright.convert("L")
        elif picture.mode == "P":
            upright = upright.convert("RGBA" if picture.has_transparency_data else "RGB")
        self.samples = np.asarray(upright)
        tags = picture.getexif()
        tags.pop(0x0112, None)
        kept = {0x010F: tags.get(0x010F), **tags.get_ifd(0x8769), **tags.get_ifd(0x8825)}
        self.exif = repr(kept).encode()


def deep(path: Path) -> np.ndarray:
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            samples = page.asarray()
            return np.moveaxis(samples, 0, -1) if page.planarconfig == 2 and samples.ndim == 3 else samples
    return image.load(path).samples


@pytest.mark.usefixtures("result")
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "heic"])
def test_exif_bytes_are_equal_but_for_the_orientation(suffix: str, folder: Path) -> None:
    for orientation in (1, 3, 6, 8):
        blocks = []
        for side in ("in", "out"):
            with Image.open(folder / side / f"turned-{orientation}.{suffix}") as picture:
                blocks.append(picture.info["exif"].removeprefix(b"Exif\0\0"))
        assert len(blocks[0]) == len(blocks[1]) > 100
        differences = sum(a != b for a, b in zip(*blocks, strict=True))
        assert differences == (0 if orientation == 1 or suffix == "heic" else 1)
