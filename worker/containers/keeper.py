"""Keeps the containers of users: gives their runs to the task runner, and takes down what becomes of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.task import TaskStatus
from worker.alarms import Alarm, Alarms
from worker.assignments import Changes
from worker.containers.life import assignment, begun, told
from worker.containers.record import Record, Records
from worker.containers.restart import comes_back
from worker.containers.view import no_such
from worker.task.runner import TaskRunner

_log = structlog.get_logger()
START_WITHIN_S: Final = 60.0


class Keeper:
    """All containers of users, by id. What changes one goes through `change`, which writes it down first."""

    def __init__(
        self,
        *,
        records: Records,
        runner: TaskRunner,
        alarms: Alarms,
        clock: Clock,
        rng: random.Random,
        delete: Callable[[str], Awaitable[None]],
        is_new_life: bool,
    ) -> None:
        """
        Args:
            delete: removes what a container that never ran has on disk.
            is_new_life: whether the node itself has started anew since its containers were last looked after.
        """
        self._records = records
        self._runner = runner
        self._alarms = alarms
        self._clock = clock
        self._is_new_life = is_new_life
        self._delete = delete
        self.rng = rng
        self._held: dict[str, Record] = {}
        self._due: dict[str, Alarm] = {}
        self._kept: set[str] = set()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.ready = asyncio.Event()
        runner.on_local = self._hear
        runner.on_released = self._released
        runner.is_kept = self._held.__contains__
        for record in records.load():
            self._held[record.id] = record

    @property
    def records(self) -> Mapping[str, Record]:
        return self._held

    def status(self, container_id: str) -> TaskStatus | None:
        """Return what the runner says of a container's present run."""
        record = self.get(container_id)
        held = self._runner.local_run(container_id) == record.run
        return self._runner.local_statuses.get(container_id) if held else None

    def get(self, container_id: str) -> Record:
        """Return a container's record.

        Raises:
            SwarmError: NOT_FOUND.
        """
        record = self._held.get(container_id)
        if record is None:
            raise no_such(container_id)
        return record

    async def run(self) -> None:
        """Take over what a former worker left, then serve until cancelled; the containers go on."""
        await self._runner.recovered.wait()
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for record in list(self._held.values()):
                    self._take_over(record)
                self.ready.set()
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    def _take_over(self, record: Record) -> None:
        held_run = self._runner.local_run(record.id)
        status = self._runner.local_statuses.get(record.id)
        if record.is_live and held_run == record.run and status is not None:
            self._hear(record.id, status)
        record = self._held[record.id]
        if record.is_live:
            # A run that the runner does not know of was begun by a worker that died over it.
            stop = not record.wanted
            self._runner.apply(Changes(put=(assignment(record, stop=stop),)))
        elif self._is_new_life and not record.removing and not record.next_run_at and self._comes_back(record):
            self.change(record, wanted=True, next_run_at=self._clock.now())
        if self._runner.may_run_again(record.id):
            self._released(record.id)

    def _comes_back(self, record: Record) -> bool:
        return bool(record.run) and comes_back(
            record.config.restart,
            exit_code=record.exit_code or 0,
            by_hand=record.by_hand,
            in_a_row=record.in_a_row,
        )

    def add(self, record: Record) -> None:
        """Keep a new container.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full.
        """
        self._records.save(record)
        self._held[record.id] = record

    def change(self, record: Record, **changes: object) -> Record:
        """Write a container's record down, with changes, and have those told who wait for it.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full; nothing is changed then.
        """
        changed = msgspec.structs.replace(record, **changes)
        self._records.save(changed)
        self._held[record.id] = changed
        self._notify(record.id)
        return changed

    def note(self, record: Record, **changes: object) -> Record:
        """Change a record as `change` does, written down if it can be.

        A full disk keeps nothing from ending: it is by removing that it gets space. What is not written is not known to
        another worker, which may start the container again, or find it there still.
        """
        changed = msgspec.structs.replace(record, **changes)
        try:
            self._records.save(changed)
        except SwarmError as error:
            _log.warning("container record not written", container=record.id, error=error.message)
        self._held[record.id] = changed
        self._notify(record.id)
        return changed

    def begin(self, container_id: str, *, by_user: bool) -> Record:
        """Begin a container's next run; the former one must have ended and been released."""
        self._cancel_due(container_id)
        record = self.change(begun(self.get(container_id), by_user=by_user))
        self._runner.apply(Changes(put=(assignment(record),)))
        return record

    def withdraw(self, container_id: str, *, grace_s: float | None = None, stop_signal: str = "") -> Record:
        """Have a container's run end, and none follow, until its user starts it again."""
        self._cancel_due(container_id)
        record = self.note(self.get(container_id), wanted=False, by_hand=True, next_run_at=0.0)
        if record.is_live:
            put = assignment(record, stop=True, grace_s=grace_s, stop_signal=stop_signal)
            self._runner.apply(Changes(put=(put,)))
        self._notify(container_id)
        return record

    def is_idle(self, container_id: str) -> bool:
        """Whether no run goes on and nothing of the last one is left to do; of one that is gone, too."""
        record = self._held.get(container_id)
        return record is None or (not record.is_live and self._runner.may_run_again(container_id))

    async def until(self, container_id: str, done: Callable[[], bool]) -> None:
        """Wait until `done` says so; it is asked whenever something happens to the container."""
        changed = asyncio.Event()
        self._waiting.setdefault(container_id, set()).add(changed)
        try:
            while not done():
                changed.clear()
                await changed.wait()
        finally:
            listeners = self._waiting[container_id]
            listeners.discard(changed)
            if not listeners:
                self._waiting.pop(container_id, None)

    async def remove(self, container_id: str) -> None:
        """Delete a container whose run is over, or is ending, with all that it has.

        Raises:
            SwarmError: UNAVAILABLE, something is busy or containerd is away; to be called again.
        """
        self.note(self.get(container_id), removing=True, wanted=False, by_hand=True, next_run_at=0.0)
        self._cancel_due(container_id)
        if self._runner.local_run(container_id):
            self._runner.apply(Changes(removed=(container_id,)))
            await self.until(container_id, lambda: not self._runner.local_run(container_id))
        else:
            await self._delete(container_id)
        self._records.remove(container_id)
        self._held.pop(container_id, None)
        self._notify(container_id)

    @contextmanager
    def keeping(self, container_id: str) -> Iterator[None]:
        """Let a container stay that is otherwise removed when it ends."""
        self._kept.add(container_id)
        try:
            yield
        finally:
            self._kept.discard(container_id)
            self._released(container_id)

    async def end_of(self, container_id: str, run: int) -> tuple[int, str]:
        """Wait until a run has ended, and return its exit code and why it could not be started, if it could not."""
        seen = self.get(container_id)

        def ended() -> bool:
            nonlocal seen
            seen = self._held.get(container_id, seen)
            return seen.ended_run >= run or container_id not in self._held

        await self.until(container_id, ended)
        return seen.exit_code or 0, seen.error

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something in the background, as long as the worker lives; it must not raise."""
        assert self._group is not None, "nothing is asked for before the keeper runs"
        return self._group.create_task(work)

    def _hear(self, container_id: str, status: TaskStatus) -> None:
        """The runner tells of a run. Never raises."""
        record = self._held.get(container_id)
        if record is None or self._runner.local_run(container_id) != record.run:
            return
        changed = told(record, status, self._clock.now())
        if changed is not record:
            self.note(changed)  # what happened is in the runner's journal too, and is told again by the next worker
        else:
            self._notify(container_id)

    def _released(self, container_id: str) -> None:
        """Nothing is left to do for the last run: another may follow, or the container go."""
        record = self._held.get(container_id)
        if record is not None and not record.is_live:
            goes = record.config.auto_remove and record.run and not record.next_run_at
            if record.removing or (goes and container_id not in self._kept and self.is_idle(container_id)):
                self._spawn_removal(container_id)
            elif record.next_run_at and container_id not in self._due:
                wait_s = max(0.0, record.next_run_at - self._clock.now())
                at_s = self._clock.monotonic() + wait_s
                self._due[container_id] = self._alarms.at(at_s, lambda: self._run_again(container_id))
        self._notify(container_id)

    def _run_again(self, container_id: str) -> None:
        self._due.pop(container_id, None)
        record = self._held.get(container_id)
        if record is not None and record.next_run_at and self.is_idle(container_id):
            try:
                self.begin(container_id, by_user=False)
            except SwarmError as error:
                _log.warning("container is not restarted", container=container_id, error=error.message)

    def _spawn_removal(self, container_id: str) -> None:
        if self._group is not None:
            self._group.create_task(self._remove_quietly(container_id))

    async def _remove_quietly(self, container_id: str) -> None:
        try:
            if container_id in self._held:
                await self.remove(container_id)
        except SwarmError as error:
            if error.code is not Code.NOT_FOUND:
                _log.warning("container is not removed", container=container_id, error=error.message)

    def _cancel_due(self, container_id: str) -> None:
        due = self._due.pop(container_id, None)
        if due is not None:
            due.cancel()

    def _notify(self, container_id: str) -> None:
        for event in self._waiting.get(container_id, ()):
            event.set()
