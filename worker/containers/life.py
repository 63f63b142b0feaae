"""What changes in a container's record: when it is started, when the runner tells of it, when it has ended. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from swarmpy.model.container import ContainerConfig, PortBinding
from swarmpy.model.endpoints import HostPort, Transport
from swarmpy.model.service import ServiceVersion, version_id
from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from worker.assignments import Assignment
from worker.containers.record import Record
from worker.containers.restart import LASTED_S, delay_s, runs_again

EXIT_UNKNOWN: Final = 255
EXIT_NOT_FOUND: Final = 127
EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NOT_STARTED: Final = 128
NO_END_S: Final = 1e9
_OUT_OF_MEMORY: Final = "out of memory:"
_START_CODES: Final = (
    (re.compile(r"command not found|its interpreter or loader is not in the image"), EXIT_NOT_FOUND),
    (re.compile(r"is not executable|is for another platform"), EXIT_NOT_EXECUTABLE),
)


def begun(record: Record, *, by_user: bool) -> Record:
    """Return the record with its next run."""
    fresh = {"restarts": 0, "in_a_row": 0} if by_user else {"restarts": record.restarts + 1}
    return msgspec.structs.replace(
        record,
        run=record.run + 1,
        wanted=True,
        by_hand=False,
        paused=False,
        next_run_at=0.0,
        error="",
        oom_killed=False,
        **fresh,
    )


def told(record: Record, status: TaskStatus, now: float) -> Record:
    """Return the record with what the runner says of its present run; the same one if that is nothing new.

    Args:
        now: wall seconds; a restart is due from then on.
    """
    if not record.is_live:
        return record
    if status.pid and record.started_run < record.run:
        record = msgspec.structs.replace(
            record,
            started_run=record.run,
            pid=status.pid,
            started_at=status.at,
            ports=in_force(record.bindings, status.host_ports),
        )
    return _ended(record, status, now) if status.state.is_stopped else record


def _ended(record: Record, status: TaskStatus, now: float) -> Record:
    started = record.started_run == record.run
    code = status.exit_code if status.exit_code is not None else EXIT_UNKNOWN if started else start_code(status.error)
    plain = started and status.exit_code is not None
    lasted = started and status.at - record.started_at >= LASTED_S
    in_a_row = 0 if lasted else record.in_a_row
    first = not started and not record.restarts  # who started it is told why it cannot be
    again = (
        record.wanted
        and not first
        and runs_again(record.config.restart, exit_code=code, by_hand=record.by_hand, in_a_row=in_a_row)
    )
    return msgspec.structs.replace(
        record,
        ended_run=record.run,
        pid=0,
        ports=(),
        paused=False,
        finished_at=status.at if started else record.finished_at,
        exit_code=code,
        error="" if plain else status.error,
        oom_killed=status.error.startswith(_OUT_OF_MEMORY),
        wanted=again,
        in_a_row=in_a_row + 1 if again else in_a_row,
        next_run_at=now + delay_s(in_a_row) if again else 0.0,
    )


def start_code(error: str) -> int:
    """Return the exit code that stands for a program that could not be started, by a shell's and Docker's rule."""
    return next((code for pattern, code in _START_CODES if pattern.search(error)), EXIT_NOT_STARTED)


def in_force(bindings: tuple[PortBinding, ...], ports: tuple[HostPort, ...]) -> tuple[PortBinding, ...]:
    """Return the bindings with the ports that they were given."""
    pairs = zip(bindings, ports, strict=False)
    return tuple(msgspec.structs.replace(binding, port=port.port) for binding, port in pairs)


def bindings_of(config: ContainerConfig, exposed: tuple[tuple[int, Transport], ...]) -> tuple[PortBinding, ...]:
    """Return all bindings of a container, with `publish_all` those of what its image exposes among them.

    Args:
        exposed: target and transport of each port that the image exposes.
    """
    bound = {(binding.target, binding.transport) for binding in config.ports}
    rest = [PortBinding(target=t, transport=p) for t, p in exposed if config.publish_all and (t, p) not in bound]
    return (*config.ports, *rest)


def assignment(
    record: Record, *, stop: bool = False, grace_s: float | None = None, stop_signal: str = ""
) -> Assignment:
    """Return a container's present run as the runner takes it.

    Args:
        stop: whether the run is to end.
        grace_s: from the stop signal to the kill; None takes the container's own, below zero is without end.
        stop_signal: another one than the container's.
    """
    task = record.config.task
    container = task.container
    if grace_s is not None:
        container = msgspec.structs.replace(container, stop_grace_period_s=grace_s if grace_s >= 0 else NO_END_S)
    if stop_signal:
        container = msgspec.structs.replace(container, stop_signal=stop_signal)
    version = ServiceVersion(
        id=version_id(record.id, 1),
        service_id="",
        number=1,
        name=record.name,
        task=msgspec.structs.replace(task, container=container),
    )
    return Assignment(
        id=record.id,
        service_id="",
        slot=0,
        version=version,
        desired_state=TaskState.SHUTDOWN if stop else TaskState.RUNNING,
        desired_reason="stopped by its user" if stop else "",
        local=True,
        run=record.run,
        bindings=record.bindings,
        stdin=record.config.open_stdin,
    )
