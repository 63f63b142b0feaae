from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from worker.network.nft.attributes import NLM_F_ACK, each, messages, number, parse, string
from worker.network.nft.batch import BATCH_BEGIN, BATCH_END, SUBSYSTEM, Batch, Element, Field, Kind, Set, split
from worker.network.nft.dump import comment, decode_element
from worker.network.nft.expressions import ACCEPT, Counter, Ct, CtKey, DestinationNat, Masquerade, Outcome, Verdict
from worker.network.nft.layout import Links, add_layout


def test_a_batch_is_one_datagram_with_numbers_in_order() -> None:
    batch = Batch()
    batch.add_table("t", "a comment")
    batch.add_chain("t", "c")
    found = list(messages(batch.encode(41)))
    assert [header.sequence for header, _ in found] == [41, 42, 43, 44]
    kinds = [BATCH_BEGIN, SUBSYSTEM | Kind.NEW_TABLE, SUBSYSTEM | Kind.NEW_CHAIN, BATCH_END]
    assert [header.type for header, _ in found] == kinds
    assert [bool(header.flags & NLM_F_ACK) for header, _ in found] == [False, False, True, False]
    # The resource of begin and end is the subsystem, in network order.
    assert found[0][1] == bytes((0, 0, 0, 10))
    row = parse(found[1][1][4:])
    assert string(row[1]) == "t"
    assert comment(row[6]) == "a comment"


def test_a_rule_as_bytes() -> None:
    batch = Batch()
    batch.add_rule("t", "c", Masquerade())
    assert batch.requests[0].payload.hex() == (
        "0600010074000000"  # table t
        "0600020063000000"  # chain c
        "18000480"  # expressions
        "14000180"  # one
        "090001006d61737100000000"  # named masq
        "04000280"  # without attributes
    )


def test_flags_are_left_out_where_they_are_none() -> None:
    assert parse(DestinationNat().attributes()).keys() == {1, 2, 3}
    assert parse(DestinationNat(1, 9, flags=8).attributes()).keys() == {1, 2, 3, 5, 7}
    assert parse(Ct(CtKey.STATE).attributes()).keys() == {1, 2}
    assert [number(parse(Ct(CtKey.STATE, original=way).attributes())[3]) for way in (True, False)] == [0, 1]
    assert parse(Masquerade(flags=4).attributes()).keys() == {1}


def test_where_a_rule_goes() -> None:
    batch = Batch()
    for after in (None, 0, 7):
        batch.add_rule("t", "c", Counter(), ACCEPT, after=after)
    appended, first, behind = batch.requests
    assert (appended.flags & 0x800, first.flags & 0x800, behind.flags & 0x800) == (0x800, 0, 0x800)
    assert number(parse(behind.payload)[6]) == 7
    assert 6 not in parse(first.payload)


def test_sets_say_what_they_hold() -> None:
    batch = Batch()
    batch.add_set("t", Set("plain", (Field.INTERFACE,)))
    batch.add_set("t", Set("map", (Field.ADDRESS, Field.PROTOCOL, Field.PORT), (Field.ADDRESS, Field.PORT)))
    batch.add_set("t", Set("verdicts", (Field.ADDRESS,), verdict=True))
    batch.add_set("t", Set("ranges", (Field.ADDRESS,), interval=True))
    rows = [parse(request.payload) for request in batch.requests]
    assert [number(row[3]) for row in rows] == [0, 8, 8, 4]
    assert [number(row[5]) for row in rows] == [16, 12, 4, 4]
    assert number(rows[1][7]) == 8
    assert number(rows[2][6]) == 0xFFFFFF00
    assert len({row[10] for row in rows}) == 4
    assert 13 in rows[0]


def test_long_lists_are_split_over_messages() -> None:
    batch = Batch()
    elements = [Element(place.to_bytes(4, "big"), bytes(4)) for place in range(5000)]
    batch.add_elements("t", "m", elements)
    assert 2 < len(batch.requests) < 10
    found = [decode_element(value) for request in batch.requests for value in _elements(request.payload)]
    assert found == elements
    batch.encode(1)


def _elements(payload: bytes) -> list[bytes]:
    return [value for _, value in each(parse(payload)[3])]


def test_nothing_is_asked_for_no_elements() -> None:
    batch = Batch()
    batch.add_elements("t", "m", [])
    batch.delete_elements("t", "m", [])
    assert not batch


def test_split_keeps_what_is_too_large_alone() -> None:
    assert list(split([b"aa", b"bbbbb", b"c", b"d"], 3)) == [[b"aa"], [b"bbbbb"], [b"c", b"d"]]
    assert list(split([], 3)) == []


def test_a_comment_has_a_longest_length() -> None:
    batch = Batch()
    batch.add_table("t", "c" * 253)
    with pytest.raises(ValueError, match="at most 253 bytes, not 254"):
        batch.add_table("t", "c" * 254)


def test_what_a_request_does_is_said() -> None:
    batch = Batch()
    add_layout(batch, "t", Links("sp", IPv4Network("172.18.0.0/20")))
    said = [request.what for request in batch.requests]
    assert said[:3] == ["add table t", "add set published to table t", "add set published_any to table t"]
    assert "add a rule to chain forward of table t" in said


def test_verdicts_name_their_chain() -> None:
    element = Element(bytes(4), Verdict(Outcome.GOTO, "there"))
    assert decode_element(parse(element.encode())[1]) == element
