"""An executor for tests of the runner: does what it is told, when it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from swarmpy.model.endpoints import HostPort
from worker.assignments import Assignment
from worker.executor.protocol import Found, Listener, Started
from worker.health.checks import Check, HealthPlan
from worker.health.probe import ProbeResult
from worker.task.outcome import Exit, signal_number


class ScriptedExecutor:
    """Notes each call in `calls`; `errors` maps a call's name to what it raises next; `found` is the inventory."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, list[Exception]] = {}
        self.found: dict[str, Found] = {}
        self.plan = HealthPlan()
        self.probes: dict[str, ProbeResult] = {}
        self.listener: Listener | None = None
        self.answers_signals = True
        self.swept: list[str] = []
        self.leftovers: tuple[str, ...] = ()

    def exit(self, task_id: str, code: int | None, **more: object) -> None:
        assert self.listener is not None, "the runner is running"
        self.listener.exited(task_id, Exit(code, 1.0, **more))  # type: ignore[arg-type]  # keywords of tests

    def tell_inventory(self, found: Mapping[str, Found]) -> None:
        assert self.listener is not None, "the runner is running"
        self.listener.inventory(found)

    def _note(self, call: str, task_id: str) -> None:
        self.calls.append(f"{call} {task_id}")
        errors = self.errors.get(call)
        if errors:
            raise errors.pop(0)

    async def run(self, listener: Listener) -> None:
        self.listener = listener
        listener.inventory(self.found)
        await asyncio.get_running_loop().create_future()

    async def prepare(self, assignment: Assignment, held: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        self._note("prepare", assignment.id)
        return held or tuple(HostPort(target=p.target, port=20000 + p.target) for p in assignment.version.ports)

    async def start(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Started:
        self._note("start", assignment.id)
        return Started(42, 1)

    def stop_signal(self, assignment: Assignment) -> int:
        return signal_number(assignment.version.task.container.stop_signal)

    async def signal(self, task_id: str, number: int) -> None:
        self._note(f"signal-{number}", task_id)
        if self.answers_signals:
            self.exit(task_id, -number)

    def health_plan(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> HealthPlan:
        return self.plan

    async def probe(self, assignment: Assignment, host_ports: tuple[HostPort, ...], check: Check) -> ProbeResult:
        return self.probes.get(check.path, ProbeResult(True))

    def adopt(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        self._note("adopt", assignment.id)

    async def release(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        self._note("release", assignment.id)

    async def remove(self, task_id: str) -> None:
        self._note("remove", task_id)

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        self.swept += [i for i in self.leftovers if not is_held(i)]
