"""Wide gamuts, floats, HEIC, AVIF and camera raw; quality and subsampling."""

import io
import struct
import sys

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin
from skimage.data import astronaut
from tiny import tiny_dehazer

from difflid import image
from difflid.errors import ImageError, MissingExtra
from difflid.image import Writing
from difflid.image.colour import colour_space
from difflid.image.metadata import raw_tags

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF_MARK = b"Exif\0\0"
P3_COLUMNS = ((0.515102, 0.241182, -0.001049), (0.291965, 0.692236, 0.041882), (0.157153, 0.066581, 0.784378))
ADOBE_COLUMNS = ((0.609741, 0.311111, 0.019470), (0.205276, 0.625671, 0.060867), (0.149185, 0.063217, 0.744568))


def fixed(*values):
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


SRGB_CURVE = b"para" + struct.pack(">IHH", 0, 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
GAMMA_2_2 = b"curv" + struct.pack(">IIH", 0, 1, 563)
STEPS = np.rint(np.linspace(0, 1, 1024) ** 2.2 * 65535).astype(">u2")
TABLE = b"curv" + struct.pack(">II", 0, len(STEPS)) + STEPS.tobytes()


def profile(columns, curve):
    """The least profile that colour management reads: three columns and one curve."""
    bodies = {b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78), b"cprt": b"text" + bytes(5)}
    bodies |= {b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249)}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True):
        bodies[name] = b"XYZ " + bytes(4) + fixed(*column)
    bodies |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, data, start = b"", b"", 132 + 12 * len(bodies)
    for name, body in bodies.items():
        table += struct.pack(">4sII", name, start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x04300000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(28) + fixed(0.9642, 1.0, 0.8249) + bytes(48)
    return header + struct.pack(">I", len(bodies)) + table + data


P3, ADOBE = profile(P3_COLUMNS, SRGB_CURVE), profile(ADOBE_COLUMNS, GAMMA_2_2)
PROFILES = {"P3": P3, "Adobe RGB": ADOBE, "a table": profile(P3_COLUMNS, TABLE)}


def read_exif(picture):
    tags = Image.Exif()
    tags.load(picture.exif)
    return tags


def photo(width=96, height=64):
    return Image.fromarray(astronaut()[100 : 100 + height, 200 : 200 + width])


def converted(picture, source, target):
    """Convert as littlecms does."""
    profiles = (ImageCms.ImageCmsProfile(io.BytesIO(icc)) for icc in (source, target))
    return ImageCms.profileToProfile(picture, *profiles, renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)


def encoded(picture, format, **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


# colours


@pytest.mark.parametrize("name", PROFILES)
def test_a_wide_gamut_is_seen_as_colour_management_sees_it(name):
    wide = converted(photo(), SRGB, PROFILES[name])
    picture = image.load(encoded(wide, "PNG", icc_profile=PROFILES[name]))
    expected = np.asarray(converted(wide, PROFILES[name], SRGB)) / 255
    np.testing.assert_allclose(picture.pixels, expected, atol=2.5 / 255)
    assert np.abs(picture.samples / 255 - expected).max() > 10 / 255


@pytest.mark.parametrize("name", PROFILES)
def test_a_wide_gamut_comes_back_as_it_was(name):
    samples = np.random.default_rng(0).integers(0, 65536, (40, 30, 3), np.uint16)
    samples[0, :3] = np.eye(3) * 65535  # the corners, which sRGB does not reach
    picture = image.from_samples(samples, "RGB", icc=PROFILES[name])
    assert picture.colours()[0, :3].min() < 0
    again = image.replace_pixels(picture, picture.colours())
    np.testing.assert_allclose(again.samples.astype(int), samples, atol=257 if name == "a table" else 10)


def test_a_wide_gamut_is_dehazed_to_what_its_srgb_twin_is():
    dehazer = tiny_dehazer()
    dehazer.network.coarse_haze.bias.data.fill_(6.0)  # dense
    twin = image.load(photo())
    deep = image.from_samples(twin.samples.astype(np.uint16) * 257, "RGB")
    wide = image.from_samples(colour_space(P3).from_srgb(deep.pixels).astype(np.float32), "RGB", icc=P3)
    results = [dehazer.dehaze(picture, strength=0.04).picture.colours() for picture in (deep, wide)]
    inside = ((results[1] > 0) & (results[1] < 1)).all(axis=-1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(results[0][inside], results[1][inside], atol=0.5 / 255)
    assert np.abs(results[0] - deep.pixels).max() > 0.05


def test_colours_beyond_srgb_are_not_cut_off():
    samples = np.zeros((32, 32, 3), np.uint16)
    samples[..., 1] = np.linspace(0.8, 0.99, 32) * 65535  # greens that sRGB does not have
    dehazed = tiny_dehazer().dehaze(image.from_samples(samples, "RGB", icc=P3), strength=0.05)
    assert len(np.unique(dehazed.picture.samples[..., 1])) > 20


@pytest.mark.parametrize("icc", [SRGB, b"", b"nonsense", P3[:200], profile(((0, 0, 0),) * 3, SRGB_CURVE)])
def test_srgb_and_what_cannot_be_read_are_taken_as_they_are(icc):
    assert colour_space(icc) is None


# floats


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_grey_float_tiff_becomes_a_float_pil_image(dtype, tmp_path):
    grey = np.linspace(0, 1, 60, dtype=dtype).reshape(6, 10)
    tifffile.imwrite(tmp_path / "a.tif", grey)
    picture, finish = image.open_picture(tmp_path / "a.tif")
    np.testing.assert_allclose(np.asarray(finish(picture)), grey, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_float_tiff_keeps_its_floats(channels, dtype, tmp_path):
    samples = np.random.default_rng(0).random((20, 7, channels)).astype(dtype)
    extra = ["unassalpha"] if channels in (2, 4) else []
    tifffile.imwrite(
        tmp_path / "a.tif",
        samples[..., 0] if channels == 1 else samples,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig",
        extrasamples=extra,
        compression="zlib",
    )
    picture = image.load(tmp_path / "a.tif")
    assert picture.samples.dtype == dtype
    np.testing.assert_array_equal(picture.samples, samples)
    image.save(picture, tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif").reshape(samples.shape), samples)
    image.save(picture, tmp_path / "c.png")
    np.testing.assert_allclose(image.load(tmp_path / "c.png").samples / 65535, samples, atol=1e-3)


def test_floats_beyond_white_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4, 3), 17.0, np.float32), photometric="rgb")
    with pytest.raises(ImageError, match=r"a\.tif.*must lie in \[0, 1\]"):
        image.load(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 4, 4), np.float32), photometric="minisblack")
    with pytest.raises(ImageError, match="2 pages"):
        image.load(tmp_path / "b.tif")


# HEIC, AVIF, raw


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_heic_and_back(mode):
    picture = image.from_samples(np.atleast_3d(np.asarray(photo().convert(mode))), mode)
    again = image.load(image.encode(picture, "HEIF", Writing(quality=100)))
    assert (again.format, again.samples.dtype) == ("HEIF", np.uint8)
    np.testing.assert_allclose(again.pixels, picture.pixels, atol=0.06)
    assert np.abs(again.pixels - picture.pixels).mean() < 0.01


def test_heic_keeps_more_than_8_bit():
    ramp = np.tile(np.linspace(0.5, 0.6, 256)[None, :, None], (64, 1, 3))
    picture = image.from_samples(np.rint(ramp * 65535).astype(np.uint16), "RGB")
    again = image.load(image.encode(picture, "HEIF", Writing(quality=100)))
    assert again.samples.dtype == np.uint16
    assert len(np.unique(again.samples[32, :, 1])) > 0.1 * 255 * 2
    np.testing.assert_allclose(again.pixels, picture.pixels, atol=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("primaries", "transfer"), [(1, 13), (12, 13), (9, 16), (2, 2)])
def test_heic_keeps_the_code_points_of_its_colours(primaries, transfer, dtype):
    colours = {"color_primaries": primaries, "transfer_characteristics": transfer}
    file = io.BytesIO()
    mode, level = ("RGB", 100) if dtype == np.uint8 else ("RGB;16", 100 << 8)
    pillow_heif.from_bytes(mode, (48, 32), np.full((32, 48, 3), level, dtype).tobytes()).save(file, **colours)
    again = pillow_heif.open_heif(image.encode(image.load(file.getvalue()), "HEIF")).info["nclx_profile"]
    assert {key: again[key] for key in colours} == colours


def test_of_several_heic_pictures_the_primary_one_is_taken():
    pictures = pillow_heif.HeifFile()
    for level, width in ((50, 64), (150, 96), (200, 80)):
        pictures.add_from_pillow(Image.new("RGB", (width, 64), (level,) * 3))
    file = io.BytesIO()
    pictures.save(file, primary_index=1)
    picture = image.load(file.getvalue())
    assert picture.size == (96, 64)
    np.testing.assert_allclose(picture.samples, 150, atol=3)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_avif_and_back(mode):
    source = photo().convert(mode)
    if mode.endswith("A"):
        source.putalpha(Image.linear_gradient("L").resize(source.size))
    picture = image.load(source)
    again = image.load(image.encode(picture, "AVIF"))
    assert (again.format, again.mode) == ("AVIF", mode)
    assert np.abs(again.pixels - picture.pixels).mean() < 0.02


def write_dng(path, level, *, thumbnail=False):
    """A raw file of an even grey, as small as LibRaw accepts."""
    mosaic = np.full((64, 96), level, np.uint16)
    camera = [
        (50706, 1, 4, (1, 4, 0, 0), True),  # DNGVersion
        (50708, 2, 0, "Test Camera", True),  # UniqueCameraModel
        (50721, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),  # ColorMatrix1: identity
        (50728, 5, 3, (1, 1, 1, 1, 1, 1), True),  # AsShotNeutral
        (315, 2, 0, "A. B.", True),  # Artist
    ]
    pattern = [
        (33421, 3, 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, 1, 4, (0, 1, 1, 2), True),  # CFAPattern
        (50717, 4, 1, 65535, True),  # WhiteLevel
    ]
    with tifffile.TiffWriter(path) as file:
        if thumbnail:
            small = np.zeros((8, 12, 3), np.uint8)
            file.write(small, photometric="rgb", subfiletype=1, subifds=1, extratags=camera)
        file.write(mosaic, photometric=32803, extratags=pattern if thumbnail else camera + pattern)


def test_a_raw_file_is_developed_in_16_bit(tmp_path):
    write_dng(tmp_path / "a.dng", 20_000)
    picture = image.load(tmp_path / "a.dng")
    assert (picture.size, picture.samples.dtype, picture.format) == ((96, 64), np.uint16, None)
    assert 0.2 < np.median(picture.pixels) < 1
    image.save(picture, tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"cannot write .*b\.dng"):
        image.save(picture, tmp_path / "b.dng")


@pytest.mark.parametrize("thumbnail", [False, True])
def test_a_raw_file_without_a_name_is_developed_too(thumbnail, tmp_path, monkeypatch):
    write_dng(tmp_path / "a.dng", 20_000, thumbnail=thumbnail)
    data = (tmp_path / "a.dng").read_bytes()
    named, nameless = image.load(tmp_path / "a.dng"), image.load(data)
    assert nameless.size == (96, 64)
    np.testing.assert_array_equal(nameless.samples, named.samples)
    assert named.exif == nameless.exif
    assert read_exif(image.load(image.encode(nameless, "TIFF")))[315] == "A. B."
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(MissingExtra, match=r"pip install 'difflid\[raw\]'"):
        image.load(data)


@pytest.mark.parametrize(
    "mark", [b"II*\0\x10\0\0\0CR\2\0", b"FUJIFILMCCD-RAW ", b"IIRO\x08", b"IIU\0\x18", b"\0\0\0\x18ftypcrx "]
)
def test_raw_files_of_other_kinds_are_known_by_how_they_begin(mark):
    with pytest.raises(ImageError, match="damaged, or not a raw file"):
        image.load(mark + bytes(200))


def test_a_tiff_made_from_a_raw_file_is_a_tiff(tmp_path):
    copied = [(50706, 1, 4, (1, 4, 0, 0), True)]  # DNGVersion
    tifffile.imwrite(tmp_path / "a.tif", np.asarray(photo()), photometric="rgb", extratags=copied)
    np.testing.assert_array_equal(image.load(tmp_path / "a.tif").samples, np.asarray(photo()))


def test_a_raw_file_keeps_its_maker_note_to_itself():
    tags = Image.Exif()
    tags[315], tags[0x8769] = "A. B.", {0x9003: "2024:01:02 03:04:05", 0x927C: bytes(70_000)}  # too long for a JPEG
    exif = raw_tags(io.BytesIO(tags.tobytes().removeprefix(EXIF_MARK))).tobytes().removeprefix(EXIF_MARK)
    picture = image.from_samples(np.zeros((8, 8, 3), np.uint8), "RGB", exif=exif)
    kept = read_exif(image.load(image.encode(picture, "JPEG")))
    assert (kept[315], kept.get_ifd(0x8769)) == ("A. B.", {0x9003: "2024:01:02 03:04:05"})


def test_a_monochrome_raw_is_grey(tmp_path, monkeypatch):
    write_dng(tmp_path / "a.dng", 20_000)
    monkeypatch.setattr("difflid.image.decode.read_raw", lambda *_: np.full((4, 6), 20_000, np.uint16))
    picture = image.load(tmp_path / "a.dng")
    assert (picture.mode, picture.samples.shape) == ("L", (4, 6, 1))


@pytest.mark.parametrize(("module", "suffix", "extra"), [("pillow_heif", ".heic", "heif"), ("rawpy", ".dng", "raw")])
def test_a_missing_library_is_told_with_the_line_that_installs_it(module, suffix, extra, tmp_path, monkeypatch):
    path = tmp_path / f"a{suffix}"
    if extra == "heif":
        image.save(image.load(photo()), path)
    else:
        write_dng(path, 20_000)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'difflid\[{extra}\]'"):
        image.load(path)


# how results are encoded


def test_quality_is_adjustable():
    picture = image.load(photo())
    for format in ("JPEG", "WEBP", "AVIF", "HEIF"):
        sizes = [len(image.encode(picture, format, Writing(quality=quality))) for quality in (30, 90)]
        assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.parametrize(("given", "asked", "expected"), [(0, "4:2:0", 2), (2, "4:4:4", 0), (2, None, 2)])
def test_subsampling_is_adjustable(given, asked, expected):
    picture = image.load(encoded(photo(), "JPEG", subsampling=given))
    again = Image.open(io.BytesIO(image.encode(picture, "JPEG", Writing(subsampling=asked))))
    assert JpegImagePlugin.get_sampling(again) == expected


def test_a_quality_makes_a_lossless_webp_lossy():
    picture = image.load(encoded(photo(), "WEBP", lossless=True))
    assert b"VP8L" in image.encode(picture, "WEBP")
    assert b"VP8L" not in image.encode(picture, "WEBP", Writing(quality=80))
