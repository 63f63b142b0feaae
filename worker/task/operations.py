"""What each step of a task does: one operation, which leaves the task and its journal in a state to go on from."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, not_supported
from swarmpy.model.states import Runtime, TaskState, word
from swarmpy.model.task import TaskStatus
from worker.executor.protocol import Executor
from worker.reports import StatusReports
from worker.task.held import Held
from worker.task.journal import Journal
from worker.task.outcome import Outcome, conclude, failure
from worker.task.state import Operation, Process

_log = structlog.get_logger()


class Operations:
    """The operations of `worker.task.state`, on one task at a time; knows nothing of other tasks."""

    def __init__(
        self,
        executors: Mapping[Runtime, Executor],
        journal: Journal,
        reports: StatusReports,
        clock: Clock,
        on_local: Callable[[str, TaskStatus], None],
    ) -> None:
        """
        Args:
            on_local: told the status of a local task whenever it changes.
        """
        self._executors = executors
        self._journal = journal
        self._reports = reports
        self._clock = clock
        self._on_local = on_local
        self._methods = {
            Operation.ACCEPT: self._accept,
            Operation.PREPARE: self._prepare,
            Operation.START: self._start,
            Operation.RUN: self._run,
            Operation.SIGNAL: self._signal,
            Operation.KILL: self._kill,
            Operation.FINISH: self._finish,
            Operation.RELEASE: self._release,
            Operation.REMOVE: self._remove,
        }
        self.ended: Counter[TaskState] = Counter()
        self.started = 0

    async def perform(self, operation: Operation, held: Held) -> None:
        """Do one operation.

        Raises:
            SwarmError: it could not be done; `settle_failure` says what becomes of the task.
        """
        try:
            await self._methods[operation](held)
        except OSError as error:
            # One task's trouble with the node's disk or kernel must not end the others' worker.
            raise SwarmError(Code.INTERNAL, f"cannot {operation.name.lower()} task {held.id}: {error}") from error

    def executor(self, held: Held) -> Executor | None:
        """Return what runs this task; None if this node cannot run its kind."""
        return self._executors.get(held.assignment.version.task.runtime)

    def publish(self, held: Held, *, save: bool = True, **changes: Any) -> None:
        """Change the task's status, remember it in the journal, and report it.

        Raises:
            SwarmError: the journal cannot be written; the status is changed and reported all the same.
        """
        held.status = msgspec.structs.replace(held.status, at=self._clock.now(), **changes)
        self._tell(held)
        if save:
            self.save(held)

    def _tell(self, held: Held) -> None:
        held.acknowledged = held.assignment.local  # nobody else has to store it
        if held.assignment.local:
            self._on_local(held.id, held.status)
        else:
            self._reports.put(held.id, held.status)

    def save(self, held: Held) -> None:
        """Write the task's record. From STARTING on a full disk is said and tried again later, not fatal.

        What runs is known to the task host too, so an old record is enough to take the task over.
        """
        try:
            self._journal.save(held.record())
            held.unsaved = False
        except SwarmError as error:
            held.unsaved = True
            if held.status.state < TaskState.STARTING:
                raise
            _log.warning("task record not written", task=held.id, error=error.message)

    def settle_failure(self, operation: Operation, held: Held, error: SwarmError) -> bool:
        """Return whether the operation is to be tried again; otherwise the task has ended now."""
        cleaning = operation in (Operation.SIGNAL, Operation.KILL, Operation.RELEASE, Operation.REMOVE)
        if cleaning or error.retryable:
            if not held.failures:
                _log.warning("task operation failed", task=held.id, operation=operation.name, error=error.message)
            if not cleaning:
                self.publish(held, save=False, message=f"waiting: {error.message}")
            return True
        held.process = Process.ABSENT
        self._end(held, failure(error, held.status.state))
        return False

    async def _accept(self, held: Held) -> None:
        # Until the task is READY nothing of it outlives the worker that the next assignment would not bring again.
        self.publish(held, save=False, state=TaskState.ACCEPTED, message="accepted")

    async def _prepare(self, held: Held) -> None:
        self.publish(held, save=False, state=TaskState.PREPARING, message="preparing")
        executor = self.executor(held)
        if executor is None:
            raise not_supported(f"a {word(held.assignment.version.task.runtime)} task on this node")
        ports = await executor.prepare(held.assignment, held.status.host_ports)
        executor.health_plan(held.assignment, ports)  # refuses a malformed check before anything runs
        self.publish(held, state=TaskState.READY, message="prepared", host_ports=ports)

    async def _start(self, held: Held) -> None:
        self.publish(held, save=False, state=TaskState.STARTING, message="starting")
        executor = self.executor(held)
        assert executor is not None, "a task without an executor is never prepared"
        started = await executor.start(held.assignment, held.status.host_ports)
        self.started += 1
        held.start_time = started.start_time
        if held.process is not Process.EXITED:
            held.process = Process.RUNNING
        plan = executor.health_plan(held.assignment, held.status.host_ports)
        held.healthy = plan.health is None
        held.ready = plan.readiness is None
        # A task without a health check is RUNNING in the next step, which saves the pid.
        self.publish(held, save=not held.healthy, pid=started.pid, message="started")

    async def _run(self, held: Held) -> None:
        self.publish_running(held)

    def publish_running(self, held: Held) -> None:
        """Report a running task with its readiness, if that says anything new."""
        status = held.status
        reason = "" if held.ready else held.not_ready_reason or "the first readiness check is under way"
        same = (status.state, status.ready, status.not_ready_reason) == (TaskState.RUNNING, held.ready, reason)
        if same:
            return
        since = status.ready_since if status.ready else self._clock.now()
        held.was_ready = held.was_ready or held.ready
        self.publish(
            held,
            state=TaskState.RUNNING,
            message="running",
            ready=held.ready,
            ready_since=since if held.ready else 0.0,
            not_ready_reason=reason,
        )

    async def _signal(self, held: Held) -> None:
        executor = self.executor(held)
        assert executor is not None, "what runs has an executor"
        await executor.signal(held.id, executor.stop_signal(held.assignment))
        held.signalled_s = self._clock.monotonic()

    async def _kill(self, held: Held) -> None:
        executor = self.executor(held)
        assert executor is not None, "what runs has an executor"
        await executor.signal(held.id, signal.SIGKILL)
        held.killed_s = self._clock.monotonic()

    async def _finish(self, held: Held) -> None:
        outcome = conclude(
            ended=held.ended,
            stopping=held.signalled_s is not None,
            unhealthy="" if held.assignment.local else held.unhealthy,
            reason=held.assignment.desired_reason,
        )
        self._end(held, outcome)

    def _end(self, held: Held, outcome: Outcome) -> None:
        self.ended[outcome.state] += 1
        self.publish(
            held,
            state=outcome.state,
            message=outcome.message,
            error=outcome.error,
            exit_code=outcome.exit_code,
            ready=False,
            not_ready_reason="",
        )

    async def _release(self, held: Held) -> None:
        # The executor forgets the exit status here, so it must be on disk before: the manager is owed it. Nobody asks
        # for that of a task that goes, and a user who stops a container on a full disk is not kept waiting for space.
        if held.unsaved and held.assignment.local:
            self.save(held)
        elif held.unsaved and not held.removed:
            self._journal.save(held.record())
            held.unsaved = False
        executor = self.executor(held)
        if executor is not None:
            await executor.release(held.assignment, held.status.host_ports)
        held.released = True

    async def _remove(self, held: Held) -> None:
        executor = self.executor(held)
        if executor is not None:
            await executor.remove(held.id)
        self._journal.remove(held.id)
