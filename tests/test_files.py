import hashlib
import os
from pathlib import Path

import pytest

from difflid.files import sha256, unfinished, whole


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")
    with whole(target) as part:
        assert part.suffix == ".txt"
        part.write_text("after")
        assert target.read_text() == "before"
    assert target.read_text() == "after"
    assert list(tmp_path.iterdir()) == [target]


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with whole(target) as one, whole(target) as two:
        one.write_text("first")
        two.write_text("second")
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("stem", ["a" * 251, "霧" * 83])
def test_a_name_may_be_as_long_as_the_file_system_lets_it(tmp_path: Path, stem: str) -> None:
    with whole(tmp_path / f"{stem}.txt") as part:
        part.write_text("whole")
    assert (tmp_path / f"{stem}.txt").read_text() == "whole"


def test_what_is_unfinished_is_found(tmp_path: Path) -> None:
    film, other = tmp_path / f"[1]{'a' * 60}.mp4", tmp_path / "[1]a.mp4"
    with whole(film) as part, whole(other) as another:
        part.touch()
        another.touch()
        os.utime(part, ns=(0, 5))
        assert unfinished(film) == {part: 5}
        assert [*unfinished(other)] == [another]
    assert unfinished(film) == unfinished(tmp_path / "none" / "a.mp4") == {}


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_or_not_at_all(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")

    def break_off() -> None:
        with whole(target) as part:
            part.write_text("aft")
            raise failure

    with pytest.raises(failure):
        break_off()
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"haze")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"haze").hexdigest()
