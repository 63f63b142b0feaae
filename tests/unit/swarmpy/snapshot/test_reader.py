"""A snapshot file comes back as it was written, and whatever is not as it was written is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.snapshot.format import MAGIC, START, start_crc
from swarmpy.snapshot.reader import SnapshotFile
from tests.support.snapshots import HEADER, encode, write


def refusal(path: Path) -> SwarmError:
    with pytest.raises(SwarmError) as caught, SnapshotFile(path) as file:
        file.verify()
    return caught.value


@pytest.mark.parametrize("chunks", [[], [b""], [b"a", b"", b"b" * 100_000]])
def test_it_comes_back_chunk_by_chunk(tmp_path: Path, chunks: list[bytes]) -> None:
    path = write(tmp_path / "a.snap", chunks)
    with SnapshotFile(path) as file:
        assert file.header == HEADER
        assert list(file.chunks()) == chunks
    with SnapshotFile(path) as file:
        found = file.verify()
    assert (found.size_bytes, len(found.sha256)) == (path.stat().st_size, 64)


def test_it_is_cut_off_wherever_it_is_cut(tmp_path: Path) -> None:
    path, sound = tmp_path / "a.snap", encode()
    for cut in range(len(sound)):
        path.write_bytes(sound[:cut])
        error = refusal(path)
        assert error.code is Code.CORRUPT
        assert error.message == (
            f"{path} is cut off after {cut} bytes: it was not copied whole; use another copy of it, or another snapshot"
        )


def test_every_flipped_bit_is_found_with_its_place(tmp_path: Path) -> None:
    path, sound = tmp_path / "a.snap", encode()
    for at in range(len(sound)):
        flipped = bytearray(sound)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        error = refusal(path)
        if at < len(MAGIC):
            assert error.message == f"{path} is not a swarmpy snapshot: it begins otherwise"
            continue
        assert error.code is Code.CORRUPT
        damaged = re.fullmatch(rf"{path} is damaged at byte (\d+): .*; use another copy of it, .*", error.message)
        cut_off = re.fullmatch(rf"{path} is cut off after {len(sound)} bytes: .*", error.message)
        assert cut_off or (damaged and int(damaged[1]) <= at), error.message


def test_what_stands_behind_the_end_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.snap"
    sound = encode()
    path.write_bytes(sound + b"more")
    assert refusal(path).message.startswith(
        f"{path} is damaged at byte {len(sound)}: something stands behind its end; "
    )


def test_chunks_that_change_places_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.snap"
    one, two = encode([b"xxx", b"yyy"]), encode([b"yyy", b"xxx"])
    assert len(one) == len(two)
    path.write_bytes(two[:-60] + one[-60:])
    assert "the checksum of the whole is wrong" in refusal(path).message


def test_a_newer_format_names_both(tmp_path: Path) -> None:
    path = tmp_path / "a.snap"
    path.write_bytes(START.pack(MAGIC, 2, start_crc(2)) + b"whatever a later release writes")
    error = refusal(path)
    assert (error.code, error.message) == (
        Code.FAILED_PRECONDITION,
        f"{path} has snapshot format 2, this swarmpy reads up to format 1: use the release that wrote it, "
        "or a newer one",
    )


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").message == f"cannot read {tmp_path / 'none'}: no such file or directory"
    assert refusal(tmp_path).message == f"cannot read {tmp_path}: is a directory"
    other = tmp_path / "notes.txt"
    other.write_text("shopping list")
    assert refusal(other).message == f"{other} is not a swarmpy snapshot: it begins otherwise"
