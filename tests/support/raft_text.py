"""Raft's messages, entries and changes as text for people: what scenario files are written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from manager.raft import confchange
from manager.raft.confchange import Configuration
from manager.raft.types import (
    ConfChange,
    ConfChangeKind,
    ConfState,
    Entry,
    EntryKind,
    MemberChange,
    Message,
    MessageKind,
    SnapshotMark,
    Transition,
)

KINDS = {
    "v": ConfChangeKind.ADD_VOTER,
    "l": ConfChangeKind.ADD_LEARNER,
    "r": ConfChangeKind.REMOVE,
    "u": ConfChangeKind.UPDATE,
}
LETTERS = {kind: letter for letter, kind in KINDS.items()}
TRANSITIONS = {
    "auto": Transition.AUTO,
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
}
VOTE_RESPONSES = (MessageKind.VOTE_RESPONSE, MessageKind.PRE_VOTE_RESPONSE)


def changes_of(words: list[str]) -> tuple[MemberChange, ...]:
    """Return what `v3` (add voter 3), `l3` (make it a learner), `r3` (remove) and `u3` (update) mean."""
    return tuple(MemberChange(KINDS[word[0]], int(word[1:])) for word in words)


def conf_text(conf: ConfState) -> str:
    return str(Configuration.from_conf_state(conf))


def change_text(change: ConfChange) -> str:
    if confchange.leaves_joint(change):
        return "leave-joint"
    words = [f"{LETTERS[c.kind]}{c.member_id}" for c in change.changes]
    words += [name for name, transition in TRANSITIONS.items() if transition is change.transition and name != "auto"]
    return " ".join(words)


def entry_text(entry: Entry) -> str:
    """Return `term/index` and what is in it."""
    if entry.kind is EntryKind.CONF_CHANGE:
        what = f"CONF {change_text(confchange.decode(entry.data))}"
    else:
        what = "NOOP" if entry.kind is EntryKind.NOOP else entry.data.decode()
    return f"{entry.term}/{entry.index} {what}"


def message_text(message: Message) -> str:
    """Return sender, receiver, kind, term and what else means something in a message of its kind."""
    head = f"{message.sender}->{message.to} {message.kind.name} term={message.term}"
    return " ".join([head, *_details(message), *(["forced"] if message.forced else [])])


def message_of(pair: str, kind: str, words: Sequence[str]) -> Message:
    """Return the message that a line describes, with the names of `Message`.

    `entries=5/8,5/9` have some data, and `snapshot=5/9:1,2` is one at an entry, with these voters.
    """
    sender, to = pair.split("->")
    given: dict[str, object] = {"kind": MessageKind[kind].value, "sender": sender, "to": to}
    for word in words:
        name, _, value = word.partition("=")
        assert name in Message.__struct_fields__, f"messages have no {name}"
        given[name] = _PARTS.get(name, str)(value)
    return msgspec.convert(given, Message, strict=False)


def _entries_of(value: str) -> list[Entry]:
    places = [place.split("/") for place in value.split(",")]
    return [Entry(int(term), int(index), EntryKind.NORMAL, b"x") for term, index in places]


def _mark_of(value: str) -> SnapshotMark:
    place, _, voters = value.partition(":")
    term, index = place.split("/")
    return SnapshotMark(int(index), int(term), ConfState(tuple(int(voter) for voter in voters.split(",") if voter)))


_PARTS: Final[Mapping[str, Callable[[str], object]]] = {
    "entries": _entries_of,
    "snapshot": _mark_of,
    "context": str.encode,
}


def _details(message: Message) -> list[str]:
    kind = message.kind
    context = _context(message)
    if kind is MessageKind.APPEND:
        entries = f"[{', '.join(entry_text(e) for e in message.entries)}]"
        return [f"after={message.log_term}/{message.index} commit={message.commit} {entries}"]
    if kind is MessageKind.APPEND_RESPONSE and message.reject:
        return [f"refused={message.index} hint={message.log_term}/{message.reject_index}"]
    if kind in (MessageKind.APPEND_RESPONSE, MessageKind.READ_INDEX_RESPONSE):
        return [f"index={message.index}", *context]
    if kind is MessageKind.HEARTBEAT:
        return [f"commit={message.commit}", *context]
    if kind in (MessageKind.VOTE, MessageKind.PRE_VOTE):
        return [f"log={message.log_term}/{message.index}"]
    if kind in VOTE_RESPONSES:
        return ["refused" if message.reject else "granted"]
    if kind is MessageKind.SNAPSHOT and message.snapshot is not None:
        mark = message.snapshot
        return [f"at={mark.term}/{mark.index} {conf_text(mark.conf)}"]
    return context


def _context(message: Message) -> list[str]:
    """A heartbeat carries the number of a round of reads, a question what its asker made up."""
    if not message.context:
        return []
    if message.kind in (MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_RESPONSE):
        return [f"round={int.from_bytes(message.context, 'big')}"]
    return [f"context={message.context.decode()}"]
