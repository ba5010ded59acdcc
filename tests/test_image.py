import io
import os
import signal
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin
from skimage.data import astronaut

from difflid import image
from difflid.errors import ImageError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SUFFIXES = {"BMP": ".bmp", "JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp"}


def noise(*shape, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, shape, dtype=dtype, endpoint=True)


def pil(mode, width=7, height=5):
    """Make a picture of noise in any PIL mode."""
    match mode:
        case "1":
            return Image.fromarray(noise(height, width) > 127)
        case "P":
            return Image.fromarray(noise(height, width, 3)).quantize(8)
        case "I;16":
            return Image.fromarray(noise(height, width, dtype=np.uint16))
    return Image.frombytes(mode, (width, height), noise(height, width, len(mode)).tobytes())


def photo(width, height):
    return Image.fromarray(astronaut()[100 : 100 + height, 200 : 200 + width])


def encoded(picture, format, **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def png(*chunks):
    """Join chunks without length and checksum, the end aside."""
    body = [*chunks, (b"IEND", b"")]
    checked = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in body]
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


def decoded(data):
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture


LOSSLESS = [
    ("L", "PNG", {}),
    ("LA", "PNG", {}),
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("I;16", "PNG", {}),
    ("L", "TIFF", {}),
    ("LA", "TIFF", {}),
    ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("RGBA", "TIFF", {}),
    ("CMYK", "TIFF", {}),
    ("I;16", "TIFF", {}),
    ("RGB", "WEBP", {"lossless": True}),
    ("RGBA", "WEBP", {"lossless": True, "exact": True}),
    ("L", "BMP", {}),
    ("RGB", "BMP", {}),
]


@pytest.mark.parametrize(("mode", "format", "options"), LOSSLESS)
def test_unchanged_pixels_come_back_exactly(mode, format, options):
    data = encoded(pil(mode), format, **options)
    picture = image.load(data)
    assert picture.pixels.dtype == np.float32
    assert picture.pixels.shape == (5, 7, 3)
    assert picture.size == (7, 5)
    back = decoded(image.encode(picture, format))
    assert back.mode == mode
    np.testing.assert_array_equal(np.asarray(back), np.asarray(decoded(data)))


def test_every_sample_value_survives_the_way_to_floats_and_back():
    for dtype, count in ((np.uint8, 256), (np.uint16, 65536)):
        samples = np.arange(count, dtype=dtype).reshape(-1, 16)
        _, give_back = opened = image.open_any(samples)
        np.testing.assert_array_equal(give_back(opened[0]), samples)
    assert image.load(encoded(Image.new("L", (1, 1), 51), "PNG")).pixels[0, 0, 0] == np.float32(51) / np.float32(255)


def test_one_bit_becomes_grey_and_a_palette_becomes_colour():
    one_bit, palette = pil("1"), pil("P")
    for source, mode in ((one_bit, "L"), (palette, "RGB")):
        back = decoded(image.encode(image.load(encoded(source, "PNG")), "PNG"))
        assert back.mode == mode
        np.testing.assert_array_equal(np.asarray(back), np.asarray(source.convert(mode)))


def test_a_transparent_palette_keeps_its_transparency():
    data = encoded(pil("P"), "PNG", transparency=3)
    back = decoded(image.encode(image.load(data), "PNG"))
    np.testing.assert_array_equal(np.asarray(back), np.asarray(decoded(data).convert("RGBA")))
    assert 0 < np.mean(np.asarray(back)[..., 3] == 0) < 1


@pytest.mark.parametrize(("mode", "key"), [("L", 9), ("RGB", (1, 2, 3))])
def test_a_transparent_colour_becomes_alpha(mode, key):
    source = Image.new(mode, (2, 1), key)
    source.putpixel((1, 0), 200 if mode == "L" else (200, 2, 3))
    picture = image.load(encoded(source, "PNG", transparency=key))
    assert picture.mode == f"{mode}A"
    assert picture.alpha.tolist() == [[0, 255]]


@pytest.mark.parametrize("opened", [bytes, lambda data: Image.open(io.BytesIO(data))])
@pytest.mark.parametrize(("bits", "row", "key"), [(1, 0b0100_0000, 1), (2, 0b0110_0000, 2), (4, 0x3F, 15)])
def test_a_transparent_grey_of_few_bits_becomes_alpha(bits, row, key, opened):
    header = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    data = png((b"IHDR", header), (b"tRNS", struct.pack(">H", key)), (b"IDAT", zlib.compress(bytes([0, row]))))
    assert image.load(opened(data)).alpha.tolist() == [[255, 0]]


def test_changed_colours_leave_alpha_and_grey_as_they_are():
    picture = image.load(pil("LA"))
    changed = image.replace_pixels(picture, np.full_like(picture.pixels, [0.2, 0.4, 0.6]))
    back = np.asarray(decoded(image.encode(changed, "PNG")))
    assert back.shape == (5, 7, 2)
    np.testing.assert_array_equal(back[..., 1], picture.alpha)
    assert set(np.unique(back[..., 0])) == {round(255 * (0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6))}


def test_changed_cmyk_colours_show_as_they_were_asked_for():
    picture = image.load(pil("CMYK"))
    wanted = np.random.default_rng(1).random(picture.pixels.shape, np.float32)
    back = image.load(image.encode(image.replace_pixels(picture, wanted), "TIFF"))
    assert back.mode == "CMYK"
    np.testing.assert_allclose(back.pixels, wanted, atol=1.5 / 255)


def test_cmyk_jpeg_keeps_its_polarity():
    source = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture = image.load(encoded(source, "JPEG", quality=95))
    np.testing.assert_allclose(picture.pixels[8, 8], [0, 1, 1], atol=0.02)
    again = decoded(image.encode(picture, "JPEG"))
    np.testing.assert_allclose(np.asarray(again)[8, 8], [255, 0, 0, 0], atol=3)


# 16 bit in colour


def png16(samples, *chunks):
    """Encode as an unfiltered 16-bit PNG: the simplest there is."""
    height, width, channels = samples.shape
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), samples.astype(">u2").view(np.uint8).reshape(height, -1)], 1
    )
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return png((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows.tobytes())))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_its_depth(channels):
    samples = noise(300, 7, channels, dtype=np.uint16)
    picture = image.load(png16(samples))
    np.testing.assert_array_equal(picture.samples, samples)
    again = image.encode(picture, "PNG")
    assert again[24] == 16
    np.testing.assert_array_equal(image.load(again).samples, samples)
    np.testing.assert_array_equal(np.asarray(decoded(again).convert("RGB")).shape, (300, 7, 3))


def test_a_transparent_colour_in_16_bit_is_compared_in_full_depth():
    samples = np.array([[[256, 1, 1], [257, 1, 1]]], np.uint16)
    picture = image.load(png16(samples, (b"tRNS", struct.pack(">HHH", 256, 1, 1))))
    assert picture.alpha.tolist() == [[0, 65535]]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_keeps_its_depth(byteorder, compression, channels, tmp_path):
    samples = noise(40, 7, channels, dtype=np.uint16)
    photometric = "minisblack" if channels == 1 else "rgb"
    extra = ["unassalpha"] if channels == 4 else []
    path = tmp_path / "given.tif"
    tifffile.imwrite(
        path,
        samples.squeeze(),
        byteorder=byteorder,
        compression=compression,
        photometric=photometric,
        planarconfig="contig",
        extrasamples=extra,
    )
    picture = image.load(path)
    np.testing.assert_array_equal(picture.samples, samples)
    image.save(picture, tmp_path / "written.tiff")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "written.tiff").reshape(samples.shape), samples)
    np.testing.assert_array_equal(image.load(tmp_path / "written.tiff").samples, samples)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_tiff_in_layouts_that_pillow_refuses(channels, compression, tmp_path):
    samples = noise(channels, 40, 7, dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "planes.tif",
        samples,
        photometric="minisblack" if channels == 2 else "rgb",
        planarconfig="separate",
        extrasamples=["unassalpha"] if channels in (2, 4) else [],
        compression=compression,
    )
    picture = image.load(tmp_path / "planes.tif")
    np.testing.assert_array_equal(picture.samples, np.moveaxis(samples, 0, -1))
    again = image.load(image.encode(picture, "TIFF"))
    assert again.mode == picture.mode == {2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    np.testing.assert_array_equal(again.samples, picture.samples)


def test_16_bit_that_would_lose_depth_is_refused(tmp_path):
    path = tmp_path / "inks.tif"
    tifffile.imwrite(path, noise(40, 7, 4, dtype=np.uint16), photometric="separated")
    with pytest.raises(ImageError, match=r"inks\.tif.*not supported"):
        image.load(path)
    path.write_bytes(png16(noise(4, 4, 3, dtype=np.uint16)))
    with pytest.raises(ImageError, match="PIL has no 16-bit colour"):
        image.open_any(path)


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_in_plain_rows(dtype, byteorder, photometric, tmp_path):
    samples = noise(40, 7, 3 if photometric == "rgb" else 1, dtype=dtype)
    given = samples if photometric == "rgb" else samples[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", given, photometric=photometric, byteorder=byteorder, rowsperstrip=7)
    read = image.load(tmp_path / "a.tif").samples
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, samples)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_in_which_zero_is_white(dtype, bigtiff, compression, tmp_path):
    samples = noise(40, 7, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="miniswhite", bigtiff=bigtiff, compression=compression)
    np.testing.assert_array_equal(image.load(tmp_path / "a.tif").samples[..., 0], np.iinfo(dtype).max - samples)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("extra", [["unspecified"], ["unassalpha", "unspecified"]])
@pytest.mark.parametrize("colours", [1, 3])
def test_channels_that_would_be_lost_are_refused(colours, extra, dtype, compression, planarconfig, tmp_path):
    samples = np.zeros((16, 16, colours + len(extra)), dtype)
    tifffile.imwrite(
        tmp_path / "a.tif",
        samples if planarconfig == "contig" else np.moveaxis(samples, -1, 0),
        photometric="minisblack" if colours == 1 else "rgb",
        planarconfig=planarconfig,
        extrasamples=extra,
        compression=compression,
    )
    with pytest.raises(ImageError, match=rf"a\.tif.* of its {samples.shape[-1]} channels are neither colour nor alpha"):
        image.load(tmp_path / "a.tif")


def test_floats_that_are_no_grey_and_no_rgb_are_refused(tmp_path):
    floats = np.zeros((4, 7, 4), np.float32)
    for photometric, extra, reason in (("separated", [], "SEPARATED"), ("rgb", ["assocalpha"], "premultiplied")):
        tifffile.imwrite(tmp_path / "a.tif", floats, photometric=photometric, extrasamples=extra)
        with pytest.raises(ImageError, match=f"floats .*{reason}"):
            image.load(tmp_path / "a.tif")


def test_more_than_a_tiff_holds_is_refused(monkeypatch):
    monkeypatch.setattr("difflid.image.tiff._MOST_BYTES", 100)
    with pytest.raises(ImageError, match="at most 4 GB"):
        image.encode(image.from_samples(noise(5, 7, 3), "RGB"), "TIFF")


def test_a_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=[encoded(photo(24, 16), "PNG")])
    writer.start()
    np.testing.assert_array_equal(image.load(tmp_path / "pipe").samples, np.asarray(photo(24, 16)))
    writer.join()


def test_pictures_are_decoded_at_the_same_time(monkeypatch):
    """Two threads meet in the middle of decoding; Pillow's limit is back when the last of them has finished."""
    limit, meeting, decode = Image.MAX_IMAGE_PIXELS, Barrier(2), image.decode._decode

    def meet(file):
        meeting.wait(timeout=20)
        assert Image.MAX_IMAGE_PIXELS is None
        return decode(file)

    monkeypatch.setattr("difflid.image.decode._decode", meet)
    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(image.load, [encoded(photo(24, 16), "PNG")] * 2))
    assert [picture.size for picture in pictures] == [(24, 16)] * 2
    assert limit == Image.MAX_IMAGE_PIXELS


def test_16_bit_becomes_8_bit_only_where_the_format_has_no_more():
    picture = image.load(png16(np.full((8, 8, 3), 65535 // 2, np.uint16)))
    assert abs(int(np.asarray(decoded(image.encode(picture, "JPEG")))[4, 4, 0]) - 127) <= 1


# metadata


def exif_block(orientation=None):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x8769] = {0x9003: "2024:01:02 03:04:05", 0x927C: b"maker note"}
    exif[0x8825] = {1: "N"}
    if orientation:
        exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_turned_upright_once(orientation, format):
    source = photo(48, 32)
    data = encoded(source, format, exif=exif_block(orientation), **({"lossless": True} if format == "WEBP" else {}))
    upright = ImageOps.exif_transpose(decoded(data))
    picture = image.load(data)
    np.testing.assert_array_equal(picture.samples, np.asarray(upright))
    again = decoded(image.encode(picture, format))
    assert again.getexif().get(0x0112, 1) == 1
    assert again.size == upright.size
    np.testing.assert_allclose(np.asarray(again), np.asarray(upright), atol=16 if format == "JPEG" else 0)


@pytest.mark.parametrize("target", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_other_metadata_are_kept(source, target):
    data = encoded(photo(24, 16), source, exif=exif_block(6), icc_profile=ICC)
    again = decoded(image.encode(image.load(data), target))
    assert again.info["icc_profile"] == ICC
    exif = again.getexif()
    assert exif[0x010F] == "maker"
    assert exif.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
    assert exif.get_ifd(0x8769)[0x927C] == b"maker note"
    assert exif.get_ifd(0x8825)[1] == "N"
    assert again.size == (16, 24)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_keeps_metadata_too(format):
    exif = exif_block().removeprefix(b"Exif\0\0")
    picture = image.from_samples(noise(4, 5, 3, dtype=np.uint16), "RGB", exif=exif, icc=ICC)
    again = image.load(image.encode(picture, format))
    assert again.icc == ICC
    tags = Image.Exif()
    tags.load(again.exif)
    assert tags[0x010F] == "maker"
    assert tags.get_ifd(0x8769)[0x927C] == b"maker note"


def test_exif_bytes_stay_where_they_are_but_for_orientation_and_thumbnail():
    block = exif_block(6)
    again = decoded(image.encode(image.load(encoded(photo(24, 16), "JPEG", exif=block)), "JPEG")).info["exif"]
    assert len(again) == len(block)
    assert sum(a != b for a, b in zip(again, block, strict=True)) == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_hinder():
    picture = image.load(encoded(photo(24, 16), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"))
    assert picture.size == (24, 16)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_keeps_its_subsampling_and_is_close(subsampling):
    data = encoded(photo(64, 48), "JPEG", quality=95, subsampling=subsampling)
    again = image.encode(image.load(data), "JPEG")
    assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(again))) == subsampling
    difference = np.asarray(decoded(again)).astype(int) - np.asarray(decoded(data))
    assert np.abs(difference).mean() < 1


def test_lossy_webp_stays_lossy():
    data = encoded(photo(64, 48), "WEBP", quality=80, icc_profile=ICC)
    assert b"VP8L" not in image.encode(image.load(data), "WEBP")


# what is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no picture at all", "not a picture of a kind that is read .*HEIF"),
        (b"GIF89a" + bytes(20), "not a picture of a kind that is read"),
        (None, "no such file"),
    ],
)
def test_what_is_not_a_picture_is_refused_by_name(content, message, tmp_path):
    path = tmp_path / "holiday.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"holiday\.jpg.*{message}"):
        image.load(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="folder"):
        image.load(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of what it then refuses
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_a_cut_off_file_is_refused_wherever_it_is_cut(format, tmp_path):
    data = encoded(photo(64, 48), format)
    path = tmp_path / f"cut{SUFFIXES[format]}"
    for length in range(1, len(data) * 9 // 10, max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        with pytest.raises(ImageError, match="cut"):
            image.load(path)


def test_an_animation_is_refused():
    frames = [photo(8, 8), photo(8, 8).rotate(90)]
    with pytest.raises(ImageError, match="2 pictures"):
        image.load(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))


def test_too_many_pixels_are_refused_before_decoding():
    limit = Image.MAX_IMAGE_PIXELS
    data = bytearray(encoded(Image.new("L", (1, 1)), "BMP"))
    struct.pack_into("<ii", data, 18, 20_001, 20_000)
    with pytest.raises(ImageError, match=r"20001x20000 is more than 400 megapixels"):
        image.load(bytes(data))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_small_file_that_claims_a_large_picture_is_refused_before_decoding():
    data = bytearray(encoded(Image.new("L", (23, 17)), "TIFF"))
    entry = data.index(struct.pack("<HHI", 257, 4, 1))  # ImageLength
    struct.pack_into("<I", data, entry + 8, 8_388_625)
    with pytest.raises(ImageError, match=r"damaged: \d+ bytes cannot hold the 23x8388625 pixels"):
        image.load(bytes(data))
    blank = image.load(encoded(Image.new("1", (8000, 4000)), "PNG", optimize=True))  # as small as deflate gets
    assert blank.size == (8000, 4000)


@pytest.mark.parametrize(("format", "options"), [("WEBP", {"lossless": True}), ("AVIF", {"speed": 10})])
def test_one_colour_may_take_next_to_no_bytes(format, options):
    data = encoded(Image.new("RGB", (6000, 5000), (10, 20, 30)), format, **options)
    assert 20_000 * len(data) < 6000 * 5000
    assert image.load(data).size == (6000, 5000)


def test_a_picture_beyond_the_limit_of_pillow_is_read_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for format in SUFFIXES:
        assert image.load(encoded(Image.new("RGB", (40, 30)), format)).size == (40, 30)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (1, 3000)])
def test_odd_sizes_are_fine(size):
    for format in ("JPEG", "PNG", "TIFF", "BMP"):
        picture = image.load(encoded(Image.new("RGB", size, (1, 2, 3)), format))
        assert decoded(image.encode(picture, format)).size == size


@pytest.mark.parametrize(("mode", "format"), [("RGBA", "JPEG"), ("CMYK", "PNG"), ("LA", "BMP"), ("RGB", "GIF")])
def test_a_format_that_cannot_hold_the_picture_is_refused(mode, format):
    with pytest.raises(ImageError, match=format):
        image.encode(image.load(pil(mode)), format)


# writing


def test_saving_follows_the_suffix(tmp_path):
    for format, suffix in SUFFIXES.items():
        image.save(image.load(photo(8, 6)), tmp_path / f"picture{suffix.upper()}")
        assert decoded((tmp_path / f"picture{suffix.upper()}").read_bytes()).format == format
    with pytest.raises(ImageError, match=r"picture\.gif.*\.jpg"):
        image.save(image.load(photo(8, 6)), tmp_path / "picture.gif")


def test_a_file_is_as_readable_as_any_other(tmp_path):
    image.save(image.load(photo(8, 6)), tmp_path / "picture.png")
    (tmp_path / "other").touch()
    assert (tmp_path / "picture.png").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failed_write_leaves_what_was_there(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "picture.bmp"
    path.write_bytes(b"precious")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ImageError, match=r"cannot write .*picture\.bmp"):
            image.save(image.load(photo(64, 64)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    path = tmp_path / "picture.png"
    path.mkdir()
    with pytest.raises(ImageError, match=r"cannot write .*picture\.png"):
        image.save(image.load(photo(8, 6)), path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ImageError, match="cannot write"):
        image.save(image.load(photo(8, 6)), tmp_path / "picture.png")


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ImageError, match="cannot write"):
        image.save(image.load(photo(8, 6)), tmp_path / "nowhere" / "picture.png")


# every kind of image, to a tensor and back


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2", np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1)])
def test_arrays_come_back_as_they_were(shape, dtype):
    dtype = np.dtype(dtype)
    source = np.random.default_rng(0).random(shape)
    source = (source * np.iinfo(dtype).max if dtype.kind == "u" else source).astype(dtype)
    tensor, give_back = image.open_any(source)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (1, 3, *shape[:2])
    assert tensor.amin() >= 0
    assert tensor.amax() <= 1
    back = give_back(tensor)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, source)
    darker = give_back(tensor / 2)
    assert (darker.dtype, darker.shape) == (dtype, shape)
    if shape[-1] == 4:
        np.testing.assert_array_equal(darker[..., 3], source[..., 3])
    np.testing.assert_allclose(
        darker[..., 0].astype(float), source[..., 0] / 2, atol=0.51 if dtype.kind == "u" else 1e-3
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 5, 7)])
def test_tensors_come_back_as_they_were(shape, dtype):
    source = torch.rand(shape, dtype=torch.float64)
    source = (source * 255).to(dtype) if dtype == torch.uint8 else source.to(dtype)
    tensor, give_back = image.open_any(source)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (shape if len(shape) == 4 else (1, *shape))
    assert tensor.amax() <= 1
    back = give_back(tensor)
    assert back.dtype == dtype
    assert torch.equal(back, source)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "I;16"])
def test_pil_images_come_back_as_they_were(mode):
    source = pil(mode)
    tensor, give_back = image.open_any(source)
    assert tensor.shape == (1, 3, 5, 7)
    back = give_back(tensor)
    assert back.mode == mode
    np.testing.assert_array_equal(np.asarray(back), np.asarray(source))


def test_a_pil_image_keeps_its_size_and_orientation_tag():
    source = decoded(encoded(photo(24, 16), "JPEG", exif=exif_block(6), icc_profile=ICC))
    tensor, give_back = image.open_any(source)
    back = give_back(tensor)
    assert back.size == source.size
    assert back.getexif()[0x0112] == 6
    assert back.info["icc_profile"] == ICC


def test_a_path_gives_a_pil_image_and_bytes_give_bytes(tmp_path):
    data = encoded(photo(24, 16), "PNG")
    (tmp_path / "picture.png").write_bytes(data)
    for source in (tmp_path / "picture.png", str(tmp_path / "picture.png")):
        tensor, give_back = image.open_any(source)
        assert give_back(tensor).size == (24, 16)
    tensor, give_back = image.open_any(data)
    np.testing.assert_array_equal(np.asarray(decoded(give_back(tensor))), np.asarray(photo(24, 16)))


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (7, TypeError),
        ([[1, 2], [3, 4]], TypeError),
        (np.zeros((4, 4), np.int64), TypeError),
        (np.zeros((4, 4), bool), TypeError),
        (torch.zeros(3, 4, 4, dtype=torch.int64), TypeError),
        (np.zeros((3, 4, 5)), ImageError),
        (np.zeros((0, 4, 3), np.uint8), ImageError),
        (np.full((4, 4), 255.0), ImageError),
        (np.full((4, 4), np.nan), ImageError),
        (torch.zeros(4, 4), ImageError),
        (torch.zeros(1, 4, 4), ImageError),
        (torch.full((3, 4, 4), 255.0), ImageError),
        (Image.new("F", (4, 4)), ImageError),
    ],
)
def test_other_kinds_are_refused(source, error):
    with pytest.raises(error, match=r"expected|must|not supported|at least"):
        image.open_any(source)


def test_pixels_of_another_size_are_refused():
    with pytest.raises(ImageError, match=r"\(6, 8, 3\), got \(8, 6, 3\)"):
        image.replace_pixels(image.load(photo(8, 6)), np.zeros((8, 6, 3), np.float32))


def test_pixels_and_tensor_are_each_others_inverse():
    pixels = np.random.default_rng(0).random((5, 7, 3), np.float32)
    np.testing.assert_array_equal(image.to_pixels(image.to_tensor(pixels)), pixels)
