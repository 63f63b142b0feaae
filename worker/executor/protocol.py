"""What the task runner needs of whatever runs tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from swarmpy.model.endpoints import HostPort
from worker.assignments import Assignment
from worker.health.checks import Check, HealthPlan
from worker.health.probe import ProbeResult
from worker.task.outcome import Exit


@dataclass(frozen=True, slots=True)
class Started:
    """A process that runs. `start_time` (clock ticks since boot) tells it from a later one with its pid."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class Found:
    """A process that an executor knows of when it is asked: running, or exited and not yet forgotten."""

    started: Started
    ended: Exit | None = None


class Listener(Protocol):
    """Who is told what happens to an executor's processes. Never blocks, never raises."""

    def inventory(self, found: Mapping[str, Found]) -> None:
        """All processes there are, by task id: said after each (re)connection, before any `exited`."""

    def exited(self, task_id: str, ended: Exit) -> None:
        """A process has ended; may be said more than once."""


class Executor(Protocol):
    """Runs tasks of one kind. Every call may be repeated after an interruption and then does what is missing.

    Calls raise SwarmError; `retryable` ones are tried again later, others end the task.
    """

    async def run(self, listener: Listener) -> None:
        """Keep in touch with the processes and tell `listener` about them, until cancelled."""

    async def prepare(self, assignment: Assignment, held: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        """Make all that the task needs but its process; return its host ports (`held` again if there are any)."""

    async def start(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Started:
        """Start the process of a prepared task."""

    def stop_signal(self, assignment: Assignment) -> int:
        """Return the number of the signal that asks the task to end: the spec's, else its image's, else SIGTERM."""

    async def signal(self, task_id: str, number: int) -> None:
        """Send a signal to all processes of the task, in a container to its first; one that has ended is no error."""

    def health_plan(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> HealthPlan:
        """Return which checks the task gets; an empty plan makes it ready as soon as it runs."""

    async def probe(self, assignment: Assignment, host_ports: tuple[HostPort, ...], check: Check) -> ProbeResult:
        """Run one check once; takes `check.timeout_s` at most."""

    def adopt(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        """Take up a task that a former worker had prepared: its ports and logs."""

    async def release(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        """Give back all that an ended task holds, but its logs and work directory."""

    async def remove(self, task_id: str) -> None:
        """Delete the rest of an ended task: work directory and logs."""

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        """Delete what tasks that are not held have left behind; called after each inventory. Never raises."""
