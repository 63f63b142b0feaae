"""What has to be looked at: told from changes, so that ordinary progress of tasks costs next to nothing."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Final

from manager.store.commit import Change
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.states import NodeState, TaskState
from swarmpy.model.task import Task

WHOLE: Final = -1
"""In place of a slot's number: the service's update."""

Key = tuple[str, int]


class Backlog:
    """Services to look at as a whole, single slots to look at, and times at which more will be due.

    `waiting` are slots in which a hand-over is under way, so that every change of their tasks counts; `rolling` are
    services with an update under way, of which the same is true.
    """

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.slots: defaultdict[str, set[int]] = defaultdict(set)
        self.waiting: defaultdict[str, set[int]] = defaultdict(set)
        self.rolling: set[str] = set()
        self.timers = Timers()

    def __bool__(self) -> bool:
        return bool(self.services or self.slots)

    def take(self) -> tuple[str, set[int] | None]:
        """Take the next service: with the slots to look at, or None for all of it."""
        if self.services:
            service_id = self.services.pop()
            self.slots.pop(service_id, None)
            return service_id, None
        service_id = next(iter(self.slots))
        return service_id, self.slots.pop(service_id)

    def service_changed(self, change: Change[Service]) -> None:
        before, after = change.before, change.after
        if before is None or after is None or before.spec != after.spec or before.updated_at != after.updated_at:
            self.services.add(change.id)

    def task_changed(self, change: Change[Task]) -> None:
        before, after = change.before, change.after
        task = after if after is not None else before
        assert task is not None, "a change has a row before or after"
        service_id, slot = task.service_id, task.slot
        awaited = service_id in self.rolling or slot in self.waiting.get(service_id, ())
        if awaited or _opens_a_gap(before, after):
            self.slots[service_id].add(slot)

    def task_on_changed_node(self, task: Task) -> None:
        if task.state <= TaskState.RUNNING:
            self.slots[task.service_id].add(task.slot)

    def wait(self, key: Key, waits: bool, wake_at: float | None) -> None:
        """Note whether a slot's tasks are to be followed, and when to look at it again (wall seconds)."""
        service_id, slot = key
        if waits:
            self.waiting[service_id].add(slot)
        elif service_id in self.waiting:
            self.waiting[service_id].discard(slot)
        self.timers.set(key, wake_at)

    def forget(self, service_id: str) -> None:
        """Drop all notes about a service that is gone."""
        self.waiting.pop(service_id, None)
        self.rolling.discard(service_id)
        self.timers.set((service_id, WHOLE), None)

    def due(self, now: float) -> None:
        """Note what is due at wall time `now`."""
        for service_id, slot in self.timers.due(now):
            slots = self.slots[service_id]
            if slot != WHOLE:
                slots.add(slot)


def _opens_a_gap(before: Task | None, after: Task | None) -> bool:
    """Tell whether a task that held its slot no longer does, and the slot goes on."""
    return (
        before is not None
        and after is not None
        and before.is_wanted
        and not after.is_wanted
        and after.desired_state is not TaskState.REMOVE
    )


def matters_to_tasks(before: Node | None, after: Node | None) -> bool:
    """Tell whether a change of a node decides anew which of its tasks stay, wait or go."""
    if before is None:
        return False
    if after is None:
        return True
    went_or_came = (before.state is NodeState.DOWN) is not (after.state is NodeState.DOWN)
    return went_or_came or before.spec.availability is not after.spec.availability


class Timers:
    """One time (wall seconds) for each key; setting it again replaces it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []
        self._at: dict[Key, float] = {}

    def set(self, key: Key, at: float | None) -> None:
        """Wake `key` at `at`; None: not at all."""
        if at is None:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))

    def next(self) -> float | None:
        """Return the earliest time, if any."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Key]:
        """Take the keys whose time has come."""
        keys = []
        while (at := self.next()) is not None and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            keys.append(key)
        return keys
