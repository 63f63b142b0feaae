"""A service as a whole: its slots looked at one by one, and the next steps of its update.

The functions give their results piece by piece, so that a caller may let others run between two slots of many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from manager.orchestrator.actions import SlotActions
from manager.orchestrator.phase import Phase, Standing, standing
from manager.orchestrator.reconcile import Slots, empty, fill, missing, surplus, used_slots
from manager.orchestrator.rollout import Rollout
from manager.orchestrator.site import Site
from manager.orchestrator.slot import is_free, plan_slot
from manager.orchestrator.updater import UpdatePlan, switch_slot
from swarmpy.model.task import Task


@dataclass(frozen=True, slots=True)
class Look:
    """What came of looking at one slot: what to do, whether to follow its tasks, when to look again (wall seconds)."""

    slot: int
    groups: tuple[SlotActions, ...] = ()
    waits: bool = False
    wake_at: float | None = None


def look_at_all(site: Site, slots: Slots, rollout: Rollout) -> Iterator[Look]:
    """Bring a service to its number of slots, and look at each that stays. New slots come first, then all in order."""
    used = used_slots(slots)
    excess = set(surplus(site, slots, used))
    reason = f"scaled down to {site.service.spec.mode.replicas}"
    for slot in missing(site, used):
        yield Look(slot, (fill(site, slot, slots.get(slot, ())),))
    for slot in used:
        if slot in excess:
            rollout.put(slot, None, site.now)
            yield Look(slot, tuple(empty(slot, slots[slot], reason)))
        else:
            yield look_at(site, rollout, slot, slots[slot])


def look_at(site: Site, rollout: Rollout | None, slot: int, tasks: Sequence[Task]) -> Look:
    """Plan one slot, its tasks oldest first, and note in `rollout` where it stands in the update."""
    if is_free(tasks):
        if rollout is not None:
            rollout.put(slot, None, site.now)
        return Look(slot)
    plan = plan_slot(site, tasks)
    if rollout is not None:
        stands = standing(site, plan.foresee(tasks))
        if plan.starts and stands is not None and stands.phase in (Phase.IDLE, Phase.OUTDATED):
            stands = Standing(Phase.SWITCHING, since=site.now)
        rollout.put(slot, stands, site.now)
    groups = (plan.group(slot, tasks),) if plan.actions else ()
    return Look(slot, groups, plan.waits, plan.wake_at)


def switch_all(
    site: Site, step: UpdatePlan, rollout: Rollout, tasks_of: Callable[[int], Sequence[Task]]
) -> Iterator[SlotActions]:
    """Switch the slots that a step of the update names. `tasks_of` gives a slot's tasks, oldest first."""
    for slot in step.switch:
        tasks = tasks_of(slot)
        if not is_free(tasks):
            rollout.put(slot, Standing(Phase.SWITCHING, since=site.now), site.now)
            yield switch_slot(site, tasks).group(slot, tasks)
