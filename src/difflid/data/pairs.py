"""Which hazy file belongs to which clear one: by name, for every data set, never by position in a list.

A `PairRule` says where the two kinds of files lie and what in a file's stem names the scene. Five rules cover the
public data sets (`DATA_SETS`); any other collection is a plain folder with equal stems or a TSV file.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from difflid import image
from difflid.data.photos import decode_all, photo_files
from difflid.errors import DataError, ImageError, listed

__all__ = [
    "DATA_SETS",
    "Pair",
    "PairRule",
    "find_pairs",
    "fitted",
    "load_pair",
    "load_photo",
    "read_pairs",
    "refuse_damaged",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A hazy photograph and the same scene without haze."""

    name: str  # unique within its data set
    hazy: Path
    clear: Path
    crop: int = 0  # pixels cut from each side of the clear picture where it is larger than the hazy one by just that


@dataclass(frozen=True)
class PairRule:
    """How a data set names its files.

    Folders are glob patterns below the data set's folder; the first that holds a picture counts. Keys are regular
    expressions that match the whole stem; their first group names the scene. "." for both folders: all files lie
    together, and those that match ``clear_key`` are the clear ones.
    """

    hazy_folders: tuple[str, ...]
    clear_folders: tuple[str, ...]
    hazy_keys: tuple[str, ...] = ("(.+)",)  # in order of preference
    clear_keys: tuple[str, ...] = ("(.+)",)
    crop: int = 0  # of each Pair
    twins: tuple[str, str] = ("", "")  # ends of the names of a split's hazy and its clear folder, which may be lacking


HAZY_FOLDERS = ("hazy", "haze", "Hazy", "input")
CLEAR_FOLDERS = ("clear", "gt", "GT", "target", "clean")

# Equal stems: 0001.png in both folders (RESIDE-6K, RS-Haze, collections of one's own).
FOLDER = PairRule(HAZY_FOLDERS, CLEAR_FOLDERS)
# 1400_1.png or 0001_0.8_0.2.jpg belong to 1400.png and 0001.png; some copies repeat the hazy stem instead. The clear
# indoor pictures carry a border of 10 pixels that the hazy ones lack. OTS comes in hazy/part1 to part4.
RESIDE = PairRule(
    (*HAZY_FOLDERS, "hazy/part*", "part*"), CLEAR_FOLDERS, hazy_keys=("(.+)", r"([^_]+)_[\d.]+(?:_[\d.]+)?"), crop=10
)
# synthetic/0586.jpg belongs to original/0586.jpg.
HSTS = PairRule(("synthetic", "synthetic/synthetic"), ("original", "synthetic/original"))
# 01_outdoor_hazy.jpg belongs to 01_outdoor_GT.jpg, 01_hazy.png to 01_GT.png (NH-HAZE of 2020: in one folder); or equal
# stems (NH-HAZE of 2021: in NTIRE2021_Train_Hazy and NTIRE2021_Train_HazeFree; NTIRE2021_Valid_Hazy came alone).
NTIRE = PairRule(
    (*HAZY_FOLDERS, "NTIRE*_Hazy", "."),
    (*CLEAR_FOLDERS, "NTIRE*_HazeFree", "."),
    hazy_keys=("(.+)_hazy", "(.+)"),
    clear_keys=("(.+)_GT", "(.+)"),
    twins=("_Hazy", "_HazeFree"),
)
# 1_Hazy.bmp belongs to 1_Image_.bmp, Adirondack_Hazy.bmp to Adirondack_im0.png.
D_HAZY = PairRule(("*_Hazy",), ("*_GT",), ("(.+)_Hazy",), ("(.+)_(?:Image_|im0)",))

DATA_SETS: Mapping[str, PairRule] = {
    "folder": FOLDER,
    "reside-6k": FOLDER,
    "rs-haze": FOLDER,
    "sots": RESIDE,
    "its": RESIDE,
    "ots": RESIDE,
    "haze4k": RESIDE,
    "hsts": HSTS,
    "o-haze": NTIRE,
    "i-haze": NTIRE,
    "dense-haze": NTIRE,
    "nh-haze": NTIRE,
    "d-hazy": D_HAZY,
}


def find_pairs(folder: Path, rule: PairRule = FOLDER) -> list[Pair]:
    """Pair the files of a data set by the names of their scenes, sorted by name.

    Clear pictures without a hazy one are left out: a subset of the hazy pictures is still a data set.

    Raises:
        DataError: a folder is missing or empty, a hazy picture has no or several clear ones.
    """
    if not folder.is_dir():
        raise DataError(f"no such data set folder: {folder}")
    hazy_files, clear_files = _pictures(folder, rule.hazy_folders), _pictures(folder, rule.clear_folders)
    hazy_files = _published(hazy_files, rule.twins)
    if hazy_files == clear_files:
        clear_files = [path for path in clear_files if _scenes(path, rule.clear_keys[:1])]
        hazy_files = [path for path in hazy_files if path not in set(clear_files)]
    clear = _by_scene(clear_files, rule.clear_keys)
    pairs = [(path, _partner(path, rule.hazy_keys, clear)) for path in hazy_files]
    _refuse_alone([path.name for path, partner in pairs if partner is None], folder, clear_files)
    return _named([Pair(path.stem, path, partner, rule.crop) for path, partner in pairs if partner], folder)


def read_pairs(file: Path) -> list[Pair]:
    """Read pairs from a TSV file: hazy, clear and, if wanted, a name; paths are relative to the file.

    Empty lines, lines that start with # and a heading ``hazy<TAB>clear`` are skipped.

    Raises:
        DataError: the file or a file it names is missing, a line has another form, or no pair is in it.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list of pairs {file}: {error}") from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    pairs = [_row_pair(file, number, row) for number, row in rows if row[:2] != ["hazy", "clear"]]
    missing = [str(path) for pair in pairs for path in (pair.hazy, pair.clear) if not path.is_file()]
    if missing:
        raise DataError(f"{file} names {listed(missing)} that do not exist; paths are relative to the file")
    return _named(pairs, file)


def load_pair(pair: Pair) -> tuple[Tensor, Tensor]:
    """Read a pair as (hazy, clear), both (1, 3, H, W) in [0, 1].

    Raises:
        DataError: a file cannot be read, or the sizes differ by anything but the border ``pair.crop``.
    """
    return fitted(load_photo(pair.hazy), load_photo(pair.clear), pair.crop, f"{pair.hazy} and {pair.clear}")


def refuse_damaged(pairs: Sequence[Pair]) -> None:
    """Refuse pairs some of which `load_pair` cannot read.

    Raises:
        DataError: there are such; see :func:`difflid.data.photos.decode_all`.
    """
    decode_all(pairs, lambda pair: bool(load_pair(pair)))


def fitted(hazy: Tensor, clear: Tensor, crop: int, what: str) -> tuple[Tensor, Tensor]:
    """Cut the border that only the clear picture has; both are (1, 3, H, W).

    Raises:
        DataError: the sizes of ``what`` differ by anything else.
    """
    height, width = hazy.shape[2:]
    if crop and clear.shape[2:] == (height + 2 * crop, width + 2 * crop):
        clear = clear[..., crop:-crop, crop:-crop]
    if clear.shape != hazy.shape:
        sizes = f"{width} x {height} and {clear.shape[3]} x {clear.shape[2]}"
        raise DataError(f"{what} differ in size: {sizes}; expected equal sizes")
    return hazy, clear


def load_photo(path: Path) -> Tensor:
    """Read one picture, (1, 3, H, W) in [0, 1].

    Raises:
        DataError: it cannot be read.
    """
    try:
        return image.to_tensor(image.load(path).pixels)
    except ImageError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"cannot read the picture {path}: {error}") from error


def _pictures(folder: Path, patterns: Sequence[str]) -> list[Path]:
    for pattern in patterns:
        places = [folder] if pattern == "." else sorted(path for path in folder.glob(pattern) if path.is_dir())
        files = [path for place in places for path in _pictures_in(place)]
        if files:
            return files
    raise DataError(f"no pictures in {folder}/{{{','.join(patterns)}}}; does the data set need another rule?")


def _published(hazy_files: Sequence[Path], twins: tuple[str, str]) -> list[Path]:
    """Leave out the folders of hazy pictures that lack the folder of their clear ones."""
    hazy, clear = twins
    alone = set()
    for folder in sorted({path.parent for path in hazy_files if path.parent.name.endswith(hazy)}):
        twin = folder.with_name(folder.name.removesuffix(hazy) + clear)
        if not twin.is_dir():
            log.warning("left out: %s, whose clear pictures, %s, are not there", folder, twin.name)
            alone.add(folder)
    return [path for path in hazy_files if path.parent not in alone]


def _pictures_in(folder: Path) -> list[Path]:
    try:
        return photo_files(folder)
    except DataError:
        return []


def _scenes(path: Path, keys: Iterable[str]) -> list[str]:
    matches = [re.fullmatch(key, path.stem) for key in keys]
    return [match[1] for match in matches if match]


def _by_scene(files: Sequence[Path], keys: Sequence[str]) -> dict[str, list[Path]]:
    scenes: dict[str, list[Path]] = {}
    for path in files:
        for scene in _scenes(path, keys)[:1]:
            scenes.setdefault(scene, []).append(path)
    return scenes


def _partner(hazy: Path, keys: Sequence[str], clear: Mapping[str, Sequence[Path]]) -> Path | None:
    for scene in _scenes(hazy, keys):
        found = clear.get(scene, [])
        if len(found) > 1:
            raise DataError(
                f"{hazy.name} has {len(found)} clear pictures, expected one: {listed([str(p) for p in found])}"
            )
        if found:
            return found[0]
    return None


def _refuse_alone(alone: Sequence[str], folder: Path, clear_files: Sequence[Path]) -> None:
    if alone:
        there = listed([path.name for path in clear_files])
        raise DataError(
            f"no clear picture for {listed(alone)} in {folder}; clear pictures there: {there}. "
            f"Name the data set's rule, one of {', '.join(DATA_SETS)}, or list the pairs in a TSV file"
        )


def _row_pair(file: Path, number: int, row: Sequence[str]) -> Pair:
    if len(row) not in (2, 3) or not all(row):
        raise DataError(f"{file}, line {number}: expected hazy<TAB>clear or hazy<TAB>clear<TAB>name, got {row}")
    hazy, clear = file.parent / row[0], file.parent / row[1]
    return Pair(row[2] if len(row) == 3 else hazy.stem, hazy, clear)


def _named(pairs: Sequence[Pair], source: Path) -> list[Pair]:
    if not pairs:
        raise DataError(f"no pair of pictures in {source}")
    twice = [name for name, count in Counter(pair.name for pair in pairs).items() if count > 1]
    if twice:
        raise DataError(f"names must be unique, but in {source} these are not: {listed(twice)}")
    return sorted(pairs, key=lambda pair: pair.name)
