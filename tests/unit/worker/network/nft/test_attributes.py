from __future__ import annotations

import pytest

from swarmpy.errors import Code, SwarmError
from worker.network.nft.attributes import (
    Header,
    attribute,
    each,
    message,
    messages,
    nested,
    number,
    parse,
    signed,
    string,
    text,
    u8,
    u16,
    u32,
    u64,
)


def test_values_are_padded_and_found_again() -> None:
    data = text(1, "web") + u8(2, 7) + u16(3, 80) + u32(4, -3) + u64(5, 1 << 40) + nested(6, text(1, "inner"))
    assert len(data) % 4 == 0
    row = parse(data)
    assert string(row[1]) == "web"
    assert [number(row[kind]) for kind in (2, 3, 5)] == [7, 80, 1 << 40]
    assert signed(row[4]) == -3
    assert string(parse(row[6])[1]) == "inner"
    assert [kind for kind, _ in each(data)] == [1, 2, 3, 4, 5, 6]


def test_bytes_are_those_of_the_protocol() -> None:
    # Little-endian lengths and types as on the machines that we run on; values in network order.
    assert text(1, "a").hex() == "0600010061000000"
    assert u32(2, 80).hex() == "0800020000000050"
    assert nested(3, u8(1, 6)).hex() == "0c0003800500010006000000"
    assert message(Header(0xA06, 1, 9), 2, b"", 0).hex() == "14000000060a010009000000000000000200" + "0000"


def test_a_value_that_does_not_fit_is_refused() -> None:
    attribute(1, bytes(0xFFFF - 4))
    with pytest.raises(ValueError, match="at most 65531 bytes, not 65532"):
        attribute(1, bytes(0xFFFF - 3))


@pytest.mark.parametrize("data", [b"\xff\x00\x01\x00", b"\x03\x00\x01\x00"])
def test_a_length_that_cannot_be_is_said(data: bytes) -> None:
    with pytest.raises(SwarmError, match="cannot be read: an attribute of") as wrong:
        parse(data)
    assert wrong.value.code == Code.CORRUPT


def test_messages_of_one_datagram() -> None:
    data = message(Header(1, 2, 3), 2, text(1, "x")) + message(Header(4, 5, 6), 0, b"")
    found = list(messages(data))
    assert [header for header, _ in found] == [Header(1, 2, 3), Header(4, 5, 6)]
    assert string(parse(found[0][1][4:])[1]) == "x"
    with pytest.raises(SwarmError, match="a message of"):
        list(messages(data[:-4]))
