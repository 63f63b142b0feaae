"""Enumerations with their wire numbers. Numbers are stored and sent; they are never reused."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class TaskState(enum.IntEnum):
    """Where a task is on its one way from created to gone. States only ever increase."""

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800
    ORPHANED = 832

    @property
    def is_stopped(self) -> bool:
        """Whether the task runs no more and never will."""
        return self > TaskState.RUNNING


class NodeState(enum.IntEnum):
    """What the dispatcher knows of a node. UNKNOWN: not heard of since this leader took over."""

    UNKNOWN = 0
    DOWN = 1
    READY = 2


class Availability(enum.IntEnum):
    """What the user allows on a node: new tasks, only the present ones, or none."""

    ACTIVE = 0
    PAUSE = 1
    DRAIN = 2


class NodeRole(enum.IntEnum):
    WORKER = 0
    MANAGER = 1


class Runtime(enum.IntEnum):
    """What a task is: a container from an image, or a plain process of the node."""

    CONTAINER = 0
    PROCESS = 1


class ModeKind(enum.IntEnum):
    REPLICATED = 0
    GLOBAL = 1
    REPLICATED_JOB = 2
    GLOBAL_JOB = 3


class RestartCondition(enum.IntEnum):
    ANY = 0
    ON_FAILURE = 1
    NONE = 2


class FailureAction(enum.IntEnum):
    PAUSE = 0
    CONTINUE = 1
    ROLLBACK = 2


class UpdateOrder(enum.IntEnum):
    STOP_FIRST = 0
    START_FIRST = 1


class UpdateState(enum.IntEnum):
    NONE = 0
    UPDATING = 1
    PAUSED = 2
    COMPLETED = 3
    ROLLBACK_STARTED = 4
    ROLLBACK_PAUSED = 5
    ROLLBACK_COMPLETED = 6


class EndpointMode(enum.IntEnum):
    VIP = 0
    DNSRR = 1


class NetworkDriver(enum.IntEnum):
    """How far a network reaches: over all nodes, or within each."""

    OVERLAY = 0
    BRIDGE = 1


class MountType(enum.IntEnum):
    BIND = 0
    VOLUME = 1
    TMPFS = 2


_T = TaskState

OWNER: Final[Mapping[tuple[TaskState, TaskState], str]] = {
    (_T.NEW, _T.PENDING): "allocator",
    (_T.PENDING, _T.ASSIGNED): "scheduler",
    **{
        (before, after): "worker"
        for before in (_T.ASSIGNED, _T.ACCEPTED, _T.PREPARING, _T.READY, _T.STARTING, _T.RUNNING)
        for after in (
            _T.ACCEPTED,
            _T.PREPARING,
            _T.READY,
            _T.STARTING,
            _T.RUNNING,
            _T.COMPLETE,
            _T.SHUTDOWN,
            _T.FAILED,
            _T.REJECTED,
        )
        if after > before
    },
    **{
        (before, _T.ORPHANED): "dispatcher"
        for before in (_T.ASSIGNED, _T.ACCEPTED, _T.PREPARING, _T.READY, _T.STARTING, _T.RUNNING)
    },
    **{(before, _T.SHUTDOWN): "orchestrator" for before in (_T.NEW, _T.PENDING)},
}
"""Who may move a task along each edge. A task that never reached a node is shut down by the orchestrator."""

assert all(old < new for old, new in OWNER), "task state never moves back"


def word(value: enum.IntEnum) -> str:
    """Return a member's name as people write it: `start-first`, `running`, `on-failure`."""
    return value.name.lower().replace("_", "-")
