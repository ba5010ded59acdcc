"""What a run tells: numbers, sheets of pictures, TensorBoard, a bar on a terminal."""

import io
import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difflid.cli.logs import progress_bar
from difflid.errors import MissingExtra
from difflid.training.journal import Journal, Sheet


def images_noted(run: Path) -> list[int]:
    return [json.loads(line)["images"] for line in (run / "stats.jsonl").read_text().splitlines()]


def test_what_was_noted_after_the_checkpoint_is_noted_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, images=0, tensorboard=False)
    for images in (8, 16, 24):
        journal.note({"images": images, "loss": 0.5})
    with (tmp_path / "stats.jsonl").open("a") as stream:
        stream.write('{"images": 3')  # the process was killed while it wrote
    Journal(tmp_path, images=16, tensorboard=False).note({"images": 32, "loss": 0.4})
    assert images_noted(tmp_path) == [8, 16, 32]


@pytest.mark.parametrize(
    "damage", [b'\0\0\0{"images": 12}', b"\xff\xfe}", b"{}", b"[1]", b'{"images": 3{"images": 12}']
)
def test_damaged_lines_are_taken_out(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "stats.jsonl").write_bytes(b'{"images": 8}\n' + damage)
    Journal(tmp_path, images=16, tensorboard=False).note({"images": 32, "loss": 0.4})
    assert images_noted(tmp_path) == [8, 32]


def test_a_sheet_shows_samples_row_by_row(tmp_path: Path) -> None:
    sheet = Sheet()
    sheet.add([torch.zeros(1, 3, 50, 100), torch.ones(1, 3, 50, 100)])
    sheet.add([torch.full((1, 3, 400, 400), 0.5)])
    Journal(tmp_path, images=0, tensorboard=False).show(sheet, 1200)
    with Image.open(tmp_path / "validation" / "00001200.jpg") as picture:
        assert picture.size == (800, 400)
        middles = [picture.getpixel(place)[0] for place in ((200, 100), (600, 100), (100, 300), (500, 300))]  # type: ignore[index]
    assert middles == pytest.approx([0, 255, 128, 0], abs=3)
    assert [path.name for path in (tmp_path / "validation").iterdir()] == ["00001200.jpg"]


def test_without_rows_there_is_no_sheet(tmp_path: Path) -> None:
    Journal(tmp_path, images=0, tensorboard=False).show(Sheet(), 8)
    assert not (tmp_path / "validation").exists()


def test_tensorboard_has_the_numbers_and_the_pictures(tmp_path: Path) -> None:
    journal = Journal(tmp_path, images=0, tensorboard=True)
    journal.note({"images": 8, "loss": 0.5, "images_per_second": 3.0})
    sheet = Sheet()
    sheet.add([torch.rand(1, 3, 20, 20)])
    journal.show(sheet, 8)
    journal.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(8, 0.5)]
    assert [event.step for event in events.Images("validation")] == [8]


def test_without_tensorboard_the_install_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'difflid\[tensorboard\]'"):
        Journal(tmp_path, images=0, tensorboard=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_a_bar_is_shown_on_a_terminal(stream: io.StringIO, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(100) as progress:
        progress(40)
        logging.getLogger("difflid").warning("a line")
        progress(100)
    assert ("100/100" in stream.getvalue()) == shown
    assert ("img/s" in stream.getvalue()) == shown
