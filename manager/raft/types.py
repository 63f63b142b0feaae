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
    """What a member is at the moment. A learner is a follower that no quorum counts."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class ConfChangeKind(enum.IntEnum):
    """What happens to one member. The value is on disk."""

    ADD_VOTER = 0  # also makes a voter of a learner
    REMOVE = 1
    UPDATE = 2  # changes nobody's part; kept so that its number is taken
    ADD_LEARNER = 3  # also makes a learner of a voter


class Transition(enum.IntEnum):
    """How a change goes through. The value is on disk."""

    AUTO = 0  # simple if it is one change of the voters at most, else joint and left by itself
    JOINT_IMPLICIT = 1  # joint, left by itself once the joint configuration is applied
    JOINT_EXPLICIT = 2  # joint, left by a change without members


class MemberChange(msgspec.Struct, frozen=True, gc=False):
    """What happens to one member."""

    kind: ConfChangeKind
    member_id: int


class ConfChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a CONF_CHANGE entry (MessagePack). No `changes` and AUTO: leave the joint configuration.

    `base` is who the members were before it; the leader that appends the entry fills it in. A member that begins
    with an empty log and knows nobody learns the members so, from the first change that it applies.
    """

    changes: tuple[MemberChange, ...] = ()
    transition: Transition = Transition.AUTO
    base: ConfState = ConfState()


class MessageKind(enum.IntEnum):
    """What a message asks or answers. The value is on the wire."""

    APPEND = 1
    APPEND_RESPONSE = 2
    HEARTBEAT = 3
    HEARTBEAT_RESPONSE = 4
    PRE_VOTE = 5
    PRE_VOTE_RESPONSE = 6
    VOTE = 7
    VOTE_RESPONSE = 8
    SNAPSHOT = 9
    READ_INDEX = 10
    READ_INDEX_RESPONSE = 11
    TIMEOUT_NOW = 12


RESPONSES: Final = frozenset(
    {
        MessageKind.APPEND_RESPONSE,
        MessageKind.HEARTBEAT_RESPONSE,
        MessageKind.PRE_VOTE_RESPONSE,
        MessageKind.VOTE_RESPONSE,
        MessageKind.READ_INDEX_RESPONSE,
    }
)


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What one member says to another; which fields mean something depends on `kind`.

    | kind | index, log_term | other |
    |---|---|---|
    | APPEND | of the entry before `entries` | `commit` |
    | APPEND_RESPONSE | the last one stored, or with `reject` the one refused | with `reject`: `reject_index` and |
    | | | `log_term` are where the logs may agree |
    | HEARTBEAT and its response | | `commit`; `context` of a read, returned |
    | VOTE, PRE_VOTE | of the last entry | `forced`: a transfer, which the leader's lease does not hold back; |
    | | | `commit`, `commit_term`: an entry that is known to be committed |
    | their responses | | `reject`; with it `commit`, `commit_term` |
    | SNAPSHOT | | `snapshot`: the receiver has stored it already when its core is told |
    | READ_INDEX, response | response: index to read at | `context` |
    | TIMEOUT_NOW | | the receiver is to stand at once |
    """

    kind: MessageKind
    sender: int
    to: int
    term: int
    log_term: int = 0
    index: int = 0
    commit: int = 0
    entries: tuple[Entry, ...] = ()
    reject: bool = False
    reject_index: int = 0
    forced: bool = False
    context: bytes = b""
    snapshot: SnapshotMark | None = None
    commit_term: int = 0


class ReadState(msgspec.Struct, frozen=True, gc=False):
    """A read that was asked for with `context` may be served once entry `index` is applied."""

    index: int
    context: bytes


class Leadership(msgspec.Struct, frozen=True):
    """Who leads, 0 for nobody. `is_leader` is said behind the leader's own NOOP: all that is committed was applied."""

    is_leader: bool
    term: int
    leader_id: int


class Ready(msgspec.Struct, frozen=True):
    """What the driver does next, in this order, before it calls `advance()`.

    1. Send `ahead`: a leader's messages, which need not wait for its own disk (Raft thesis, 10.2.1).
    2. Let `snapshot` count: it is stored already, and replaces log and state.
    3. Store `hard_state` and `entries` (which may replace a tail of the log) in one frame; sync it where `must_sync`
       says so. A frame always holds the newest hard state there is: no change of the members may be stored without
       the commit index that covers the change before it.
    4. Send `messages`.
    5. Apply `committed`, give each CONF_CHANGE among them to `apply_conf_change()`, then tell `leadership`.
    6. Hand out `reads`.
    """

    hard_state: HardState | None
    entries: tuple[Entry, ...]
    must_sync: bool
    messages: tuple[Message, ...]
    committed: tuple[Entry, ...]
    leadership: Leadership | None
    ahead: tuple[Message, ...] = ()
    snapshot: SnapshotMark | None = None
    reads: tuple[ReadState, ...] = ()


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose log this is."""

    cluster_id: str
    member_id: int


class Commit(msgspec.Struct, frozen=True, gc=False):
    """Where a proposal ended up."""

    index: int
    term: int


class PeerState(enum.Enum):
    """How a leader sends to a member."""

    PROBE = "probe"  # one message at a time, until it is known where the logs agree
    REPLICATE = "replicate"  # pipelined
    SNAPSHOT = "snapshot"  # nothing, while a snapshot is on its way


class PeerStatus(msgspec.Struct, frozen=True):
    """What a leader knows of one member, itself included. `active`: heard of within the last election time-out.

    `silent_ticks`: since it was heard of, or became known. `silent_s`: the same in seconds, by the driver, which has a
    clock.
    """

    member_id: int
    match: int
    next: int
    state: PeerState
    is_learner: bool
    active: bool
    silent_ticks: int = 0
    silent_s: float | None = None


class Status(msgspec.Struct, frozen=True):
    """A member's state for people and metrics. `peers` is a leader's knowledge; others have none.

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
    conf: ConfState = ConfState()
    peers: tuple[PeerStatus, ...] = ()
