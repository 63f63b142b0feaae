"""The laws of addresses, whatever happens to networks, services, tasks and leaders.

No two subnets overlap, no address is held twice or by nobody's leave, none is given again within its time of rest, not
by a new leader either, and who waits is told why and served as soon as there is something to give.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.allocator.addresses import REUSE_AFTER_S
from manager.allocator.allocator import Allocator
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NETWORKS, SERVICE_VERSIONS, SERVICES, TASKS, T, Table
from manager.store.transaction import Transaction
from swarmpy.model.cluster import Cluster, ClusterSpec
from swarmpy.model.network import Network, NetworkAddress, NetworkSpec
from swarmpy.model.service import Service, ServiceVersion, version_id
from swarmpy.model.spec import NetworkAttachment, ServiceSpec, TaskSpec
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task
from tests.support.clock import FakeClock, settle
from tests.support.cluster import leading
from tests.support.store import put, running_store

NAMES = ("n0", "n1", "n2")
POOL = "10.0.0.0/27"
"""Room for four subnets of five addresses each."""

steps = st.lists(
    st.one_of(
        st.tuples(st.just("network"), st.sampled_from(NAMES), st.sampled_from(["", "10.0.0.8/29", "10.7.0.0/29"])),
        st.tuples(st.just("drop"), st.sampled_from(NAMES)),
        st.tuples(st.just("service"), st.lists(st.sampled_from(NAMES), unique=True, max_size=2), st.integers(0, 4)),
        st.tuples(st.just("remove"), st.integers(0, 9)),
        st.tuples(st.just("stop"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 14.0, REUSE_AFTER_S])),
        st.tuples(st.just("lead")),
    ),
    min_size=10,
    max_size=40,
)


@dataclass
class World:
    """The store with what is remembered of it: who held which address when."""

    store: Store
    clock: FakeClock
    held: dict[NetworkAddress, str] = field(default_factory=dict)
    released_s: dict[NetworkAddress, float] = field(default_factory=dict)
    made: int = 0

    def holders(self) -> Iterator[tuple[NetworkAddress, str]]:
        view = self.store.view()
        for service in view.all(SERVICES):
            yield from ((vip, service.id) for vip in service.endpoint.vips)
        for task in view.all(TASKS):
            if not task.state.is_stopped:
                yield from ((address, task.id) for address in task.networks)

    def look(self) -> None:
        """Hold what there is against the laws, and remember it."""
        now_s, view = self.clock.monotonic(), self.store.view()
        networks = {n.id: n for n in view.all(NETWORKS)}
        pairs = list(self.holders())
        held = dict(pairs)
        assert len(held) == len(pairs), "an address is held twice"
        for address, holder in held.items():
            if address not in self.held and address in self.released_s:
                assert now_s - self.released_s[address] >= REUSE_AFTER_S, f"{address} came back too soon, to {holder}"
            assert self.held.get(address, holder) == holder, "an address changed hands without a rest"
            network = networks.get(address.network_id)
            if network is not None:
                subnet = IPv4Network(network.subnet)
                given_address = IPv4Address(address.address)
                assert given_address in subnet
                assert given_address not in (subnet[0], subnet[-1], IPv4Address(network.gateway))
        self.released_s.update(dict.fromkeys(self.held.keys() - held.keys(), now_s))
        self.held = held
        self._networks(list(networks.values()))

    def _networks(self, networks: list[Network]) -> None:
        subnets = [IPv4Network(n.subnet) for n in networks if n.subnet]
        assert not any(a.overlaps(b) for a, b in combinations(subnets, 2)), subnets
        assert len({n.vni for n in networks if n.subnet}) == len(subnets)
        assert all(n.subnet or n.problem for n in networks)

    def nobody_waits_for_nothing(self) -> None:
        view = self.store.view()
        for task in view.all(TASKS):
            if task.state is TaskState.NEW and view.get(SERVICES, task.service_id) is not None:
                assert task.pending_reason, "a task waits, and nobody knows why"
                reasons = (view.get(NETWORKS, n) for n in _joined(self.store, task))
                assert any(n is None or not n.subnet or self._is_full(n) for n in reasons), task.pending_reason

    def _is_full(self, network: Network) -> bool:
        return sum(a.network_id == network.id for a in self.held) == 5


def _joined(store: Store, task: Task) -> list[str]:
    version = store.view().get(SERVICE_VERSIONS, task.service_version_id)
    assert version is not None
    return [one.target for one in version.task.networks]


def _delete(table: Table[T], row_id: str, tx: Transaction) -> None:
    tx.delete(table, row_id)


async def act(world: World, step: tuple[object, ...]) -> None:
    store, view = world.store, world.store.view()
    match step:
        case ("network", str(name), str(subnet)):
            taken = [IPv4Network(n.subnet or n.spec.subnet) for n in view.all(NETWORKS) if n.subnet or n.spec.subnet]
            if view.get(NETWORKS, name) is None and not any(subnet and IPv4Network(subnet).overlaps(t) for t in taken):
                # The same id again stands for another network: what is known of the old one's addresses is void.
                world.released_s = {a: at for a, at in world.released_s.items() if a.network_id != name}
                used = any(a.network_id == name for a in world.held)
                if not used:
                    await put(store, NETWORKS, Network(id=name, spec=NetworkSpec(name=name, subnet=subnet)))
        case ("drop", str(name)):
            in_use = any(one.target == name for s in view.all(SERVICES) for one in s.spec.task.networks)
            if view.get(NETWORKS, name) is not None and not in_use:
                await store.update(partial(_delete, NETWORKS, name))
        case ("service", list(names), int(replicas)):
            world.made += 1
            service_id = f"s{world.made}"
            task = TaskSpec(networks=tuple(NetworkAttachment(target=n) for n in names if view.get(NETWORKS, n)))
            version = ServiceVersion(id=version_id(service_id, 1), service_id=service_id, number=1, name="x", task=task)
            await put(store, SERVICE_VERSIONS, version)
            await put(store, SERVICES, Service(id=service_id, spec=ServiceSpec(name=service_id, task=task)))
            tasks = [
                Task(id=f"{service_id}.{n}", service_id=service_id, spec_version=1, slot=n) for n in range(replicas)
            ]
            await put(store, TASKS, *tasks)
        case ("remove", int(number)):
            for service in sorted(view.all(SERVICES), key=lambda s: s.id)[number : number + 1]:
                await store.update(partial(_delete, SERVICES, service.id))
        case ("stop", int(number)):
            for found in sorted(view.all(TASKS), key=lambda t: t.id)[number : number + 1]:
                if found.state.is_stopped:
                    await store.update(partial(_delete, TASKS, found.id))
                else:
                    await put(store, TASKS, msgspec.structs.replace(found, state=TaskState.SHUTDOWN))
        case ("wait", float(seconds)):
            await world.clock.advance(seconds)


async def play(story: list[tuple[object, ...]]) -> None:
    async with running_store() as store:
        cluster = ClusterSpec(default_addr_pools=(POOL,), default_addr_mask=29)
        await put(store, CLUSTERS, Cluster(id="c", spec=cluster))
        world = World(store, FakeClock())
        rest = list(story)
        while rest:
            async with leading(Allocator(store, world.clock)):
                await settle()
                world.look()
                while rest and (step := rest.pop(0)) != ("lead",):
                    await act(world, step)
                    await settle()
                    world.look()
                if not rest:
                    await world.clock.advance(REUSE_AFTER_S)
                    await world.clock.advance(REUSE_AFTER_S)
                    world.look()
                    world.nobody_waits_for_nothing()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_addresses_keep_their_laws(story: list[tuple[object, ...]]) -> None:
    asyncio.run(play(story))
