"""Statuses on their way to the manager: the newest of each task, in batches, kept until acknowledged. Sans-IO.

Leading edge: what people wait for (running, ready, stopped) wakes the sender at once, and while a batch is in flight
newer statuses replace older ones. A state that a task only passes through may wait a moment, so that a start that
takes 20 ms costs the manager one write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from worker.alarms import Alarm, Alarms

PASSING_DELAY_S: Final = 0.050
LARGEST_BATCH: Final = 1000


class StatusReports:
    """The outbox of task statuses of one worker; survives its sessions."""

    def __init__(self, alarms: Alarms, acknowledged: Callable[[str], None]) -> None:
        """
        Args:
            alarms: wakes the sender for states that were held back.
            acknowledged: told the id of each task whose newest status the manager has stored.
        """
        self._alarms = alarms
        self._acknowledged = acknowledged
        self._waiting: dict[str, TaskStatus] = {}
        self._in_flight: dict[str, TaskStatus] = {}
        self._sequence = 0
        self._due = False
        self._alarm: Alarm | None = None
        self.wake: Callable[[], None] = _nobody_listens

    def put(self, task_id: str, status: TaskStatus) -> None:
        """Report `status` in place of an older one of the task."""
        self._waiting[task_id] = status
        if self._due:
            return
        if status.state >= TaskState.RUNNING:
            self._fall_due()
        elif self._alarm is None:
            self._alarm = self._alarms.after(PASSING_DELAY_S, self._fall_due)

    def forget(self, task_id: str) -> None:
        """Drop what is not sent of a task that is gone."""
        self._waiting.pop(task_id, None)

    def is_acknowledged(self, task_id: str) -> bool:
        """Whether the manager has stored the newest status of the task."""
        return task_id not in self._waiting and task_id not in self._in_flight

    def take(self) -> tuple[int, Mapping[str, TaskStatus]] | None:
        """Return the next batch with its sequence; None while one is in flight or nothing is due."""
        if self._in_flight or not self._due or not self._waiting:
            return None
        if len(self._waiting) <= LARGEST_BATCH:
            batch, self._waiting = self._waiting, {}
            self._due = False
        else:
            batch = {i: self._waiting.pop(i) for i in list(self._waiting)[:LARGEST_BATCH]}
        self._in_flight = batch
        self._sequence += 1
        return self._sequence, batch

    def acknowledge(self, sequence: int) -> None:
        """The manager has stored the batch `sequence`; an older one's word means nothing."""
        if sequence != self._sequence or not self._in_flight:
            return
        batch, self._in_flight = self._in_flight, {}
        for task_id in batch:
            if task_id not in self._waiting:
                self._acknowledged(task_id)
        if self._due:
            self.wake()

    def restart(self) -> None:
        """A new session begins: sequences start over and what was not acknowledged is sent again."""
        self._waiting = {**self._in_flight, **self._waiting}
        self._in_flight = {}
        self._sequence = 0
        self._due = bool(self._waiting)

    def _fall_due(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._waiting:
            return
        self._due = True
        if not self._in_flight:
            self.wake()


def _nobody_listens() -> None:
    """What `wake` does between sessions: statuses gather."""
