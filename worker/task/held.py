"""One task as the runner holds it: what it was told, how far it got, and what is known of its process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from swarmpy.model.endpoints import PublishMode
from swarmpy.model.states import Runtime, TaskState
from swarmpy.model.task import TaskStatus
from worker.alarms import Alarm
from worker.assignments import Assignment
from worker.task.journal import TaskRecord
from worker.task.outcome import Exit
from worker.task.state import Facts, Process


@dataclass(slots=True)
class Held:
    """Mutable, owned by the runner alone. Times are monotonic seconds, None until they have happened."""

    assignment: Assignment
    status: TaskStatus
    boot_id: str
    data_addr: str = ""
    process: Process = Process.ABSENT
    ended: Exit | None = None
    start_time: int = 0
    removed: bool = False
    released: bool = False
    acknowledged: bool = False
    was_ready: bool = False
    healthy: bool = False
    ready: bool = False
    not_ready_reason: str = ""
    unhealthy: str = ""
    quiet: bool = False
    withdrawn_s: float | None = None
    signalled_s: float | None = None
    killed_s: float | None = None
    retry_at_s: float = 0.0
    failures: int = 0
    driving: bool = False
    unsaved: bool = False
    alarm: Alarm | None = None
    monitors: tuple[asyncio.Task[None], ...] = ()

    @property
    def id(self) -> str:
        return self.assignment.id

    @property
    def is_withdrawn(self) -> bool:
        """Whether the manager wants the task ended."""
        return self.removed or self.assignment.must_stop

    def record(self) -> TaskRecord:
        """Return what the journal is to remember."""
        return TaskRecord(
            assignment=self.assignment,
            status=self.status,
            boot_id=self.boot_id,
            data_addr=self.data_addr,
            start_time=self.start_time,
            removed=self.removed,
        )

    def facts(self, *, settled: int, busy: frozenset[str]) -> Facts:
        """Return what the next operation depends on.

        Args:
            settled: the endpoints revision that every data plane has applied.
            busy: withdrawn tasks that still have connections somewhere.
        """
        container = self.assignment.version.task.container
        withdrawn_s = self.withdrawn_s if self.withdrawn_s is not None else 0.0
        return Facts(
            state=self.status.state,
            desired=self.assignment.desired_state,
            process=self.process,
            removed=self.removed,
            acknowledged=self.acknowledged,
            released=self.released,
            healthy=self.healthy,
            # A container that a user started is only said to be unwell.
            failing=bool(self.unhealthy) and not self.assignment.local,
            drained=self._is_drained(settled, busy),
            drain_until_s=withdrawn_s + container.drain_timeout_s,
            signalled_s=self.signalled_s,
            killed_s=self.killed_s,
            grace_s=container.stop_grace_period_s,
            retry_at_s=self.retry_at_s,
        )

    @property
    def is_reached_directly(self) -> bool:
        """Whether its own node alone sees who is connected to it: by networks, or by ports that lead to a container.

        A process that listens on a port of the node by itself takes connections until it is told to stop.
        """
        version = self.assignment.version
        is_container = version.task.runtime is Runtime.CONTAINER
        return bool(self.assignment.networks) or (
            is_container and any(port.mode is PublishMode.HOST for port in version.ports)
        )

    def is_withdrawn_everywhere(self, settled: int, busy: frozenset[str]) -> bool:
        """Whether no data plane begins or has a connection to the task; the arguments are those of `facts`."""
        return settled >= self.assignment.withdrawn_at and self.id not in busy

    def _is_drained(self, settled: int, busy: frozenset[str]) -> bool:
        directly = self.is_reached_directly
        if not self.was_ready or not (self.status.host_ports or directly):
            return True
        return self.is_withdrawn_everywhere(settled, busy) and (self.quiet or not directly)


def recovered(record: TaskRecord, *, boot_id: str, data_addr: str, now_s: float) -> Held:
    """Return a task as a former worker left it. Its process is unknown until the executor has told of it.

    A task of another boot has ended with it; its files are still there. One that listens where the node was is to end:
    nobody reaches it there, and it cannot be told otherwise.
    """
    held = Held(record.assignment, record.status, record.boot_id, record.data_addr, removed=record.removed)
    held.start_time = record.start_time
    held.acknowledged = record.assignment.local
    held.ready = held.was_ready = record.status.ready
    held.not_ready_reason = record.status.not_ready_reason
    held.healthy = record.status.state == TaskState.RUNNING
    if held.is_withdrawn:
        held.withdrawn_s = now_s
    if record.status.state.is_stopped:
        held.process = Process.EXITED
    elif record.boot_id == boot_id:
        held.process = Process.UNKNOWN
        moved = record.data_addr not in ("", data_addr) and not record.assignment.local
        if record.status.host_ports and moved:
            held.unhealthy = f"it listens at {record.data_addr}, and the node is at {data_addr} now"
            held.ready, held.not_ready_reason = False, held.unhealthy
    else:
        held.process = Process.EXITED
        held.ended = Exit(None, record.status.at, problem="node rebooted")
    return held
