"""A snapshot file is whole or not there, whatever happens on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.snapshot.draft import Draft
from tests.support.snapshots import encode


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_it_is_there_once_it_is_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path, data = tmp_path / "a.snap", encode()
    path.write_text("the one before")
    with Draft(path) as draft:
        for start in range(0, len(data), 7):
            draft.write(data[start : start + 7])
        assert path.read_text() == "the one before"
        found = draft.finish()
    assert path.read_bytes() == data
    assert (path.stat().st_mode & 0o777, found.size_bytes) == (0o600, len(data))
    assert names(tmp_path) == ["a.snap"]


def test_what_is_not_sound_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.snap"
    path.write_text("the one before")
    with pytest.raises(SwarmError) as caught, Draft(path) as draft:
        draft.write(encode()[:-1])
        draft.finish()
    assert caught.value.code is Code.CORRUPT
    assert (names(tmp_path), path.read_text()) == (["a.snap"], "the one before")


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Draft(tmp_path / "a.snap") as draft:
        draft.write(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_place_that_is_no_place_for_it(tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(SwarmError) as caught, Draft(path):
            pass
        return caught.value.message

    assert refusal(tmp_path) == f"{tmp_path} is there and is not a file: choose another name"
    # As root the device would be renamed away otherwise.
    assert refusal(Path("/dev/full")) == "/dev/full is there and is not a file: choose another name"
    missing = tmp_path / "none" / "a.snap"
    assert refusal(missing) == f"cannot write {missing}: no such file or directory; nothing was saved"


def test_nobody_else_chooses_where_the_keys_go(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    bait.write_text("")
    (tmp_path / "a.snap.tmp").symlink_to(bait)
    with Draft(tmp_path / "a.snap") as draft:
        draft.write(encode())
        draft.finish()
    assert bait.read_text() == ""
