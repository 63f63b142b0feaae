"""What the main loop and the Raft thread hand each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from manager.raft.log.snapshot_file import SnapshotReader
from manager.raft.node import RaftNode
from manager.raft.outlet import Delivery, Waiter
from manager.raft.transport.inbound import Inbound
from manager.raft.transport.switchboard import Switchboard
from manager.raft.types import Message


@dataclass(frozen=True, slots=True)
class Proposal:
    """Data to be appended; `waiter` gets its Commit or a SwarmError."""

    data: bytes
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Ask:
    """Something whose waiter the node settles by itself."""

    action: Callable[[RaftNode], None]


@dataclass(frozen=True, slots=True)
class Order:
    """Something to be done with the node between frames; `waiter` gets the result."""

    action: Callable[[RaftNode], object]
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch from a stream that another member dialled."""

    inbound: Inbound
    data: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """Messages from a stream that this member dialled."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Wiring:
    """Something to be done with the streams."""

    action: Callable[[Switchboard], None]


@dataclass(frozen=True, slots=True)
class Stop:
    """End the thread after what came before."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A delivery for the main loop; `reader` has the snapshot of one that restores."""

    delivery: Delivery
    reader: SnapshotReader | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The last thing the thread says; `error` is None after an orderly stop."""

    error: Exception | None


Item: TypeAlias = Proposal | Ask | Order | Arrived | Heard | Wiring | Stop
Outbound: TypeAlias = Handed | Ended
