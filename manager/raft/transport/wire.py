"""Raft's words on the wire: messages to protobuf and back. Nothing here trusts what it reads.

What cannot be, such as an APPEND whose terms go down, is refused here, so that the core only meets messages that a
member could have sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from manager.raft.types import ConfState, Entry, EntryKind, Message, MessageKind, SnapshotMark
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import invalid

MAX_CONTEXT_BYTES: Final = 64
_KINDS: Final = {int(kind): kind for kind in MessageKind}
_ENTRY_KINDS: Final = {int(kind): kind for kind in EntryKind}


def encode_batch(messages: Iterable[Message]) -> bytes:
    """Return a batch of messages as it goes out."""
    return pb.RaftBatch(messages=[to_proto(message) for message in messages]).SerializeToString()


def decode_batch(data: bytes) -> list[Message]:
    """Return the messages of a batch.

    Raises:
        SwarmError: INVALID_ARGUMENT, these are not messages that a member sends.
    """
    try:
        batch = pb.RaftBatch.FromString(data)
    except DecodeError as error:
        raise invalid(f"a batch of {len(data)} bytes from another manager cannot be read: {error}") from error
    return [from_proto(message) for message in batch.messages]


def to_proto(message: Message) -> pb.RaftMessage:
    found = pb.RaftMessage(
        kind=pb.RaftMessageKind.ValueType(message.kind),
        sender=message.sender,
        to=message.to,
        term=message.term,
        log_term=message.log_term,
        index=message.index,
        commit=message.commit,
        reject=message.reject,
        reject_index=message.reject_index,
        forced=message.forced,
        context=message.context,
        commit_term=message.commit_term,
    )
    if message.entries:
        found.entries.extend([pb.RaftEntry(term=e.term, kind=_entry_kind(e), data=e.data) for e in message.entries])
    if message.snapshot is not None:
        found.snapshot.CopyFrom(_mark_to_proto(message.snapshot))
    return found


def from_proto(message: pb.RaftMessage) -> Message:
    """Return the message.

    Raises:
        SwarmError: INVALID_ARGUMENT, no member sends such a message.
    """
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise invalid(f"a message of Raft of the unknown kind {message.kind}: bring all managers to one release")
    if len(message.context) > MAX_CONTEXT_BYTES:
        raise invalid(f"a message of Raft with a context of {len(message.context)} bytes")
    found = Message(
        kind,
        message.sender,
        message.to,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        _entries(message) if message.entries else (),
        message.reject,
        message.reject_index,
        message.forced,
        message.context,
        _mark_from_proto(message.snapshot) if message.HasField("snapshot") else None,
        message.commit_term,
    )
    _check(found)
    return found


def _entries(message: pb.RaftMessage) -> tuple[Entry, ...]:
    try:
        return tuple(
            Entry(entry.term, index, _ENTRY_KINDS[entry.kind], entry.data)
            for index, entry in enumerate(message.entries, message.index + 1)
        )
    except KeyError as error:
        raise invalid(f"an entry of the unknown kind {error}: bring all managers to one release") from None


def _check(message: Message) -> None:
    if not message.sender or not message.to:
        raise invalid(f"a message of Raft from member {message.sender} to member {message.to}")
    if message.entries:
        if message.kind is not MessageKind.APPEND:
            raise invalid(f"a message of kind {message.kind.name} with entries")
        _check_terms(message.log_term, message.entries, message.term)
    if (message.snapshot is not None) != (message.kind is MessageKind.SNAPSHOT):
        raise invalid(f"a message of kind {message.kind.name} with a snapshot, or one without")


def _check_terms(before: int, entries: Sequence[Entry], most: int) -> None:
    for entry in entries:
        if not before <= entry.term <= most:
            raise invalid(f"entry {entry.index} of term {entry.term} between terms {before} and {most}")
        before = entry.term


def _entry_kind(entry: Entry) -> pb.RaftEntryKind.ValueType:
    return pb.RaftEntryKind.ValueType(entry.kind)


def _mark_to_proto(mark: SnapshotMark) -> pb.SnapshotMark:
    conf = mark.conf
    return pb.SnapshotMark(
        index=mark.index,
        term=mark.term,
        conf=pb.ConfState(
            voters=conf.voters,
            learners=conf.learners,
            voters_outgoing=conf.voters_outgoing,
            learners_next=conf.learners_next,
            auto_leave=conf.auto_leave,
        ),
    )


def _mark_from_proto(mark: pb.SnapshotMark) -> SnapshotMark:
    conf = mark.conf
    parts = (conf.voters, conf.learners, conf.voters_outgoing, conf.learners_next)
    voters, learners, outgoing, following = (tuple(part) for part in parts)
    if not mark.index or not voters:
        raise invalid(f"a snapshot at entry {mark.index} with the voters {voters}")
    return SnapshotMark(mark.index, mark.term, ConfState(voters, learners, outgoing, following, conf.auto_leave))
