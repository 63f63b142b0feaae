"""The life of a task on its node, as a table: from what is known and wanted to the one next operation. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from swarmpy.model.states import TaskState

NEVER: Final = float("inf")
KILL_AGAIN_AFTER_S: Final = 5.0


class Process(enum.IntEnum):
    """What is known of a task's process. UNKNOWN: this worker has just started and has not been told yet."""

    UNKNOWN = enum.auto()
    ABSENT = enum.auto()
    RUNNING = enum.auto()
    EXITED = enum.auto()


class Want(enum.IntEnum):
    """What is to become of a task, from the manager's wish and the task's own health."""

    RUN = enum.auto()
    HOLD = enum.auto()  # prepared, not started
    STOP = enum.auto()
    FAIL = enum.auto()  # unhealthy: stopped without waiting for connections


class Stage(enum.IntEnum):
    """Where a task is, as far as the next operation depends on it."""

    UNKNOWN = enum.auto()
    ASSIGNED = enum.auto()
    ACCEPTED = enum.auto()
    READY = enum.auto()
    STARTING = enum.auto()
    UNPROVEN = enum.auto()  # the process runs, its health check has not passed yet
    PROVEN = enum.auto()  # the process runs and is well, the state does not say so yet
    RUNNING = enum.auto()
    EXITED = enum.auto()
    ENDED = enum.auto()  # a final state, with files and ports still held
    RELEASED = enum.auto()


class Operation(enum.IntEnum):
    """What a step does."""

    WAIT = enum.auto()
    ACCEPT = enum.auto()
    PREPARE = enum.auto()
    START = enum.auto()
    RUN = enum.auto()
    STOP = enum.auto()  # decided further by `stop_step`
    SIGNAL = enum.auto()
    KILL = enum.auto()
    FINISH = enum.auto()
    RELEASE = enum.auto()
    REMOVE = enum.auto()


class Facts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that the next operation depends on. Times are monotonic seconds.

    `healthy` is true once the health check has passed or where there is none. `drained`: no connection can reach the
    task any more. `drain_until_s` bounds that wait. `signalled_s` and `killed_s` are None until it was done.
    `retry_at_s` holds the next operation back after a temporary error.
    """

    state: TaskState
    desired: TaskState
    process: Process
    removed: bool = False
    acknowledged: bool = False
    released: bool = False
    healthy: bool = True
    failing: bool = False
    drained: bool = True
    drain_until_s: float = 0.0
    signalled_s: float | None = None
    killed_s: float | None = None
    grace_s: float = 0.0
    retry_at_s: float = 0.0


class Step(msgspec.Struct, frozen=True, gc=False):
    """The next operation; for WAIT, the monotonic time at which to look again if nothing else happens."""

    operation: Operation
    until_s: float = NEVER


_RUN_OR_HOLD: Final = (Want.RUN, Want.HOLD)
_STOP_OR_FAIL: Final = (Want.STOP, Want.FAIL)

TABLE: Final[Mapping[tuple[Stage, Want], Operation]] = MappingProxyType(
    {
        **{(Stage.UNKNOWN, want): Operation.WAIT for want in Want},
        **{(Stage.ASSIGNED, want): Operation.ACCEPT for want in _RUN_OR_HOLD},
        **{(Stage.ASSIGNED, want): Operation.FINISH for want in _STOP_OR_FAIL},
        **{(Stage.ACCEPTED, want): Operation.PREPARE for want in _RUN_OR_HOLD},
        **{(Stage.ACCEPTED, want): Operation.FINISH for want in _STOP_OR_FAIL},
        (Stage.READY, Want.RUN): Operation.START,
        (Stage.READY, Want.HOLD): Operation.WAIT,
        **{(Stage.READY, want): Operation.FINISH for want in _STOP_OR_FAIL},
        **{(Stage.STARTING, want): Operation.START for want in _RUN_OR_HOLD},
        **{(Stage.STARTING, want): Operation.FINISH for want in _STOP_OR_FAIL},
        **{(Stage.UNPROVEN, want): Operation.WAIT for want in _RUN_OR_HOLD},
        **{(Stage.PROVEN, want): Operation.RUN for want in _RUN_OR_HOLD},
        **{(Stage.RUNNING, want): Operation.WAIT for want in _RUN_OR_HOLD},
        **{
            (stage, want): Operation.STOP
            for stage in (Stage.UNPROVEN, Stage.PROVEN, Stage.RUNNING)
            for want in _STOP_OR_FAIL
        },
        **{(Stage.EXITED, want): Operation.FINISH for want in Want},
        **{(Stage.ENDED, want): Operation.RELEASE for want in Want},
        **{(Stage.RELEASED, want): Operation.WAIT for want in Want},
    }
)
assert len(TABLE) == len(Stage) * len(Want), "every situation has its operation"


def step(facts: Facts, now_s: float) -> Step:
    """Return what to do next for a task, given the monotonic time."""
    stage = stage_of(facts)
    operation = TABLE[stage, want_of(facts)]
    if operation is Operation.STOP:
        chosen = stop_step(facts, now_s)
    elif stage is Stage.RELEASED and facts.removed and facts.acknowledged:
        chosen = Step(Operation.REMOVE)
    else:
        chosen = Step(operation)
    if chosen.operation is not Operation.WAIT and now_s < facts.retry_at_s:
        return Step(Operation.WAIT, facts.retry_at_s)
    return chosen


def want_of(facts: Facts) -> Want:
    """Return what is to become of the task. A job's desired COMPLETE is a wish to run."""
    if facts.removed or facts.desired >= TaskState.SHUTDOWN:
        return Want.STOP
    if facts.failing:
        return Want.FAIL
    return Want.HOLD if facts.desired < TaskState.RUNNING else Want.RUN


def stage_of(facts: Facts) -> Stage:
    """Return where the task is. A process that is found running counts as started, whatever the state says."""
    if facts.state.is_stopped:
        return Stage.RELEASED if facts.released else Stage.ENDED
    if facts.process is Process.UNKNOWN:
        return Stage.UNKNOWN
    if facts.process is Process.EXITED:
        return Stage.EXITED
    if facts.process is Process.RUNNING:
        if facts.state == TaskState.RUNNING:
            return Stage.RUNNING
        return Stage.PROVEN if facts.healthy else Stage.UNPROVEN
    if facts.state >= TaskState.STARTING:
        return Stage.STARTING
    if facts.state == TaskState.READY:
        return Stage.READY
    return Stage.ACCEPTED if facts.state >= TaskState.ACCEPTED else Stage.ASSIGNED


def stop_step(facts: Facts, now_s: float) -> Step:
    """Return the next step in stopping a process: wait for its connections, signal, grace period, SIGKILL.

    SIGKILL is repeated: a process may have been put into the group between the kill and its death.
    """
    if facts.signalled_s is None:
        waits = want_of(facts) is Want.STOP and not facts.failing and not facts.drained
        if waits and now_s < facts.drain_until_s:
            return Step(Operation.WAIT, facts.drain_until_s)
        return Step(Operation.SIGNAL)
    due_s = facts.signalled_s + facts.grace_s if facts.killed_s is None else facts.killed_s + KILL_AGAIN_AFTER_S
    return Step(Operation.KILL) if now_s >= due_s else Step(Operation.WAIT, due_s)
