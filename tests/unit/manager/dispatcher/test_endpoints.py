"""The endpoints that data planes are told always add up to those that the store implies."""

from __future__ import annotations

import random

import msgspec
import pytest

from manager.dispatcher.endpoints import EndpointSet
from manager.store.store import Store
from manager.store.tables import NODES, SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.model.endpoints import DECODER, Backend, HostPort, ServiceEndpoint
from swarmpy.model.node import Node
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task
from tests.support.store import running_store


class Plane:
    """A data plane that only remembers."""

    def __init__(self) -> None:
        self.revision = 0
        self.services: dict[str, ServiceEndpoint] = {}
        self.backends: dict[str, Backend] = {}

    def catch_up(self, endpoints: EndpointSet) -> None:
        for encoded in endpoints.since(self.revision):
            update = DECODER.decode(encoded.data)
            if update.complete:
                self.services, self.backends = {}, {}
            for service_id in update.removed_services:
                self.services.pop(service_id, None)
            for task_id in update.removed_backends:
                self.backends.pop(task_id, None)
            self.services |= {s.service_id: s for s in update.services}
            self.backends |= {b.task_id: b for b in update.backends}
            assert update.revision >= self.revision
            self.revision = update.revision


def random_change(rng: random.Random, tx: Transaction) -> None:
    kind, number = rng.choice("ssnttttt"), rng.randrange(6)
    if kind == "s":
        service = tx.get(SERVICES, f"s{number}")
        endpoint = Endpoint(vip_index=rng.randrange(1, 4))
        if service is None:
            spec = ServiceSpec(name=f"service{number}")
            tx.create(SERVICES, Service(id=f"s{number}", spec=spec, endpoint=endpoint))
        elif rng.random() < 0.3:
            tx.delete(SERVICES, service.id)
        else:
            tx.update(SERVICES, msgspec.structs.replace(service, endpoint=endpoint))
    elif kind == "n":
        node = tx.get(NODES, f"n{number % 3}")
        address = f"10.0.0.{rng.randrange(3)}"
        if node is None:
            tx.create(NODES, Node(id=f"n{number % 3}", data_addr=address))
        else:
            tx.update(NODES, msgspec.structs.replace(node, data_addr=address))
    else:
        task = tx.get(TASKS, f"t{number}")
        if task is not None and rng.random() < 0.2:
            tx.delete(TASKS, task.id)
            return
        fresh = task or Task(id=f"t{number}", service_id=f"s{number % 3}", spec_version=1, slot=number)
        changed = msgspec.structs.replace(
            fresh,
            node_id=f"n{number % 3}",
            state=rng.choice([TaskState.RUNNING, TaskState.RUNNING, TaskState.FAILED, TaskState.STARTING]),
            desired_state=rng.choice([TaskState.RUNNING, TaskState.RUNNING, TaskState.SHUTDOWN]),
            ready=rng.random() < 0.8,
            host_ports=(HostPort(target=80, port=20000 + rng.randrange(2)),),
        )
        (tx.update if task else tx.create)(TASKS, changed)


def check(store: Store, endpoints: EndpointSet, planes: list[Plane]) -> None:
    fresh = EndpointSet(store.view())
    want = Plane()
    want.catch_up(fresh)
    for plane in planes:
        assert plane.backends == want.backends
        assert plane.services == want.services


@pytest.mark.parametrize("seed", range(25))
async def test_every_data_plane_ends_with_what_the_store_implies(seed: int) -> None:
    rng = random.Random(seed)
    async with running_store() as store:
        await store.update(lambda tx: random_change(rng, tx))
        with store.watch() as watch:
            endpoints, planes = EndpointSet(store.view()), [Plane(), Plane(), Plane()]
            for _ in range(80):
                await store.update(lambda tx: random_change(rng, tx))
                for commit in watch.drain():
                    moved = [
                        c.id
                        for c in commit.of(NODES)
                        if c.before and c.after and c.before.data_addr != c.after.data_addr
                    ]
                    tasks = [t for n in moved for t in store.view().find(TASKS, "node_id", n)]
                    endpoints.apply(commit, tasks)
                if rng.random() < 0.5:
                    endpoints.publish()
                rng.choice(planes).catch_up(endpoints)
            endpoints.publish()
            for plane in planes:
                plane.catch_up(endpoints)
            check(store, endpoints, planes)


async def test_a_withdrawal_is_in_the_revision_at_once_and_told_with_the_next_update() -> None:
    async with running_store() as store:
        task = Task(id="t", service_id="s", spec_version=1, slot=1, node_id="n", state=TaskState.RUNNING, ready=True)

        def create(tx: Transaction) -> None:
            tx.create(NODES, Node(id="n", data_addr="10.0.0.1"))
            tx.create(TASKS, task)

        await store.update(create)
        with store.watch() as watch:
            endpoints, plane = EndpointSet(store.view()), Plane()
            plane.catch_up(endpoints)
            assert set(plane.backends) == {"t"}

            def withdraw(tx: Transaction) -> None:
                row = tx.get(TASKS, "t")
                assert row is not None
                tx.update(TASKS, msgspec.structs.replace(row, desired_state=TaskState.SHUTDOWN))

            await store.update(withdraw)
            endpoints.apply(await watch.next())
            assert endpoints.revision == store.revision
            endpoints.publish()
            plane.catch_up(endpoints)
            assert plane.backends == {}
            assert plane.revision == store.revision
