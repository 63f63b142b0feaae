"""Docker's JSON lines beside our own text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from worker.logs.format import LONGEST_LINE_BYTES, LogLine, Stream
from worker.logs.layouts import JSON, LAYOUTS, LOCAL, decode_json, encode_json

AT = 1_785_000_000.25


def test_json_is_what_docker_writes() -> None:
    block = encode_json(AT, Stream.STDERR, [b'say "hi"\n', b"\xff\n"])
    first, second = map(json.loads, block.splitlines())
    assert first == {"log": 'say "hi"\n', "stream": "stderr", "time": "2026-07-25T17:20:00.250000000Z"}
    assert second["log"] == "\ufffd\n"


def test_lines_that_docker_wrote_are_read() -> None:
    line = b'{"log":"a\\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-07-25T17:20:00.250123456Z"}'
    assert decode_json(line) == LogLine(AT + 0.000123, Stream.STDOUT, b"a\n")


def test_damaged_lines_are_nothing() -> None:
    for line in (b"", b"{", b"[]", b'{"log":"a","stream":"stdlog","time":"2026-07-25T17:20:00Z"}', b'{"log":"\xff"}'):
        assert decode_json(line) is None
    assert decode_json(b'{"log":"a","stream":"stdout","time":"yesterday"}') is None


@given(st.lists(st.text(max_size=30).map(lambda t: t.replace("\n", "") + "\n"), min_size=1), st.sampled_from(LAYOUTS))
def test_what_is_stored_is_read(lines: list[str], layout: object) -> None:
    assert layout in (JSON, LOCAL)
    chosen = JSON if layout is JSON else LOCAL
    pieces = [line.encode() for line in lines]
    stored = chosen.encode(AT, Stream.STDOUT, pieces)
    assert stored.count(b"\n") == len(lines)
    assert [chosen.decode(s) for s in stored.split(b"\n")[:-1]] == [LogLine(AT, Stream.STDOUT, p) for p in pieces]


def test_a_piece_of_a_long_line_stays_one() -> None:
    piece = b"x" * LONGEST_LINE_BYTES
    assert decode_json(encode_json(AT, Stream.STDOUT, [piece])[:-1]) == LogLine(AT, Stream.STDOUT, piece)
