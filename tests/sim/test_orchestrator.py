"""A whole cluster but for the wire, from one seed: failures, nodes that come and go, updates, leaders that change.

While everything goes wrong at random, what must never happen is checked at each step; in the end all is healed, and
what must be is checked. A seed that failed is run again with SWARMPY_SEED=<seed>.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import AsyncExitStack

import msgspec
import pytest

from manager.orchestrator.enforcer import Enforcer
from manager.orchestrator.loop import Orchestrator
from manager.orchestrator.reaper import Reaper
from manager.store.store import Store
from manager.store.tables import SERVICE_VERSIONS, SERVICES, TASKS
from swarmpy.model.service import version_id
from swarmpy.model.spec import RestartPolicy, ServiceSpec, TaskSpec, UpdateConfig
from swarmpy.model.states import Availability, FailureAction, NodeState, TaskState, UpdateOrder, UpdateState
from swarmpy.model.task import Task
from tests.support.clock import FakeClock, settle
from tests.support.cluster import Does, FakeCluster, leading, random_source, service_spec
from tests.support.store import running_store

NODE_NAMES = ("a", "b", "c", "d")
SERVICE_NAMES = ("web", "api", "db")
SEEDS = [int(os.environ["SWARMPY_SEED"])] if "SWARMPY_SEED" in os.environ else range(12)
EVENTS = 120


class Simulation:
    """One run: `happen` does one random thing to the cluster."""

    def __init__(self, store: Store, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cluster = FakeCluster(store, FakeClock(), self.script)
        self.leaders = 0

    def script(self, task: Task) -> Does:
        """Some templates are broken, as their image's name says."""
        version = self.cluster.store.view().get(SERVICE_VERSIONS, version_id(task.service_id, task.spec_version))
        return Does.FAIL if version is not None and "broken" in version.task.container.image else Does.SERVE

    def loops(self) -> list[Orchestrator | Reaper | Enforcer]:
        self.leaders += 1
        store, clock = self.cluster.store, self.cluster.clock
        orchestrator = Orchestrator(store, clock=clock, random_bytes=random_source(self.leaders))
        return [orchestrator, Reaper(store), Enforcer(store)]

    def spec(self, name: str) -> ServiceSpec:
        rng = self.rng
        update = UpdateConfig(
            parallelism=rng.randint(0, 3),
            order=rng.choice(list(UpdateOrder)),
            delay_s=rng.choice([0.0, 2.0]),
            failure_action=rng.choice([FailureAction.PAUSE, FailureAction.CONTINUE]),
            max_failure_ratio=rng.choice([0.0, 0.5]),
        )
        task = TaskSpec(restart=RestartPolicy(delay_s=rng.choice([None, 0.0, 3.0])))
        image = rng.choice(["app:1", "app:2", "app:3", "app:broken"])
        return service_spec(name, replicas=rng.randint(0, 8), update=update, task=task, image=image)

    async def happen(self) -> None:
        cluster, rng = self.cluster, self.rng
        what = rng.choices(["create", "update", "scale", "remove", "kill", "node", "time"], [2, 2, 3, 1, 8, 4, 6])[0]
        name = rng.choice(SERVICE_NAMES)
        known = cluster.store.view().get(SERVICES, name) is not None
        alive = sorted(task.id for task in cluster.store.view().all(TASKS) if task.state is TaskState.RUNNING)
        if what == "create" and not known and not cluster.tasks(name):
            await cluster.create_service(self.spec(name))
        elif what == "update" and known:
            await cluster.update_service(name, self.spec(name))
        elif what == "scale" and known:
            spec = cluster.service(name).spec
            mode = msgspec.structs.replace(spec.mode, replicas=rng.randint(0, 8))
            await cluster.update_service(name, msgspec.structs.replace(spec, mode=mode))
        elif what == "remove" and known:
            await cluster.remove_service(name)
        elif what == "kill" and alive:
            await cluster.end(rng.choice(alive), rng.choice([TaskState.FAILED, TaskState.COMPLETE]))
        elif what == "node":
            state = rng.choice([NodeState.READY, NodeState.READY, NodeState.DOWN])
            await cluster.change_node(rng.choice(NODE_NAMES), state=state, availability=rng.choice(list(Availability)))
        elif what == "time":
            await cluster.clock.advance(rng.choice([0.1, 1.0, 10.0, 70.0]))

    def check_always(self) -> None:
        """No slot is held twice but in a hand-over, and nobody stops a running task without saying why."""
        for name in SERVICE_NAMES:
            held = Counter(task.slot for task in self.cluster.tasks(name) if task.is_wanted)
            assert all(count <= 2 for count in held.values()), f"{name}: {held}"
            for task in self.cluster.tasks(name):
                asked = task.desired_state > TaskState.RUNNING and not task.state.is_stopped
                assert not asked or task.desired_reason, task

    async def heal(self) -> None:
        for name in NODE_NAMES:
            await self.cluster.change_node(name, state=NodeState.READY, availability=Availability.ACTIVE)
        for name in SERVICE_NAMES:
            if self.cluster.store.view().get(SERVICES, name) is not None:
                await self.cluster.update_service(name, service_spec(name, replicas=4, image="app:good"))
        for _ in range(60):
            await self.cluster.settle()
            await self.cluster.clock.advance(10)

    def check_healed(self) -> None:
        for name in SERVICE_NAMES:
            rows = self.cluster.tasks(name)
            if self.cluster.store.view().get(SERVICES, name) is None:
                assert rows == [], f"{name} was removed"
                assert not self.cluster.store.view().find(SERVICE_VERSIONS, "service_id", name)
                continue
            service = self.cluster.service(name)
            alive = [task for task in rows if not task.state.is_stopped]
            assert len(alive) == len({task.slot for task in alive}) == 4
            assert all(task.is_endpoint and task.spec_version == service.spec_version for task in alive)
            assert service.update_status.state in (UpdateState.NONE, UpdateState.COMPLETED)
            assert max(Counter(task.slot for task in rows).values()) <= 5, "history is bounded"
            assert all(task.desired_state is not TaskState.REMOVE for task in rows)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_cluster_survives_everything(seed: int) -> None:
    print(f"seed {seed}")
    async with running_store() as store:
        simulation = Simulation(store, seed)
        await simulation.cluster.add_nodes(*NODE_NAMES)
        stack = AsyncExitStack()
        async with stack:
            await stack.enter_async_context(leading(*simulation.loops()))
            for _ in range(EVENTS):
                if simulation.rng.random() < 0.05:
                    await stack.pop_all().aclose()
                    await stack.enter_async_context(leading(*simulation.loops()))
                await simulation.happen()
                for _ in range(simulation.rng.randint(0, 6)):
                    await settle(simulation.rng.randint(1, 20))
                    await simulation.cluster.step()
                    simulation.check_always()
            await simulation.heal()
        simulation.check_healed()
