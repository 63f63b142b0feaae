"""The words of Raft that the core, the log on disk and the driver share; all of them immutable values.

Members are unsigned 64-bit integers above 0; 0 means "nobody". Terms and indexes start at 1; 0 means "none".
What is stored (`Entry`, `HardState`, `ConfState`, `SnapshotMark`) may gain fields with defaults, no more.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

NOBODY: Final = 0


class EntryKind(enum.IntEnum):
    """What an entry's data is. The value is on disk."""

    NORMAL = 0  # a proposal's data, opaque to Raft
    CONF_CHANGE = 1  # a change of the members
    NOOP = 2  # a leader's first entry: commits what earlier terms left


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One place in the log; `(term, index)` names it for ever."""

    term: int
    index: int
    kind: EntryKind
    data: bytes


class HardState(msgspec.Struct, frozen=True, gc=False):
    """What a member must never forget. `commit` alone may be stored late: it is only a hint at start."""

    term: int = 0
    vote: int = NOBODY
    commit: int = 0


class ConfState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The members, in etcd's terms: `voters_outgoing` is not empty while a joint change is under way."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


class SnapshotMark(msgspec.Struct, frozen=True):
    """Where a snapshot stands: the state after applying `index`, and the members at that point."""

    index: int = 0
    term: int = 0
    conf: ConfState = ConfState()


class Role(enum.Enum):
    """What a member is at the moment."""

    FOLLOWER = "follower"
    LEADER = "leader"


class Message(msgspec.Struct, frozen=True):
    """What one member says to another. Only the envelope: a single voter has nobody to talk to."""

    sender: int
    to: int
    term: int


class Leadership(msgspec.Struct, frozen=True):
    """Who leads. `is_leader` is said only behind the leader's own NOOP: all that is committed was applied."""

    is_leader: bool
    term: int
    leader_id: int


class Ready(msgspec.Struct, frozen=True):
    """What the driver does next, in this order, before it calls `advance()`.

    1. Store `hard_state` and `entries`; sync them where `must_sync` says so.
    2. Send `messages`.
    3. Apply `committed`, then tell `leadership`.
    """

    hard_state: HardState | None
    entries: tuple[Entry, ...]
    must_sync: bool
    messages: tuple[Message, ...]
    committed: tuple[Entry, ...]
    leadership: Leadership | None


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose log this is."""

    cluster_id: str
    member_id: int


class Commit(msgspec.Struct, frozen=True, gc=False):
    """Where a proposal ended up."""

    index: int
    term: int


class Status(msgspec.Struct, frozen=True):
    """A member's state for people and metrics.

    `log_bytes` is the space of the log's segments on disk, preallocated space included. `log_full` is the sentence
    that says why writes are refused, or None.
    """

    member_id: int
    role: Role
    term: int
    leader_id: int
    first_index: int
    last_index: int
    commit_index: int
    applied_index: int
    log_bytes: int
    log_segments: int
    snapshot: SnapshotMark
    log_full: str | None
