"""Brings every task of this node to what the manager wants, one operation at a time.

Everything that happens to a task (an assignment, an exit, a verdict, a deadline) changes what is held of it and pokes
it; a poked task takes steps until the next one is to wait. A task that waits costs no asyncio task.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from swarmpy.model.states import Runtime, TaskState
from swarmpy.model.task import TaskStatus
from worker.alarms import Alarms
from worker.assignments import Assignment, Changes
from worker.backoff import full_jitter_s
from worker.executor.protocol import Executor, Found
from worker.reports import StatusReports
from worker.task.draining import Connections, Draining, nobody_is_connected
from worker.task.held import Held, recovered
from worker.task.journal import Journal
from worker.task.operations import Operations
from worker.task.outcome import Exit, lost_without_memory
from worker.task.state import NEVER, Operation, Process, Step, step
from worker.task.vitals import Vitals

RETRY_BASE_S: Final = 0.1
RETRY_CAP_S: Final = 8.0
_log = structlog.get_logger()


class TaskRunner:
    """All tasks of one worker. Used from one event loop; only `run` waits."""

    def __init__(
        self,
        *,
        executors: Mapping[Runtime, Executor],
        journal: Journal,
        alarms: Alarms,
        clock: Clock,
        rng: random.Random,
        boot_id: str,
        data_addr: str = "",
        orphan_grace_s: float = 10.0,
        connections: Connections = nobody_is_connected,
    ) -> None:
        """
        Args:
            executors: what runs which kind of task; a kind without one is rejected with the reason.
            journal: what a former worker left, and where this one leaves its own.
            alarms: wakes tasks at deadlines; must be run by the caller.
            boot_id: this boot of the machine; processes of another one have ended.
            data_addr: where the node's tasks listen, if they do.
            orphan_grace_s: how long a process that no record stands for may take to end.
            connections: returns how many connections others have to tasks by their networks.
        """
        self._executors = executors
        self._journal = journal
        self._alarms = alarms
        self._clock = clock
        self._rng = rng
        self._boot_id, self._data_addr = boot_id, data_addr
        self._orphan_grace_s = orphan_grace_s
        self._held: dict[str, Held] = {}
        self._draining = Draining(connections, clock, self._poke)
        self._orphans: dict[str, asyncio.Event] = {}
        self._group: asyncio.TaskGroup | None = None
        self.reports = StatusReports(alarms, self._acknowledged)
        self.on_local: Callable[[str, TaskStatus], None] = _nobody_listens
        self.on_released: Callable[[str], None] = _nobody_waits
        self.is_kept: Callable[[str], bool] = _nobody_keeps
        self.recovered = asyncio.Event()
        self._operations = Operations(executors, journal, self.reports, clock, self._tell_locally)
        self._vitals = Vitals(self._operations, clock, self._poke)

    @property
    def assignments(self) -> Mapping[str, Assignment]:
        """The cluster's tasks that are held now, by id; those that are on their way out are not in it."""
        return _Assignments(self._held)

    @property
    def statuses(self) -> Mapping[str, TaskStatus]:
        """The status of every task of the cluster that is held."""
        return {i: h.status for i, h in self._held.items() if not h.assignment.local}

    @property
    def local_statuses(self) -> Mapping[str, TaskStatus]:
        """The status of every local task that is held."""
        return {i: h.status for i, h in self._held.items() if h.assignment.local}

    def local_run(self, task_id: str) -> int:
        """Return which run of a local task is held; 0 if none is."""
        held = self._held.get(task_id)
        return held.assignment.run if held is not None and held.assignment.local else 0

    def may_run_again(self, task_id: str) -> bool:
        """Whether nothing is left to do for a task that has stopped: a local one may be put for another run."""
        held = self._held.get(task_id)
        return held is None or (held.released and not held.removed)

    @property
    def operations(self) -> Operations:
        """What was done so far, in counts, for the metrics."""
        return self._operations

    def is_live(self, task_id: str) -> bool:
        """Whether the task is held and has not stopped: its log may still grow."""
        held = self._held.get(task_id)
        return held is not None and not held.status.state.is_stopped

    async def run(self) -> None:
        """Take over what a former worker left, then run tasks until cancelled. The tasks outlive it."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._vitals.group = group
            try:
                self._recover()
                self.recovered.set()
                group.create_task(self._draining.run())
                for executor in dict.fromkeys(self._executors.values()):
                    group.create_task(executor.run(_Ear(self, executor)))
                for held in list(self._held.values()):
                    self._poke(held)
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    def apply(self, changes: Changes) -> None:
        """Take in what the manager changed, or a user of local tasks."""
        for assignment in changes.put:
            held = self._held.get(assignment.id)
            if held is not None and assignment.run > held.assignment.run:
                assert self.may_run_again(held.id), "a run ends before the next one begins"
                held = None
            if held is None:
                self._admit(assignment)
            else:
                held.assignment = assignment
                held.removed = False
                self._wanted(held)
        for task_id in changes.removed:
            held = self._held.get(task_id)
            if held is not None and not held.removed:
                held.removed = True
                self._wanted(held)

    def drain(self, settled: int, busy: Iterable[str]) -> None:
        """Take in how far the endpoints are withdrawn everywhere, and which tasks still have connections."""
        self._draining.settle(settled, busy)

    def _admit(self, assignment: Assignment) -> None:
        """Begin to hold a task that this worker has no record of."""
        if assignment.row_state.is_stopped:
            return
        held = Held(assignment, TaskStatus(state=TaskState.ASSIGNED), self._boot_id, self._data_addr)
        self._held[assignment.id] = held
        if assignment.row_state >= TaskState.STARTING:
            held.status = TaskStatus(state=assignment.row_state)
            error = lost_without_memory(assignment.row_state)
            self._operations.settle_failure(Operation.START, held, error)
        self._wanted(held)

    def _wanted(self, held: Held) -> None:
        """The manager's wish for the task may have changed."""
        if held.is_withdrawn and held.withdrawn_s is None:
            held.withdrawn_s = self._clock.monotonic()
            self._draining.add(held)
        elif not held.is_withdrawn:
            held.withdrawn_s = None
            self._draining.discard(held.id)
        held.retry_at_s = 0.0
        if held.status.state >= TaskState.READY:
            self._save_wish(held)
        self._poke(held)

    def _save_wish(self, held: Held) -> None:
        try:
            self._operations.save(held)
        except SwarmError as error:
            # The wish comes again with the next complete set; the task's own next step meets the full disk.
            _log.warning("task record not written", task=held.id, error=error.message)

    def _recover(self) -> None:
        now_s = self._clock.monotonic()
        for record in self._journal.load():
            held = recovered(record, boot_id=self._boot_id, data_addr=self._data_addr, now_s=now_s)
            self._held[held.id] = held
            if held.withdrawn_s is not None:
                self._draining.add(held)
            executor = self._operations.executor(held)
            if record.status.state.is_stopped:
                if not held.assignment.local:
                    self.reports.put(held.id, held.status)
            elif executor is not None and record.status.state >= TaskState.READY:
                executor.adopt(held.assignment, held.status.host_ports)

    def inventory(self, executor: Executor, found: Mapping[str, Found]) -> None:
        """An executor tells all the processes it has: settles what is unknown, ends what nobody assigned."""
        for held in list(self._held.values()):
            if self._operations.executor(held) is executor and not held.status.state.is_stopped:
                self._match(held, found.get(held.id))
                self._poke(held)
        strays = [i for i in found if i not in self._held and i not in self._orphans]
        assert self._group is not None, "executors speak only while the runner runs"
        group = self._group
        for task_id in strays:
            self._orphans[task_id] = asyncio.Event()
            group.create_task(self._discard(executor, task_id, ended=found[task_id].ended is not None))
        group.create_task(executor.sweep(self._is_known))

    def _is_known(self, task_id: str) -> bool:
        return task_id in self._held or task_id in self._orphans or self.is_kept(task_id)

    def _match(self, held: Held, found: Found | None) -> None:
        if found is not None and found.ended is not None:
            self._note_exit(held, found.ended)
        elif found is not None:
            if held.process in (Process.UNKNOWN, Process.ABSENT):
                held.process = Process.RUNNING
                held.start_time = found.started.start_time
                if held.status.state < TaskState.STARTING:
                    self._operations.publish(held, state=TaskState.STARTING, pid=found.started.pid)
                self._vitals.watch(held)
        elif held.process is Process.RUNNING or held.status.state == TaskState.RUNNING:
            problem = "exit status lost: nothing on this node knows its process any more"
            self._note_exit(held, Exit(None, self._clock.now(), problem=problem))
        elif held.process is Process.UNKNOWN:
            held.process = Process.ABSENT

    def exited(self, task_id: str, ended: Exit) -> None:
        """A process has ended."""
        orphan = self._orphans.get(task_id)
        if orphan is not None:
            orphan.set()
        held = self._held.get(task_id)
        if held is not None and not held.status.state.is_stopped:
            self._note_exit(held, ended)
            self._poke(held)

    def _note_exit(self, held: Held, ended: Exit) -> None:
        if held.process is not Process.EXITED:
            held.process = Process.EXITED
            held.ended = ended
        self._vitals.unwatch(held)

    async def _discard(self, executor: Executor, task_id: str, *, ended: bool) -> None:
        """End a process that no record stands for, and delete its traces."""
        _log.warning("stopping a process that no task record stands for", task=task_id)
        gone = self._orphans[task_id]
        for number in () if ended else (signal.SIGTERM, signal.SIGKILL):
            try:
                await executor.signal(task_id, number)
                async with asyncio.timeout(self._orphan_grace_s):
                    await gone.wait()
                break
            except TimeoutError:
                continue
            except SwarmError as error:
                # The next inventory, after the reconnection, finds it again.
                _log.warning("cannot stop a stray process", task=task_id, error=error.message)
                self._orphans.pop(task_id, None)
                return
        try:
            await executor.remove(task_id)
        except SwarmError as error:
            _log.warning("cannot remove a stray task", task=task_id, error=error.message)
        self._orphans.pop(task_id, None)

    def _acknowledged(self, task_id: str) -> None:
        held = self._held.get(task_id)
        if held is not None:
            held.acknowledged = True
            if held.removed:
                self._poke(held)

    def _tell_locally(self, task_id: str, status: TaskStatus) -> None:
        self.on_local(task_id, status)

    def _poke(self, held: Held) -> None:
        """Have the task take its next steps, unless it is at it or the runner is not running yet."""
        if not held.driving and self._group is not None:
            if self._next(held).operation is Operation.WAIT:
                return
            held.driving = True
            self._group.create_task(self._drive(held))

    def _next(self, held: Held) -> Step:
        """Return the next step, having set the alarm if it is to wait."""
        if held.alarm is not None:
            held.alarm.cancel()
            held.alarm = None
        following = step(held.facts(settled=self._draining.settled, busy=self._draining.busy), self._clock.monotonic())
        if following.operation is Operation.WAIT and following.until_s < NEVER:
            held.alarm = self._alarms.at(following.until_s, lambda: self._poke(held))
        return following

    async def _drive(self, held: Held) -> None:
        try:
            while (operation := self._next(held).operation) is not Operation.WAIT:
                try:
                    await self._operations.perform(operation, held)
                    held.failures = 0
                except SwarmError as error:
                    self._failed(operation, held, error)
                    continue
                self._after(operation, held)
                if operation is Operation.REMOVE:
                    return
        finally:
            held.driving = False

    def _failed(self, operation: Operation, held: Held, error: SwarmError) -> None:
        if self._operations.settle_failure(operation, held, error):
            held.failures += 1
            delay_s = full_jitter_s(held.failures, self._rng, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
            held.retry_at_s = self._clock.monotonic() + max(delay_s, 0.001)

    def _after(self, operation: Operation, held: Held) -> None:
        if operation is Operation.START and held.process is Process.RUNNING:
            self._vitals.watch(held)
        elif operation is Operation.RELEASE and held.assignment.local:
            self.on_released(held.id)
        elif operation is Operation.REMOVE:
            self._held.pop(held.id, None)
            self._draining.discard(held.id)
            self.reports.forget(held.id)
            if held.assignment.local:
                self.on_released(held.id)


def _nobody_listens(_task_id: str, _status: TaskStatus) -> None:
    """What `on_local` does until somebody sets it."""


def _nobody_waits(_task_id: str) -> None:
    """What `on_released` does until somebody sets it: a local task may be put again, or is gone."""


def _nobody_keeps(_task_id: str) -> bool:
    """What `is_kept` answers until somebody keeps containers that do not run."""
    return False


class _Assignments(Mapping[str, Assignment]):
    """A view of what is held, without a copy: it is asked for with each message of the manager."""

    def __init__(self, held: Mapping[str, Held]) -> None:
        self._held = held

    def __getitem__(self, task_id: str) -> Assignment:
        held = self._held[task_id]
        if held.removed or held.assignment.local:
            raise KeyError(task_id)
        return held.assignment

    def __iter__(self) -> Iterator[str]:
        return (i for i, h in self._held.items() if not (h.removed or h.assignment.local))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Ear:
    """What one executor tells the runner."""

    def __init__(self, runner: TaskRunner, executor: Executor) -> None:
        self._runner = runner
        self._executor = executor

    def inventory(self, found: Mapping[str, Found]) -> None:
        self._runner.inventory(self._executor, found)

    def exited(self, task_id: str, ended: Exit) -> None:
        self._runner.exited(task_id, ended)
