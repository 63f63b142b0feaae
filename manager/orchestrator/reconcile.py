"""How many slots a service has: which to add, and which to remove first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count, islice

from manager.orchestrator.actions import SlotActions, StartTask, StopTask
from manager.orchestrator.site import Fate, Site
from manager.orchestrator.slot import is_free
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task

Slots = Mapping[int, Sequence[Task]]
"""The tasks of a service by slot, each slot's oldest first."""


def used_slots(slots: Slots) -> list[int]:
    """Return the slots that somebody holds, or that wait to be held again, in order."""
    return sorted(slot for slot, tasks in slots.items() if not is_free(tasks))


def surplus(site: Site, slots: Slots, used: Sequence[int]) -> list[int]:
    """Return which of the used slots are too many, first to go first.

    What does not run goes first, then what must leave its node anyway, then from the nodes that hold most of this
    service's tasks; among equals the highest slot.
    """
    excess = len(used) - site.service.spec.mode.replicas
    if excess <= 0:
        return []
    ranks: dict[int, tuple[bool, bool, int]] = {}
    held: defaultdict[str, int] = defaultdict(int)
    for slot in used:
        running = [task for task in slots[slot] if task.is_wanted and task.state is TaskState.RUNNING]
        runs = [task for task in running if site.fate(task) is not Fate.LOST]
        if not runs:
            ranks[slot] = (True, True, 0)
            continue
        node_id = runs[-1].node_id
        held[node_id] += 1
        ranks[slot] = (False, site.fate(runs[-1]) is not Fate.STAYS, held[node_id])
    return sorted(used, key=lambda slot: (ranks[slot], slot), reverse=True)[:excess]


def missing(site: Site, used: Sequence[int]) -> list[int]:
    """Return the lowest free slots, as many as are needed."""
    wanting = max(0, site.service.spec.mode.replicas - len(used))
    taken = set(used) if wanting else set()
    return list(islice((slot for slot in count(1) if slot not in taken), wanting))


def fill(site: Site, slot: int, tasks: Sequence[Task]) -> SlotActions:
    """Start the first task of a free slot."""
    after = tasks[-1].created_at if tasks else 0.0
    return SlotActions(slot, frozenset(), (StartTask(slot, site.service.spec_version, after=after),))


def empty(slot: int, tasks: Sequence[Task], reason: str) -> list[SlotActions]:
    """Remove a slot with its history: every row of it goes once it has stopped."""
    return [
        SlotActions(slot, frozenset(), (StopTask(task.id, reason, TaskState.REMOVE),))
        for task in tasks
        if task.desired_state is not TaskState.REMOVE
    ]
