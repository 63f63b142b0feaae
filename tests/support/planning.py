"""The orchestrator's decisions without its loop: rows in memory, one plan after another, no event loop.

For scenarios and laws that need thousands of steps; what is decided and how it is written is the real thing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Any, cast

import msgspec

from manager.orchestrator.actions import Action, age_order
from manager.orchestrator.apply import Decision, apply, batches
from manager.orchestrator.planner import look_at_all, switch_all
from manager.orchestrator.rollout import Rollout
from manager.orchestrator.site import Site
from manager.orchestrator.updater import plan_update
from manager.store.rows import Rows
from manager.store.tables import NODES, SERVICE_VERSIONS, SERVICES, TABLES, TASKS, T, Table
from swarmpy.ids import new_id
from swarmpy.model.service import Service, ServiceVersion, version_id
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.task import Task
from tests.support.cluster import Script, Workers, random_source


class Tables:
    """A Transaction over plain rows, at once its own view. Versions count writes."""

    def __init__(self) -> None:
        self.revision = 0
        self._rows: dict[Table[Any], Rows[Any]] = {table: Rows(table) for table in TABLES}

    def copy(self) -> Tables:
        twin = Tables()
        twin.revision = self.revision
        for table, rows in self._rows.items():
            for row in rows.all():
                twin._rows[table].put(row)
        return twin

    def rows(self, table: Table[T]) -> Rows[T]:
        return cast("Rows[T]", self._rows[table])

    def get(self, table: Table[T], id: str) -> T | None:  # noqa: A002 - the name is the Protocol's
        return self.rows(table).get(id)

    def all(self, table: Table[T]) -> Collection[T]:
        return list(self.rows(table).all())

    def find(self, table: Table[T], index: str, key: str) -> Collection[T]:
        return list(self.rows(table).find(index, key))

    def count(self, table: Table[T], index: str, key: str) -> int:
        return self.rows(table).count(index, key)

    def after(self, table: Table[T], id: str, limit: int) -> list[T]:  # noqa: A002 - the name is the Protocol's
        return self.rows(table).after(id, limit)

    def create(self, table: Table[T], obj: T) -> T:
        assert self.get(table, obj.id) is None, f"{obj.id} exists"
        return self.put(table, obj)

    def update(self, table: Table[T], obj: T) -> T:
        stored = self.get(table, obj.id)
        assert stored is not None, f"{obj.id} does not exist"
        assert stored.version == obj.version, f"{obj.id} is out of sequence"
        return self.put(table, obj)

    def put(self, table: Table[T], obj: T) -> T:
        self.revision += 1
        row: T = msgspec.structs.replace(obj, version=self.revision)  # type: ignore[type-var]  # rows are structs
        self.rows(table).put(row)
        return row

    def delete(self, table: Table[T], id: str) -> None:  # noqa: A002 - the name is the Protocol's
        assert self.rows(table).remove(id) is not None, f"{id} does not exist"


class Planning:
    """One service with its tasks. `plan` is what the loop decides at a full look, `step` is everyone else's work."""

    def __init__(self, *, now: float = 1000.0, script: Script | None = None) -> None:
        self.tables = Tables()
        self.now = now
        self._random = random_source()
        self.workers = Workers(lambda: self.tables, lambda: self.now, script)
        self.rollout: Rollout | None = None

    def fork(self) -> Planning:
        """Return what the next leader finds: the rows as they are, and no memory."""
        twin = Planning(now=self.now, script=self.workers.script)
        twin.tables = self.tables.copy()
        twin._random = random_source(self.tables.revision + 1)
        return twin

    def create(self, spec: ServiceSpec, service_id: str = "web") -> None:
        service = Service(id=service_id, spec=spec, created_at=self.now, updated_at=self.now)
        self.tables.create(SERVICES, service)
        self._add_version(service)

    def update(self, spec: ServiceSpec, service_id: str = "web") -> None:
        before = self.service(service_id)
        changed = before.spec.task != spec.task
        after = msgspec.structs.replace(
            before,
            spec=spec,
            spec_version=before.spec_version + changed,
            updated_at=max(self.now, before.updated_at + 0.001),
        )
        self.tables.update(SERVICES, after)
        if changed:
            self._add_version(after)

    def service(self, service_id: str = "web") -> Service:
        row = self.tables.get(SERVICES, service_id)
        assert row is not None
        return row

    def versions(self, service_id: str = "web") -> list[ServiceVersion]:
        return list(self.tables.find(SERVICE_VERSIONS, "service_id", service_id))

    def tasks(self, service_id: str = "web") -> list[Task]:
        rows = self.tables.find(TASKS, "service_id", service_id)
        return sorted(rows, key=lambda task: (task.slot, *age_order(task)))

    def slots(self, service_id: str = "web") -> dict[int, list[Task]]:
        slots: defaultdict[int, list[Task]] = defaultdict(list)
        for task in self.tasks(service_id):
            slots[task.slot].append(task)
        return dict(slots)

    def decide(self, service_id: str = "web") -> tuple[Decision, float | None]:
        """Return what the loop would write now, and when time alone calls for another look."""
        service = self.service(service_id)
        site = Site(
            service,
            node=lambda name: self.tables.get(NODES, name),
            version=lambda number: self.tables.get(SERVICE_VERSIONS, version_id(service.id, number)),
            now=self.now,
        )
        slots = self.slots(service_id)
        rollout = self.rollout or Rollout()
        looks = list(look_at_all(site, slots, rollout))
        step = plan_update(service, rollout, self.now)
        self.rollout = None if step.is_over else rollout
        groups = [group for look in looks for group in look.groups]
        groups += switch_all(site, step, rollout, lambda slot: slots[slot])
        wakes = [at for at in (*(look.wake_at for look in looks), step.wake_at) if at is not None]
        return Decision(service, tuple(groups), step.status), min(wakes, default=None)

    def plan(self, service_id: str = "web", *, transactions: int | None = None) -> list[Action]:
        """Decide and write; `transactions` cuts the writing short, as a lost leader does."""
        decision, _ = self.decide(service_id)
        done: list[Action] = []
        for batch in list(batches(decision))[:transactions]:
            done += apply(self.tables, batch, now=self.now, new_id=lambda: new_id(self._random))
        return done

    def step(self, only: Collection[str] | None = None) -> int:
        """Move every task, or only those named, on by one state; return how many moved."""
        load = Counter(task.node_id for task in self.tables.all(TASKS) if task.occupies_node)
        moved = 0
        for task in sorted(self.tables.all(TASKS), key=lambda task: task.id):
            if only is None or task.id in only:
                after = self.workers.advance(task, load)
                if after is not task:
                    self.tables.update(TASKS, after)
                    moved += 1
        return moved

    def settle(self, service_id: str = "web", *, rounds: int = 2000) -> None:
        """Plan, step and let time pass until nothing happens any more."""
        for _ in range(rounds):
            acted = bool(self.plan(service_id))
            if self.step() or acted:
                continue
            _, wake_at = self.decide(service_id)
            if wake_at is None:
                return
            self.now = max(self.now, wake_at)
        raise AssertionError(f"{service_id} does not come to rest in {rounds} rounds")

    def _add_version(self, service: Service) -> None:
        self.tables.create(
            SERVICE_VERSIONS,
            ServiceVersion(
                id=version_id(service.id, service.spec_version),
                service_id=service.id,
                number=service.spec_version,
                name=service.name,
                task=service.spec.task,
            ),
        )
