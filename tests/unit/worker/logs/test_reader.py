from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.clock import FakeClock
from tests.unit.worker.logs.test_file import texts
from worker.logs.file import LogFile, LogOptions
from worker.logs.format import Stream
from worker.logs.reader import LogCursor


async def fill(directory: Path, count: int, *, size_bytes: int = 500, files: int = 100) -> list[str]:
    """Write lines one second apart; return them."""
    clock = FakeClock(1000.0)
    log = LogFile(directory, LogOptions(max_size_bytes=size_bytes, max_files=files), clock)
    lines = [f"line {n}\n" for n in range(count)]
    for line in lines:
        log.append(Stream.STDOUT, [line.encode()])
        await clock.advance(1.0)
    log.close()
    return lines


async def test_the_tail_is_counted_across_files(tmp_path: Path) -> None:
    lines = await fill(tmp_path, 60)
    for tail in (0, 1, 7, 30, 59, 60, 1000):
        assert texts(tmp_path, tail=tail) == lines[len(lines) - min(tail, 60) :], tail
    assert texts(tmp_path) == lines


async def test_times_are_bounds(tmp_path: Path) -> None:
    lines = await fill(tmp_path, 60)
    assert texts(tmp_path, since=1050.0) == lines[50:]
    assert texts(tmp_path, until=1003.0) == lines[:4]
    assert texts(tmp_path, since=1010.0, until=1012.0) == lines[10:13]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert texts(tmp_path / "none", tail=3) == []
    assert texts(tmp_path / "none") == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30), st.integers(150, 600), st.integers(2, 5))
def test_following_neither_loses_nor_repeats_across_rotations(
    tmp_path_factory: object, bursts: list[int], size_bytes: int, files: int
) -> None:
    """Read after every burst; a burst that rotates everything away between two reads may lose, never repeat."""
    directory = tmp_path_factory.mktemp("log")  # type: ignore[attr-defined]  # pytest's factory
    log = LogFile(directory, LogOptions(max_size_bytes=size_bytes, max_files=files), FakeClock())
    written: list[str] = []
    read: list[str] = []
    with LogCursor(directory) as cursor:
        for burst in bursts:
            for _ in range(burst):
                written.append(f"{len(written)}\n")
                log.append(Stream.STDOUT, [written[-1].encode()])
            while lines := cursor.read():
                read += [line.data.decode() for line in lines]
    log.close()
    assert sorted(set(read), key=int) == read
    if max(bursts, default=0) * 40 < size_bytes * (files - 1):
        assert read == written


def test_a_reader_that_fell_behind_goes_on_with_the_oldest(tmp_path: Path) -> None:
    log = LogFile(tmp_path, LogOptions(max_size_bytes=100, max_files=2), FakeClock())
    log.append(Stream.STDOUT, [b"0\n"])
    with LogCursor(tmp_path) as cursor:
        assert [line.data for line in cursor.read()] == [b"0\n"]
        for number in range(1, 50):
            log.append(Stream.STDOUT, [f"{number}\n".encode()])
        read = []
        while lines := cursor.read():
            read += [int(line.data) for line in lines]
    log.close()
    assert read == sorted(set(read))
    assert read[-1] == 49
