"""The control loop of replicated services: watch, decide, write. All it remembers can be made anew from the store."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Final, TypeVar

import structlog

from manager.orchestrator.actions import Action, SlotActions, age_order
from manager.orchestrator.apply import Decision, apply, batches
from manager.orchestrator.backlog import WHOLE, Backlog, matters_to_tasks
from manager.orchestrator.planner import look_at, look_at_all, switch_all
from manager.orchestrator.reconcile import empty
from manager.orchestrator.rollout import Rollout
from manager.orchestrator.site import Site
from manager.orchestrator.updater import UpdatePlan, plan_update
from manager.store.commit import Commit
from manager.store.store import Store
from manager.store.tables import NODES, SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.watch import CompactedError, Watch, next_or_deadline
from swarmpy.clock import Clock
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model.service import Service, version_id
from swarmpy.model.states import ModeKind
from swarmpy.model.task import Task

T = TypeVar("T")

_SLICE: Final = 100
"""Slots that are looked at between two turns of the event loop, about a millisecond's work."""


class Orchestrator:
    """Keeps replicated services at their number of tasks, restarts what ends, and rolls updates out.

    Run it on the leader only, once the leader has applied everything that was committed before its term.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        logger: structlog.typing.FilteringBoundLogger | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._log = logger or structlog.get_logger()
        self._backlog = Backlog()
        self._rollouts: dict[str, Rollout] = {}

    async def run(self) -> None:
        """Work until cancelled. Raises what the store raises when this manager loses its leadership."""
        while True:
            try:
                with self._store.watch(SERVICES, TASKS, NODES) as watch:
                    await self._follow(watch)
            except CompactedError as error:
                self._log.info("orchestrator_starts_over", revision=error.revision)

    async def _follow(self, watch: Watch) -> None:
        self._backlog = Backlog()
        self._rollouts = {}
        await self._take_stock()
        while True:
            while self._backlog:
                await self._work(*self._backlog.take(), watch)
                self._absorb(watch.drain())
            commit = await next_or_deadline(watch, self._clock, self._deadline_s())
            if commit is not None:
                self._absorb([commit, *watch.drain()])
            self._backlog.due(self._clock.now())

    def _deadline_s(self) -> float | None:
        """Return the monotonic time of the earliest timer."""
        at = self._backlog.timers.next()
        return None if at is None else self._clock.monotonic() + max(0.0, at - self._clock.now())

    async def _take_stock(self) -> None:
        """Look at everything once: all services, and tasks whose service is gone."""
        view = self._store.view()
        self._backlog.services.update(service.id for service in view.all(SERVICES))
        tasks = list(view.all(TASKS))
        for start in range(0, len(tasks), _SLICE * 10):
            self._backlog.services.update(task.service_id for task in tasks[start : start + _SLICE * 10])
            await asyncio.sleep(0)

    def _absorb(self, commits: Iterable[Commit]) -> None:
        backlog = self._backlog
        for commit in commits:
            for service_change in commit.of(SERVICES):
                backlog.service_changed(service_change)
            for task_change in commit.of(TASKS):
                backlog.task_changed(task_change)
            for node_change in commit.of(NODES):
                if matters_to_tasks(node_change.before, node_change.after):
                    for task in self._store.view().find(TASKS, "node_id", node_change.id):
                        backlog.task_on_changed_node(task)

    async def _work(self, service_id: str, slots: set[int] | None, watch: Watch) -> None:
        """Decide what a service needs, as a whole or in some slots, and write it."""
        service = self._store.view().get(SERVICES, service_id)
        if service is None:
            await self._write(self._removal(service_id), watch)
            return
        if service.spec.mode.kind is not ModeKind.REPLICATED:
            return
        site = self._site(service)
        rollout = self._rollouts.get(service_id)
        if slots is None:
            rollout = rollout or Rollout()
            looks = look_at_all(site, await self._slots(service_id), rollout)
        else:
            looks = (look_at(site, rollout, slot, self._tasks(service_id, slot)) for slot in sorted(slots))
        groups: list[SlotActions] = []
        async for look in _in_slices(looks):
            groups += look.groups
            self._backlog.wait((service_id, look.slot), look.waits, look.wake_at)
        status = None
        if rollout is not None:
            step = self._next_step(service, rollout, site.now)
            status = step.status
            switched = switch_all(site, step, rollout, partial(self._tasks, service_id))
            groups += [group async for group in _in_slices(switched)]
        if groups or status is not None:
            await self._write(Decision(service, tuple(groups), status), watch)

    def _removal(self, service_id: str) -> Decision:
        self._backlog.forget(service_id)
        self._rollouts.pop(service_id, None)
        tasks = self._store.view().find(TASKS, "service_id", service_id)
        return Decision(
            None, tuple(group for task in tasks for group in empty(task.slot, [task], "its service was removed"))
        )

    def _next_step(self, service: Service, rollout: Rollout, now: float) -> UpdatePlan:
        """Plan the update's next step, and keep the rollout while the update goes on."""
        step = plan_update(service, rollout, now)
        self._backlog.timers.set((service.id, WHOLE), step.wake_at)
        if step.is_over:
            self._rollouts.pop(service.id, None)
            self._backlog.rolling.discard(service.id)
        else:
            self._rollouts[service.id] = rollout
            self._backlog.rolling.add(service.id)
        return step

    async def _write(self, decision: Decision, watch: Watch) -> None:
        """Carry a decision out, a transaction after another; meanwhile keep up with the watch."""
        done: Counter[str] = Counter()
        for batch in batches(decision):
            actions = await self._store.update(
                partial(apply, decision=batch, now=self._clock.now(), new_id=self._new_id)
            )
            done.update(_name(action) for action in actions)
            self._absorb(watch.drain())
        if done or decision.status is not None:
            name = decision.service.name if decision.service is not None else "(removed)"
            update = decision.status.message if decision.status is not None else ""
            self._log.info("orchestrated", service=name, update=update, **done)

    def _site(self, service: Service) -> Site:
        # Each look is at a fresh view, since a view does not outlive an await.
        return Site(
            service,
            node=lambda node_id: self._store.view().get(NODES, node_id),
            version=lambda number: self._store.view().get(SERVICE_VERSIONS, version_id(service.id, number)),
            now=self._clock.now(),
        )

    def _tasks(self, service_id: str, slot: int) -> list[Task]:
        return sorted(self._store.view().find(TASKS, "slot", f"{service_id}/{slot}"), key=age_order)

    async def _slots(self, service_id: str) -> dict[int, list[Task]]:
        """Return a service's tasks by slot, each slot's oldest first."""
        slots: defaultdict[int, list[Task]] = defaultdict(list)
        tasks = list(self._store.view().find(TASKS, "service_id", service_id))
        for start in range(0, len(tasks), _SLICE * 10):
            for task in tasks[start : start + _SLICE * 10]:
                slots[task.slot].append(task)
            await asyncio.sleep(0)
        for several in slots.values():
            if len(several) > 1:
                several.sort(key=age_order)
        return dict(slots)

    def _new_id(self) -> str:
        return new_id(self._random_bytes)


async def _in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """Give items as they come, and a turn to others after every hundred."""
    for turn, item in enumerate(items, 1):
        yield item
        if turn % _SLICE == 0:
            await asyncio.sleep(0)


def _name(action: Action) -> str:
    return type(action).__name__
