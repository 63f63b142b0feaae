"""A task: one try at running one replica. Flat, because there may be a million of them."""

from __future__ import annotations

import msgspec

from swarmpy.model.base import Model
from swarmpy.model.endpoints import HostPort
from swarmpy.model.network import NetworkAddress
from swarmpy.model.service import version_id
from swarmpy.model.states import TaskState


class TaskStatus(Model, frozen=True):
    """What a worker reports of a task. Times are wall seconds; `exit_code` is None until it is known.

    An exit code below zero is `-signal`. `ready` says that the task may be given connections;
    `not_ready_reason` says in words why not.
    """

    state: TaskState
    at: float = 0.0
    message: str = ""
    error: str = ""
    exit_code: int | None = None
    pid: int = 0
    ready: bool = False
    ready_since: float = 0.0
    not_ready_reason: str = ""
    host_ports: tuple[HostPort, ...] = ()


class Task(Model, frozen=True):
    """One task. A stopped task never runs again: a new one takes its slot.

    Writers: creation, `desired_state`, `desired_reason` and the restart fields the orchestrator; PENDING and
    `networks` (the task's addresses) the allocator; `node_id`, ASSIGNED and `pending_reason` (why it waits, in words)
    the scheduler; the status from ACCEPTED on the worker, through the dispatcher.

    `hold_until` is the wall time before which a restart delay keeps the task at desired READY. `restarts` counts
    restarts in a row, for the back-off; `attempts` those since `attempts_since`, for the policy's window.
    """

    id: str
    service_id: str
    spec_version: int
    slot: int
    node_id: str = ""
    version: int = 0
    created_at: float = 0.0
    desired_state: TaskState = TaskState.RUNNING
    desired_reason: str = ""
    pending_reason: str = ""
    hold_until: float = 0.0
    restarts: int = 0
    attempts: int = 0
    attempts_since: float = 0.0
    state: TaskState = TaskState.NEW
    status_at: float = 0.0
    message: str = ""
    error: str = ""
    exit_code: int | None = None
    pid: int = 0
    ready: bool = False
    ready_since: float = 0.0
    not_ready_reason: str = ""
    host_ports: tuple[HostPort, ...] = ()
    networks: tuple[NetworkAddress, ...] = ()

    @property
    def status(self) -> TaskStatus:
        """The flat status fields as one value."""
        return TaskStatus(
            state=self.state,
            at=self.status_at,
            message=self.message,
            error=self.error,
            exit_code=self.exit_code,
            pid=self.pid,
            ready=self.ready,
            ready_since=self.ready_since,
            not_ready_reason=self.not_ready_reason,
            host_ports=self.host_ports,
        )

    def with_status(self, status: TaskStatus) -> Task:
        """Return this task with `status` in place of its own."""
        return msgspec.structs.replace(
            self,
            state=status.state,
            status_at=status.at,
            message=status.message,
            error=status.error,
            exit_code=status.exit_code,
            pid=status.pid,
            ready=status.ready,
            ready_since=status.ready_since,
            not_ready_reason=status.not_ready_reason,
            host_ports=status.host_ports,
        )

    @property
    def service_version_id(self) -> str:
        return version_id(self.service_id, self.spec_version)

    @property
    def is_wanted(self) -> bool:
        """Whether the task is to run (or to wait for its start) and has not stopped: it holds its slot."""
        return self.desired_state <= TaskState.RUNNING and self.state <= TaskState.RUNNING

    @property
    def is_endpoint(self) -> bool:
        """Whether connections may be given to the task."""
        return self.ready and self.desired_state == TaskState.RUNNING and self.state == TaskState.RUNNING

    @property
    def occupies_node(self) -> bool:
        """Whether the task holds its node's resources: assigned and not yet known to have stopped."""
        return bool(self.node_id) and TaskState.ASSIGNED <= self.state <= TaskState.RUNNING
