"""The house rules: an import goes down the floors, never up; the public names are these."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import difflid

SOURCE = Path(difflid.__file__).parent
FLOORS = (
    ("errors", "files", "haze", "image", "places", "tiling"),
    ("prior", "network", "data", "metrics"),
    ("dehazer", "views", "zoo"),
    ("inference", "training", "evaluation", "study"),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("difflid"):
            parts = node.module.split(".")
            yield from parts[1:2] or (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("difflid."))


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down_the_floors(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in imported_rooms(path):
        if other != room and other in FLOOR:
            assert FLOOR[other] <= FLOOR[room], f"{room} imports {other} from a floor above"
            assert (room, other) != ("network", "prior")


def test_the_public_names() -> None:
    assert set(difflid.__all__) == {
        "ConfigError",
        "DataError",
        "Dehazer",
        "DifflidError",
        "ImageError",
        "MissingExtra",
        "ModelError",
        "Restoration",
        "TrainingError",
        "VideoError",
        "__version__",
        "dehaze",
        "dehaze_frames",
    }
    assert all(hasattr(difflid, name) for name in difflid.__all__)


def test_importing_the_package_does_not_import_torch() -> None:
    subprocess.run([sys.executable, "-c", "import difflid, sys; assert 'torch' not in sys.modules"], check=True)
