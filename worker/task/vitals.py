"""Watches the health and readiness of running tasks and turns verdicts into facts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from swarmpy.clock import Clock
from swarmpy.model.states import TaskState
from worker.executor.protocol import Executor
from worker.health.checks import Check
from worker.health.monitor import watch
from worker.health.probe import ProbeMachine, Verdict
from worker.task.held import Held
from worker.task.operations import Operations
from worker.task.state import Process


class Vitals:
    """Starts and ends the monitors of tasks. `group` must be set before the first `watch`."""

    def __init__(self, operations: Operations, clock: Clock, poke: Callable[[Held], None]) -> None:
        self._operations = operations
        self._clock = clock
        self._poke = poke
        self.group: asyncio.TaskGroup | None = None

    def watch(self, held: Held) -> None:
        """Begin to probe a task whose process runs; a task without checks is well and ready at once."""
        if held.unhealthy:  # known from the start
            self._tell(held)
            return
        executor = self._operations.executor(held)
        assert executor is not None, "what runs has an executor"
        plan = executor.health_plan(held.assignment, held.status.host_ports)
        held.healthy = held.healthy or plan.health is None
        held.ready = held.ready or plan.readiness is None
        monitors = []
        if plan.health is not None:
            monitors.append(self._monitor(held, executor, plan.health, held.healthy, self._health))
        if plan.readiness is not None:
            monitors.append(self._monitor(held, executor, plan.readiness, held.ready, self._readiness))
        held.monitors = tuple(monitors)

    def unwatch(self, held: Held) -> None:
        """Stop probing; safe to call at any time."""
        for monitor in held.monitors:
            monitor.cancel()
        held.monitors = ()

    def _monitor(
        self,
        held: Held,
        executor: Executor,
        check: Check,
        passed: bool,
        tell: Callable[[Held, Verdict, str], None],
    ) -> asyncio.Task[None]:
        assert self.group is not None, "monitors run while the runner does"

        machine = ProbeMachine(check, self._clock.monotonic(), passed=passed)
        return self.group.create_task(
            watch(
                machine,
                lambda: executor.probe(held.assignment, held.status.host_ports, check),
                self._clock,
                lambda verdict, output: tell(held, verdict, output),
            )
        )

    def _health(self, held: Held, verdict: Verdict, output: str) -> None:
        if verdict is Verdict.HEALTHY:
            held.healthy = True
            if held.assignment.local and held.unhealthy:
                held.unhealthy = ""
                held.ready = True
        elif verdict is Verdict.UNHEALTHY:
            held.unhealthy = output or "the health check failed"
            held.ready = False
            held.not_ready_reason = f"unhealthy: {held.unhealthy}"
        else:
            held.not_ready_reason = f"not healthy yet: {output}"
        self._tell(held)

    def _readiness(self, held: Held, verdict: Verdict, output: str) -> None:
        held.ready = verdict is Verdict.HEALTHY and not held.unhealthy
        held.not_ready_reason = "" if held.ready else output
        self._tell(held)

    def _tell(self, held: Held) -> None:
        if held.process is not Process.RUNNING:
            return
        if held.status.state == TaskState.RUNNING or (held.assignment.local and held.unhealthy):
            self._operations.publish_running(held)
        self._poke(held)
