"""The endpoints that data planes are told always add up to those that the store implies."""

from __future__ import annotations

import random

import msgspec
import pytest

from manager.dispatcher.endpoints import EndpointSet, service_endpoint
from manager.store.store import Store
from manager.store.tables import NETWORKS, NODES, SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.model.endpoints import DECODER, Backend, HostPort, Neighbour, ServiceEndpoint, ServiceNetwork
from swarmpy.model.network import Network, NetworkAddress, NetworkRow, NetworkSpec
from swarmpy.model.node import Node
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.spec import EndpointSpec, NetworkAttachment, ServiceSpec, TaskSpec
from swarmpy.model.states import EndpointMode, TaskState
from swarmpy.model.task import Task
from tests.support.store import put, running_store


class Plane:
    """A data plane that only remembers."""

    def __init__(self) -> None:
        self.revision = 0
        self.services: dict[str, ServiceEndpoint] = {}
        self.backends: dict[str, Backend] = {}
        self.networks: dict[str, NetworkRow] = {}
        self.neighbours: dict[str, Neighbour] = {}

    def catch_up(self, endpoints: EndpointSet) -> None:
        for encoded in endpoints.since(self.revision):
            update = DECODER.decode(encoded.data)
            if update.complete:
                self.services, self.backends, self.networks, self.neighbours = {}, {}, {}, {}
            for service_id in update.removed_services:
                self.services.pop(service_id, None)
            for task_id in update.removed_backends:
                self.backends.pop(task_id, None)
            for network_id in update.removed_networks:
                self.networks.pop(network_id, None)
            for task_id in update.removed_neighbours:
                self.neighbours.pop(task_id, None)
            self.networks |= {n.id: n for n in update.networks}
            self.neighbours |= {n.task_id: n for n in update.neighbours}
            self.services |= {s.service_id: s for s in update.services}
            self.backends |= {b.task_id: b for b in update.backends}
            assert update.revision >= self.revision
            self.revision = update.revision


def random_change(rng: random.Random, tx: Transaction) -> None:
    kind, number = rng.choice("ssnttttta"), rng.randrange(6)
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
    elif kind == "a":
        network = tx.get(NETWORKS, f"a{number % 3}")
        if network is None:
            subnet = rng.choice(["", f"10.{rng.randrange(3)}.0.0/24"])
            tx.create(NETWORKS, Network(id=f"a{number % 3}", spec=NetworkSpec(name=f"net{number % 3}"), subnet=subnet))
        elif rng.random() < 0.5:
            tx.delete(NETWORKS, network.id)
        else:
            tx.update(NETWORKS, msgspec.structs.replace(network, subnet=network.subnet or "10.9.0.0/24", cursor=number))
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
            networks=fresh.networks or rng.choice([(), (NetworkAddress(network_id="a0", address=f"10.0.0.{number}"),)]),
        )
        (tx.update if task else tx.create)(TASKS, changed)


def check(store: Store, endpoints: EndpointSet, planes: list[Plane]) -> None:
    fresh = EndpointSet(store.view())
    want = Plane()
    want.catch_up(fresh)
    for plane in planes:
        assert plane.backends == want.backends
        assert plane.services == want.services
        assert plane.networks == want.networks
        assert plane.neighbours == want.neighbours


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


async def test_a_neighbour_is_known_before_it_runs_and_until_it_has_stopped() -> None:
    addresses = (NetworkAddress(network_id="a", address="10.0.0.2"),)
    task = Task(id="t", service_id="s", spec_version=1, slot=1, state=TaskState.PENDING, networks=addresses)
    async with running_store() as store:
        await put(store, NODES, Node(id="n", data_addr="10.0.0.1"))
        await put(store, TASKS, task)
        with store.watch() as watch:
            endpoints, plane = EndpointSet(store.view()), Plane()

            async def move(**fields: object) -> None:
                row = store.view().get(TASKS, "t")
                assert row is not None
                await put(store, TASKS, msgspec.structs.replace(row, **fields))
                endpoints.apply(await watch.next())
                endpoints.publish()
                plane.catch_up(endpoints)

            await move(pending_reason="no suitable node")
            assert not plane.neighbours, "it is nowhere yet"
            await move(node_id="n", state=TaskState.ASSIGNED)
            assert plane.neighbours["t"] == Neighbour(
                task_id="t", service_id="s", slot=1, node_id="n", node_addr="10.0.0.1", addresses=addresses
            )
            assert not plane.backends
            told = plane.revision
            await move(state=TaskState.PREPARING)
            assert plane.revision == told, "that is no news to its neighbours"
            await move(state=TaskState.RUNNING, ready=True, desired_state=TaskState.SHUTDOWN)
            assert set(plane.neighbours) == {"t"}, "it serves what it has, until it stops"
            await move(state=TaskState.SHUTDOWN)
            assert not plane.neighbours


def test_a_service_is_told_with_its_networks() -> None:
    joined = (
        NetworkAttachment(target="a", aliases=("www",)),
        NetworkAttachment(target="bridge"),
        NetworkAttachment(target="b"),
    )
    spec = ServiceSpec(name="web", task=TaskSpec(networks=joined))
    vips = tuple(NetworkAddress(network_id=n, address=f"10.{i}.0.2") for i, n in enumerate("ab"))
    told = service_endpoint(Service(id="s", spec=spec, endpoint=Endpoint(vip_index=3, vips=vips)))
    assert told.networks == (
        ServiceNetwork(network_id="a", vip="10.0.0.2", aliases=("www",)),
        ServiceNetwork(network_id="b", vip="10.1.0.2"),
    )
    around = msgspec.structs.replace(spec, endpoint=EndpointSpec(mode=EndpointMode.DNSRR))
    assert [n.vip for n in service_endpoint(Service(id="s", spec=around)).networks] == ["", ""]
