from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.logs.format import LONGEST_LINE_BYTES, LineSplitter, LogLine, Stream, decode, encode


def test_lines_read_well() -> None:
    piece = b"x" * LONGEST_LINE_BYTES
    block = encode(1_785_000_000.25, Stream.STDERR, [b"hello world\n", piece])
    head = b"2026-07-25T17:20:00.250000Z stderr"
    assert block == head + b" F hello world\n" + head + b" P " + piece + b"\n"
    assert decode(block.split(b"\n")[0]) == LogLine(1_785_000_000.25, Stream.STDERR, b"hello world\n")


def test_damaged_lines_are_nothing() -> None:
    for line in (b"", b"half", b"x stdout F y", b"2026-07-25T17:20:00.250000Z stdlog F y"):
        assert decode(line) is None


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"x", b"\n"))))
def test_whatever_the_pieces_the_bytes_come_out(pieces: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    whole = b"".join(pieces)
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)
    rest = b"".join(splitter.flush())
    assert b"".join(lines) + rest == whole + (b"" if whole.endswith(b"\n") or not whole else b"\n")


@given(st.integers(0, 3 * LONGEST_LINE_BYTES), st.integers(1, 2 * LONGEST_LINE_BYTES))
def test_long_lines_are_cut(length: int, step: int) -> None:
    splitter = LineSplitter()
    data = b"y" * length + b"\n"
    pieces = [p for i in range(0, len(data), step) for p in splitter.feed(data[i : i + step])]
    assert b"".join(pieces) == data
    assert all(len(p) <= LONGEST_LINE_BYTES for p in pieces[:-1])
    assert [decode(s) for s in encode(0.0, Stream.STDOUT, pieces).split(b"\n")[:-1]] == [
        LogLine(0.0, Stream.STDOUT, p) for p in pieces
    ]
