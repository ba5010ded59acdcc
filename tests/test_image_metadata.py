"""EXIF, XMP and ICC from one format to another, and what is dropped when asked."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin
from skimage.data import astronaut

from difflid import image
from difflid.errors import ImageError
from difflid.image import Writing

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="1" dc:creator="A. B."/></x:xmpmeta>'
FORMATS = ["AVIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP"]


def exif_block(orientation=1):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    exif[0x8769] = {0x927C: b"maker note"}
    exif[0x8825] = {1: "N", 2: (48.0, 12.0, 3.5)}
    return exif.tobytes()


def photo(width=24, height=16):
    return Image.fromarray(astronaut()[100 : 100 + height, 200 : 200 + width])


def described(format, orientation=1, xmp=XMP):
    """A picture that carries all there is, encoded by Pillow."""
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    options = {"exif": exif_block(orientation), "icc_profile": ICC}
    if format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    elif format == "TIFF":
        options["exif"] = Image.Exif()
        options["exif"].load(exif_block(orientation))
        options["exif"][700] = xmp
    else:
        options["xmp"] = xmp
    file = io.BytesIO()
    photo().save(file, format, **options)
    return file.getvalue()


def info(data):
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture.info, picture.getexif()


def block(data):
    return info(data)[0]["exif"].removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("format", FORMATS)
def test_the_bytes_are_those_of_the_source(format):
    data = described(format)
    again = image.encode(image.load(data), format)
    before, after = info(data)[0], info(again)[0]
    assert after["icc_profile"] == before["icc_profile"] == ICC
    assert after["xmp"] == before["xmp"] == XMP
    if format == "TIFF":  # holds tags of its own, no block
        assert info(again)[1].get_ifd(0x8825) == info(data)[1].get_ifd(0x8825)
        assert info(again)[1].get_ifd(0x8769) == info(data)[1].get_ifd(0x8769)
    else:
        assert block(again) == block(data)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_another_format_carries_them_too(source, target):
    data = image.encode(image.load(described(source)), target)
    found, exif = info(data)
    assert (found["icc_profile"], found["xmp"]) == (ICC, XMP)
    assert exif[0x010F] == "maker"
    assert exif.get_ifd(0x8825)[2] == (48.0, 12.0, 3.5)


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_directory_does_not_take_the_others_along(format):
    exif = Image.Exif()
    exif[0x010F], exif[0x8769] = "maker", {}
    picture = image.from_samples(np.zeros((8, 8, 3), np.uint8), "RGB", exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    assert info(image.encode(image.load(image.encode(picture, format)), format))[1][0x010F] == "maker"


@pytest.mark.parametrize("format", FORMATS)
def test_strip_leaves_the_profile_only(format):
    found, exif = info(image.encode(image.load(described(format)), format, Writing(metadata=False)))
    assert found["icc_profile"] == ICC
    assert not found.get("xmp")
    assert not {0x010F, 0x8769, 0x8825} & set(exif)


@pytest.mark.parametrize("format", FORMATS)
def test_a_turned_picture_says_so_in_xmp_too(format):
    six = XMP.replace(b'Orientation="1"', b'Orientation="6"')
    picture = image.load(described(format, 6, six))
    assert picture.size == (16, 24)
    assert picture.xmp.count(b"Orientation") == picture.xmp.count(b'Orientation="1"')
    found, exif = info(image.encode(picture, format))
    assert exif.get(0x0112, 1) == 1
    assert b'Orientation="6"' not in found["xmp"]
    assert b"A. B." in found["xmp"]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_more_than_8_bit_carries_them_too(format):
    samples = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), np.uint16)
    exif = exif_block().removeprefix(b"Exif\0\0")
    data = image.encode(image.from_samples(samples, "RGB", exif=exif, icc=ICC, xmp=XMP), format)
    again = image.load(data)
    np.testing.assert_array_equal(again.samples, samples)
    assert (again.icc, again.xmp) == (ICC, XMP)
    assert info(data)[1].get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_deep_tiff_is_turned_upright_once(orientation, dtype, tmp_path):
    samples = np.random.default_rng(0).random((4, 7, 3)) * (65535 if dtype == np.uint16 else 1)
    tags = [(274, 3, 1, orientation, True), (700, 1, len(XMP), XMP, True), (34675, 7, len(ICC), ICC, True)]
    tifffile.imwrite(tmp_path / "a.tif", samples.astype(dtype), photometric="rgb", extratags=tags)
    picture = image.load(tmp_path / "a.tif")
    assert picture.samples.dtype == dtype
    assert picture.size == ((4, 7) if orientation > 4 else (7, 4))
    corner = {1: (0, 0), 2: (0, 6), 3: (3, 6), 4: (3, 0), 5: (0, 0), 6: (3, 0), 7: (3, 6), 8: (0, 6)}[orientation]
    np.testing.assert_array_equal(picture.samples[0, 0], samples.astype(dtype)[corner])
    assert (picture.icc, picture.xmp) == (ICC, XMP)
    image.save(picture, tmp_path / "b.tif")
    np.testing.assert_array_equal(image.load(tmp_path / "b.tif").samples, picture.samples)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_bigtiff_is_read_and_becomes_a_tiff(dtype, bigtiff, tmp_path):
    samples = np.random.default_rng(0).random((4, 7, 3)) * (1 if dtype == np.float32 else np.iinfo(dtype).max)
    tifffile.imwrite(tmp_path / "a.tif", samples.astype(dtype), photometric="rgb", bigtiff=bigtiff, software="maker")
    image.save(image.load(tmp_path / "a.tif"), tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), samples.astype(dtype))
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        if not (bigtiff and dtype == np.float32):
            assert written.pages.first.tags["Software"].value == "maker"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("exif", [b"II*\0\xff\xff\xff\xff", b"MM\0+\0\x08", b"nonsense"])
def test_damaged_exif_does_not_hinder_writing(exif, format, dtype):
    data = image.encode(image.from_samples(np.zeros((4, 7, 3), dtype), "RGB", exif=exif), format)
    assert image.load(data).size == (7, 4)


def test_metadata_that_do_not_fit_are_told_and_can_be_dropped():
    picture = image.from_samples(np.zeros((8, 8, 3), np.uint8), "RGB", xmp=bytes(70_000))
    with pytest.raises(ImageError, match="XMP data is too long; drop its metadata"):
        image.encode(picture, "JPEG")
    assert image.load(image.encode(picture, "JPEG", Writing(metadata=False))).xmp == b""
