"""Tasks without processes, for simulations of thousands of workers: they run as soon as they are started."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from swarmpy.model.endpoints import HostPort
from worker.assignments import Assignment
from worker.executor.protocol import Listener, Started
from worker.health.checks import Check, HealthPlan
from worker.health.probe import ProbeResult
from worker.task.outcome import Exit, signal_number

_FIRST_PORT = 20000
_PORTS = 12000


class FakeExecutor:
    """An executor of any runtime that keeps one set entry a task and never waits.

    A signal ends a task at once, with that signal's exit code. `exit(task_id, code)` ends one from outside.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """
        Args:
            now: wall seconds, for the stamps of exits.
        """
        self._now = now
        self._pids = itertools.count(1)
        self._ports = itertools.count()
        self._running: set[str] = set()
        self._listener: Listener | None = None

    @property
    def running(self) -> frozenset[str]:
        return frozenset(self._running)

    def exit(self, task_id: str, code: int) -> None:
        """End a task as if its process had exited with `code` (below zero: -signal)."""
        if task_id in self._running and self._listener is not None:
            self._running.discard(task_id)
            self._listener.exited(task_id, Exit(code, self._now()))

    async def run(self, listener: Listener) -> None:
        self._listener = listener
        listener.inventory({})
        await asyncio.get_running_loop().create_future()

    async def prepare(self, assignment: Assignment, held: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        return held or tuple(
            HostPort(target=p.target, port=_FIRST_PORT + next(self._ports) % _PORTS, transport=p.transport)
            for p in assignment.version.ports
        )

    async def start(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Started:
        self._running.add(assignment.id)
        return Started(next(self._pids), 1)

    def stop_signal(self, assignment: Assignment) -> int:
        return signal_number(assignment.version.task.container.stop_signal)

    async def signal(self, task_id: str, number: int) -> None:
        self.exit(task_id, -number)

    def health_plan(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> HealthPlan:
        return HealthPlan()

    async def probe(self, assignment: Assignment, host_ports: tuple[HostPort, ...], check: Check) -> ProbeResult:
        return ProbeResult(True)

    def adopt(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        """Nothing of a simulated task outlives its worker."""

    async def release(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        """A simulated task holds nothing."""

    async def remove(self, task_id: str) -> None:
        self._running.discard(task_id)

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        """A simulated task leaves nothing behind."""
