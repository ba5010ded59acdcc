"""Pairing by name, with the real naming of each data set."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from difflid.data.pairs import DATA_SETS, Pair, find_pairs, load_pair, read_pairs
from difflid.data.photos import split_photos
from difflid.errors import DataError

LAYOUTS = [
    ("folder", {"hazy/street.jpg": "clear/street.png", "hazy/b 1.png": "clear/b 1.png"}),
    ("folder", {"hazy/01.png": "GT/01.png"}),
    ("folder", {"input/01.png": "gt/01.jpg"}),
    ("folder", {"hazy/1400_1.png": "clear/1400_1.png", "hazy/1400_2.png": "clear/1400_2.png"}),
    ("sots", {"hazy/1400_1.png": "gt/1400.png", "hazy/1400_10.png": "gt/1400.png", "hazy/1401_1.png": "gt/1401.png"}),
    ("sots", {"hazy/1400_1.png": "clear/1400_1.png", "hazy/1400_2.png": "clear/1400_2.png"}),
    ("sots", {"hazy/0001_0.8_0.2.jpg": "gt/0001.png", "hazy/0003_1_0.16.jpg": "gt/0003.png"}),
    ("sots", {"hazy/1968_0.8_0.12.jpg": "clear/1968_0.8_0.12.png"}),
    ("its", {"hazy/1_1_0.90179.png": "clear/1.png", "hazy/1_10_0.98796.png": "clear/1.png"}),
    ("ots", {"hazy/0005_0.8_0.04.jpg": "clear/0005.jpg", "hazy/0005_1_0.2.jpg": "clear/0005.jpg"}),
    ("ots", {"hazy/part1/0005_0.8_0.04.jpg": "clear/0005.jpg", "hazy/part2/2005_1_0.2.jpg": "clear/2005.jpg"}),
    ("haze4k", {"haze/1_0.97_1.94.png": "gt/1.png", "haze/10_0.66_0.62.png": "gt/10.png"}),
    ("hsts", {"synthetic/0586.jpg": "original/0586.jpg"}),
    ("hsts", {"synthetic/synthetic/0586.jpg": "synthetic/original/0586.jpg"}),
    ("reside-6k", {"hazy/00001.jpg": "GT/00001.jpg"}),
    ("rs-haze", {"hazy/thin_0001.png": "GT/thin_0001.png"}),
    (
        "o-haze",
        {"hazy/01_outdoor_hazy.jpg": "GT/01_outdoor_GT.jpg", "hazy/02_outdoor_hazy.JPG": "GT/02_outdoor_GT.jpg"},
    ),
    ("i-haze", {"hazy/01_indoor_hazy.jpg": "GT/01_indoor_GT.jpg"}),
    ("dense-haze", {"hazy/01_hazy.png": "GT/01_GT.png", "hazy/10_hazy.png": "GT/10_GT.png"}),
    ("dense-haze", {"hazy/01.webp": "clear/01.webp"}),
    ("nh-haze", {"01_hazy.png": "01_GT.png", "02_hazy.png": "02_GT.png"}),
    ("nh-haze", {"NTIRE2021_Train_Hazy/01.png": "NTIRE2021_Train_HazeFree/01.png"}),
    ("nh-haze", {"hazy/01.png": "clean/01.png"}),
    ("d-hazy", {"NYU_Hazy/1_Hazy.bmp": "NYU_GT/1_Image_.bmp", "NYU_Hazy/2_Hazy.bmp": "NYU_GT/2_Image_.bmp"}),
    ("d-hazy", {"Middlebury_Hazy/Adirondack_Hazy.bmp": "Middlebury_GT/Adirondack_im0.png"}),
]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def draw(path: Path, width: int, height: int, grey: int = 99) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (grey, grey, grey)).save(path)
    return path


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_each_data_set_pairs_by_its_names(tmp_path: Path, name: str, layout: dict[str, str]) -> None:
    touch(tmp_path, *layout, *layout.values())
    found = {pair.hazy.relative_to(tmp_path).as_posix(): pair.clear for pair in find_pairs(tmp_path, DATA_SETS[name])}
    assert found == {hazy: tmp_path / clear for hazy, clear in layout.items()}


def test_every_data_set_has_a_layout() -> None:
    assert {name for name, _ in LAYOUTS} == set(DATA_SETS)


@pytest.mark.parametrize(("number", "published"), [("26", True), ("26", False), ("01", False)])
def test_splits_of_a_challenge_lie_side_by_side(tmp_path: Path, number: str, published: bool) -> None:
    touch(tmp_path, "NTIRE2021_Train_Hazy/01.png", "NTIRE2021_Train_HazeFree/01.png")
    touch(tmp_path, f"NTIRE2021_Valid_Hazy/{number}.png")
    if published:
        touch(tmp_path, f"NTIRE2021_Valid_HazeFree/{number}.png")
    pairs = find_pairs(tmp_path, DATA_SETS["nh-haze"])
    assert [pair.name for pair in pairs] == (["01", number] if published else ["01"])
    assert all(pair.clear.parent.name == pair.hazy.parent.name.replace("Hazy", "HazeFree") for pair in pairs)


def test_other_files_of_the_data_set_do_not_disturb(tmp_path: Path) -> None:
    touch(tmp_path, "NYU_Hazy/1_Hazy.bmp", "NYU_GT/1_Image_.bmp", "NYU_GT/1_Depth_.bmp", "NYU_GT/2_Image_.bmp")
    touch(tmp_path, "NYU_Hazy/readme.txt")
    assert [pair.name for pair in find_pairs(tmp_path, DATA_SETS["d-hazy"])] == ["1_Hazy"]


def test_pairs_come_sorted_by_name(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{kind}/{name}.png" for kind in ("hazy", "clear") for name in "cab"))
    assert [pair.name for pair in find_pairs(tmp_path)] == ["a", "b", "c"]


def test_hazy_pictures_without_a_partner_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "clear/00.png", *(f"hazy/{i:02d}.png" for i in range(9)))
    with pytest.raises(DataError, match=r"01\.png, 02\.png, .*, \.\.\. \(8 in all\).*TSV"):
        find_pairs(tmp_path)
    with pytest.raises(DataError, match=r"8 in all.*00\.png"):
        find_pairs(tmp_path, DATA_SETS["sots"])


def test_a_flat_folder_never_pairs_a_picture_with_itself(tmp_path: Path) -> None:
    touch(tmp_path, "01_hazy.png", "01_GT.png", "02.png")
    with pytest.raises(DataError, match=r"02\.png \(1 in all\)"):
        find_pairs(tmp_path, DATA_SETS["nh-haze"])


def test_two_clear_pictures_for_one_scene_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "hazy/1.png", "clear/1.png", "clear/1.jpg")
    with pytest.raises(DataError, match=r"1\.png has 2 clear pictures"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("empty", ["hazy", "clear"])
def test_a_missing_or_empty_folder_is_an_error(tmp_path: Path, empty: str) -> None:
    with pytest.raises(DataError, match="no such data set folder"):
        find_pairs(tmp_path / "nowhere")
    touch(tmp_path, "hazy/1.png", "clear/1.png")
    (tmp_path / empty / "1.png").unlink()
    with pytest.raises(DataError, match=empty):
        find_pairs(tmp_path)


def test_a_tsv_lists_pairs_relative_to_itself(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.png", "b/y.png", "z.png")
    file = tmp_path / "pairs.tsv"
    file.write_text("hazy\tclear\tname\n# a comment\n\nz.png\tb/y.png\ttown\na/x.png\tb/y.png\n")
    expected = [
        Pair("town", tmp_path / "z.png", tmp_path / "b/y.png"),
        Pair("x", tmp_path / "a/x.png", tmp_path / "b/y.png"),
    ]
    assert read_pairs(file) == expected


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "pairs.tsv").write_text("hazy\tclear\na.png\ta.png\n", encoding="utf-8-sig")
    assert [pair.name for pair in read_pairs(tmp_path / "pairs.tsv")] == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png", "line 1: expected hazy"),
        ("a.png\t", "line 1: expected hazy"),
        ("a.png\ta.png\nb.png\tc.png", r"b\.png, .*c\.png \(2 in all\) that do not exist"),
        ("a.png\ta.png\na.png\ta.png", r"unique.*: a \(1 in all\)"),
        ("", "no pair"),
    ],
)
def test_a_bad_tsv_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "pairs.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / "pairs.tsv")


def test_a_missing_tsv_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.tsv"):
        read_pairs(tmp_path / "pairs.tsv")


@pytest.mark.parametrize("border", [0, 10])
def test_the_border_of_the_clear_picture_is_cut_only_where_it_is(tmp_path: Path, border: int) -> None:
    clear = Image.new("RGB", (12 + 2 * border, 8 + 2 * border), (255, 0, 0))
    clear.paste((0, 0, 255), (border, border, border + 12, border + 8))
    clear.save(tmp_path / "clear.png")
    hazy, found = load_pair(Pair("1", draw(tmp_path / "hazy.png", 12, 8), tmp_path / "clear.png", crop=10))
    assert hazy.shape == found.shape == (1, 3, 8, 12)
    assert torch.equal(found[0, 2], torch.ones(8, 12))
    assert torch.equal(found[0, 0], torch.zeros(8, 12))


def test_different_sizes_are_an_error(tmp_path: Path) -> None:
    pair = Pair("1", draw(tmp_path / "h.png", 8, 8), draw(tmp_path / "c.png", 8, 9), crop=10)
    with pytest.raises(DataError, match=r"h\.png and .*c\.png differ in size: 8 x 8 and 8 x 9"):
        load_pair(pair)


def test_a_corrupt_picture_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "c.png", 4, 4)
    (tmp_path / "h.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"h\.png"):
        load_pair(Pair("1", tmp_path / "h.png", tmp_path / "c.png"))


def test_photographs_are_split_by_their_names_which_need_not_be_utf_8() -> None:
    files = [Path(os.fsdecode(b"\xff%d.png" % number)) for number in range(100)]
    train, validation = split_photos(files)
    assert sorted(train + validation) == sorted(files)
    assert 0 < len(validation) < 10
    assert split_photos(files[50:])[1] == [path for path in validation if path in files[50:]]
