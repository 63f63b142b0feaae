from __future__ import annotations

import pytest

from worker.dataplane.dns import wire
from worker.dataplane.dns.wire import Edns, Query, RCode, Refusal

NAME = b"\x03Web\x05swarm\x00"
TAIL = b"\x00\x01\x00\x01"
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"


def packet(rest: bytes = NAME + TAIL, *, flags: int = 0, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return b"\x12\x34" + flags.to_bytes(2, "big") + b"".join(n.to_bytes(2, "big") for n in counts) + rest


def test_a_query_is_read() -> None:
    got = wire.parse(packet(NAME + TAIL + OPT, counts=(1, 0, 0, 1), flags=0x0100))
    assert got == Query(0x0100, (b"web", b"swarm"), 1, 1, 12 + 11 + 4, Edns(0, 1232, True, False))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (packet(b""), "no question"),
        (packet(NAME + b"\x00\x01"), "question cut off"),
        (packet(NAME[:-1]), "name without end"),
        (packet(b"\xc0\x0c" + TAIL), "pointer to itself"),
        (packet(b"\x40" + b"a" * 64 + b"\x00" + TAIL), "label of 64"),
        (packet(b"\x3fa" * 2 + TAIL), "label cut off"),
        (packet((b"\x3f" + b"a" * 63) * 4 + b"\x00" + TAIL), "name over 255"),
        (packet(counts=(0, 0, 0, 0)), "no question counted"),
        (packet(counts=(2, 0, 0, 0)), "two questions"),
        (packet(counts=(1, 1, 0, 0)), "an answer in a query"),
        (packet(counts=(1, 0, 0, 1)), "additional missing"),
        (packet(NAME + TAIL + OPT + OPT, counts=(1, 0, 0, 2)), "two OPT records"),
        (packet(NAME + TAIL + b"\x01a" + OPT, counts=(1, 0, 0, 1)), "OPT below the root"),
        (packet(NAME + TAIL + OPT[:-2] + b"\x00\x09", counts=(1, 0, 0, 1)), "OPT data cut off"),
        (packet(NAME + TAIL + b"x"), "bytes at the end"),
        (packet()[:11], "header cut off"),
        (packet()[:4], "no more than id and flags"),
    ],
)
def test_what_is_malformed_is_a_format_error(data: bytes, why: str) -> None:
    assert wire.parse(data) == Refusal(RCode.FORMERR), why


def test_what_may_be_a_response_is_never_answered() -> None:
    assert wire.parse(packet(flags=0x8000)) is None
    assert wire.parse(b"\x12\x34\x00") is None
    assert wire.parse(b"") is None


def test_other_operations_are_not_implemented_even_if_malformed_as_queries() -> None:
    assert wire.parse(packet(b"", flags=0x2800)) == Refusal(RCode.NOTIMP)


def test_the_longest_name_is_taken() -> None:
    longest = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\x00"
    got = wire.parse(packet(longest + TAIL))
    assert isinstance(got, Query)
    assert len(got.labels) == 4
