"""Messages survive the wire, and what no member sends is refused there."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.raft.transport import wire
from manager.raft.types import ConfState, Entry, EntryKind, Message, MessageKind, SnapshotMark
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import Code, SwarmError

numbers = st.integers(0, 2**64 - 1)
terms = st.integers(0, 2**63)
members = st.integers(1, 2**64 - 1)
ids = st.lists(members, max_size=4).map(tuple)
confs = st.builds(ConfState, st.lists(members, min_size=1, max_size=4).map(tuple), ids, ids, ids, st.booleans())
marks = st.builds(SnapshotMark, st.integers(1, 2**64 - 1), numbers, confs)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(MessageKind))
    index, log_term, term = draw(st.integers(0, 2**63)), draw(terms), draw(terms)
    entries: tuple[Entry, ...] = ()
    if kind is MessageKind.APPEND:
        rises = sorted(draw(st.lists(st.integers(log_term, log_term + 10), max_size=4)))
        term = max(term, *rises, log_term)
        kinds = [draw(st.sampled_from(EntryKind)) for _ in rises]
        datas = [draw(st.binary(max_size=40)) for _ in rises]
        entries = tuple(Entry(t, index + 1 + n, kinds[n], datas[n]) for n, t in enumerate(rises))
    return Message(
        kind, draw(members), draw(members), term, log_term, index, draw(numbers), entries, draw(st.booleans()),
        draw(numbers), draw(st.booleans()), draw(st.binary(max_size=32)),
        draw(marks) if kind is MessageKind.SNAPSHOT else None, draw(numbers),
    )  # fmt: skip


def test_every_field_of_a_message_has_its_place_on_the_wire() -> None:
    on_the_wire = {field.name for field in pb.RaftMessage.DESCRIPTOR.fields}
    assert {field.name for field in msgspec.structs.fields(Message)} == on_the_wire


@given(st.lists(messages(), max_size=4))
def test_a_batch_comes_back_as_it_was(batch: list[Message]) -> None:
    assert wire.decode_batch(wire.encode_batch(batch)) == batch


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = wire.decode_batch(data)
    except SwarmError as error:
        assert error.code is Code.INVALID_ARGUMENT
    else:
        assert wire.decode_batch(wire.encode_batch(found)) == found


def append(**changes: object) -> pb.RaftMessage:
    message = pb.RaftMessage(kind=pb.RAFT_MESSAGE_KIND_APPEND, sender=1, to=2, term=5, log_term=3, index=7)
    message.entries.add(term=4, data=b"x")
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def unknown_entry() -> pb.RaftMessage:
    message = append()
    message.entries.add(term=4, kind=pb.RaftEntryKind.ValueType(77))  # what a newer release may send
    return message


def falling() -> pb.RaftMessage:
    message = append()
    message.entries.add(term=3)
    return message


def with_snapshot(index: int = 3) -> pb.RaftMessage:
    message = append(kind=pb.RAFT_MESSAGE_KIND_SNAPSHOT)
    del message.entries[:]
    message.snapshot.index = index
    return message


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (append(kind=0), "unknown kind 0"),
        (append(kind=99), "unknown kind 99"),
        (unknown_entry(), "unknown kind 77"),
        (append(sender=0), "from member 0"),
        (append(to=0), "to member 0"),
        (append(context=bytes(100)), "context of 100 bytes"),
        (append(kind=pb.RAFT_MESSAGE_KIND_VOTE), "with entries"),
        (append(term=2), "of term 4"),
        (falling(), "of term 3"),
        (with_snapshot(), "with the voters"),
        (with_snapshot(0), "entry 0"),
        (pb.RaftMessage(kind=pb.RAFT_MESSAGE_KIND_SNAPSHOT, sender=1, to=2), "or one without"),
    ],
)
def test_what_no_member_sends_is_refused(message: pb.RaftMessage, sentence: str) -> None:
    with pytest.raises(SwarmError, match=sentence) as caught:
        wire.from_proto(message)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_every_kind_has_its_number_on_the_wire() -> None:
    names = {value.name: value.number for value in pb.RaftMessageKind.DESCRIPTOR.values}
    assert {f"RAFT_MESSAGE_KIND_{kind.name}": int(kind) for kind in MessageKind}.items() <= names.items()
    assert len(names) == len(MessageKind) + 1
    names = {value.name: value.number for value in pb.RaftEntryKind.DESCRIPTOR.values}
    assert names == {f"RAFT_ENTRY_KIND_{kind.name}": int(kind) for kind in EntryKind}
