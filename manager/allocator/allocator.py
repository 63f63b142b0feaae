"""The allocator's loop: networks get a subnet, services what they lack, then their tasks may be scheduled."""

from __future__ import annotations

from itertools import islice

import structlog

from manager.allocator.steps import MAX_CHANGES, Steps, is_allocated
from manager.store.commit import Change, Commit
from manager.store.store import Store
from manager.store.tables import NETWORKS, SERVICES, TASKS
from manager.store.view import View
from manager.store.watch import CompactedError, next_or_deadline
from swarmpy.clock import Clock
from swarmpy.model.network import Network
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.states import TaskState

log = structlog.get_logger(__name__)


class Allocator:
    """Runs on the leader. The pools are rebuilt from the stored rows whenever it starts."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._steps = Steps(clock)
        self._without_subnet: dict[str, None] = {}
        self._networks: dict[str, None] = {}
        self._services: dict[str, None] = {}
        self._tasks: dict[str, None] = {}
        self._freed = False

    async def run(self) -> None:
        """Allocate until cancelled."""
        while True:
            with self._store.watch(NETWORKS, SERVICES, TASKS) as watch:
                self._start_over(self._store.view())
                try:
                    while True:
                        await self._work()
                        first = await next_or_deadline(watch, self._clock, self._deadline_s())
                        for commit in (*(() if first is None else (first,)), *watch.drain()):
                            self._take(commit)
                        self._wake()
                except CompactedError as error:
                    log.warning("allocator_fell_behind", reason=error.message)

    def _start_over(self, view: View) -> None:
        self._steps = Steps(self._clock)
        addresses, now_s = self._steps.addresses, self._clock.monotonic()
        networks, services = list(view.all(NETWORKS)), list(view.all(SERVICES))
        for network in networks:
            if network.subnet:
                addresses.add(network, now_s)
        for service in services:
            self._steps.pools.hold(service.endpoint)
            addresses.hold(service.endpoint.vips)
        self._without_subnet = dict.fromkeys(n.id for n in networks if not n.subnet)
        self._networks = dict(self._without_subnet)
        self._services = dict.fromkeys(s.id for s in services if not is_allocated(s))
        self._tasks = {}
        for task in view.all(TASKS):
            if task.state is TaskState.NEW:
                self._tasks[task.id] = None
            elif task.networks and not task.state.is_stopped:
                addresses.hold(task.networks)

    def _take(self, commit: Commit) -> None:
        for network_change in commit.of(NETWORKS):
            self._take_network(network_change)
        for service_change in commit.of(SERVICES):
            self._take_service(service_change)
        for task_change in commit.of(TASKS):
            before, after = task_change.before, task_change.after
            if after is not None and after.state is TaskState.NEW:
                self._tasks[task_change.id] = None
                continue
            held = before.networks if before is not None and not before.state.is_stopped else ()
            if held and (after is None or after.state.is_stopped):
                self._steps.addresses.release(held, self._clock.monotonic())

    def _take_network(self, change: Change[Network]) -> None:
        after = change.after
        if after is None or after.subnet:
            self._without_subnet.pop(change.id, None)
        elif change.before is None:
            self._without_subnet[change.id] = self._networks[change.id] = None
        if after is None:
            self._networks.pop(change.id, None)
            self._steps.addresses.remove(change.id, self._clock.monotonic())

    def _take_service(self, change: Change[Service]) -> None:
        after = change.after
        if after is None:
            assert change.before is not None, "a removed row was there before"
            self._steps.pools.release(change.before.endpoint)
            self._steps.addresses.release(change.before.endpoint.vips, self._clock.monotonic())
        had = change.before.endpoint if change.before is not None else Endpoint()
        if had != (after.endpoint if after is not None else Endpoint()) and had != Endpoint():
            self._freed = True
        if after is None:
            return
        if not is_allocated(after):
            self._services[after.id] = None
        elif change.before is None or not is_allocated(change.before):
            new = self._store.view().find(TASKS, "service_id", after.id)
            self._tasks.update(dict.fromkeys(t.id for t in new if t.state is TaskState.NEW))

    def _deadline_s(self) -> float | None:
        """Return when something will have rested that somebody waits for (monotonic); None if nobody does."""
        now_s = self._clock.monotonic()
        times = [self._steps.addresses.next_free_s(n, now_s) for n in self._steps.waiting.networks]
        if self._without_subnet:
            times.append(self._steps.addresses.next_subnet_s())
        return min((at_s for at_s in times if at_s is not None), default=None)

    def _wake(self) -> None:
        """Have those try again who waited for an address, or a subnet, that is there now."""
        now_s, waiting = self._clock.monotonic(), self._steps.waiting
        for network_id in waiting.networks:
            for row_id, is_task in waiting.pop(network_id, self._steps.addresses.free(network_id, now_s)):
                (self._tasks if is_task else self._services)[row_id] = None
        if self._steps.addresses.forget_rested(now_s):
            self._networks.update(self._without_subnet)

    async def _work(self) -> None:
        while self._networks or self._services or self._tasks or self._freed:
            if self._freed:
                # A number may have become free: whoever waits for one may get it.
                self._freed = False
                waiting = [s.id for s in self._store.view().all(SERVICES) if s.allocation_problem]
                self._services.update(dict.fromkeys(waiting))
            networks, services, self._networks, self._services = list(self._networks), list(self._services), {}, {}
            tasks = list(islice(self._tasks, MAX_CHANGES))
            for task_id in tasks:
                del self._tasks[task_id]
            for start in range(0, len(networks), MAX_CHANGES):
                await self._store.update(self._steps.networks(networks[start : start + MAX_CHANGES]))
            for start in range(0, len(services), MAX_CHANGES):
                left = await self._store.update(self._steps.services(services[start : start + MAX_CHANGES]))
                self._services.update(dict.fromkeys(left))
            if tasks:
                left = await self._store.update(self._steps.tasks(tasks))
                self._tasks.update(dict.fromkeys(left))
            # Who was woken may be gone by now: what it left is for the next one.
            self._wake()
