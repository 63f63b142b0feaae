"""Networks through the API: they are named once, overlap nothing, and stay while somebody joins them."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from manager.store.tables import CLUSTERS, NETWORKS, NODES, SERVICE_VERSIONS, SERVICES, TASKS
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2 as types
from swarmpy.errors import Code
from swarmpy.model import features
from swarmpy.model.network import Network, NetworkSpec
from swarmpy.model.node import Node, NodeDescription
from swarmpy.model.spec import NetworkAttachment, ServiceSpec
from swarmpy.model.states import NetworkDriver, TaskState
from swarmpy.model.task import Task
from swarmpy.wire.convert import from_proto, to_proto
from tests.support.api import Api, api, refused, web
from tests.support.store import put


async def at_level(made: Api, level: int) -> None:
    cluster = next(iter(made.store.view().all(CLUSTERS)))
    await put(made.store, CLUSTERS, msgspec.structs.replace(cluster, feature_level=level))


async def create(made: Api, name: str, request_id: str = "", **spec: Any) -> Network:
    message = cast(types.NetworkSpec, to_proto(NetworkSpec(name=name, **spec)))
    request = pb.CreateNetworkRequest(request_id=request_id or f"create-{name}-{spec}"[:60], spec=message)
    return from_proto((await made.servicer.CreateNetwork(request, None)).network, Network)


async def remove(made: Api, ref: str, request_id: str = "rm") -> str:
    request = pb.RemoveNetworkRequest(request_id=request_id, ref=ref)
    return (await made.servicer.RemoveNetwork(request, None)).network_id


async def get(made: Api, ref: str) -> Network:
    return from_proto((await made.servicer.GetNetwork(pb.GetNetworkRequest(ref=ref), None)).network, Network)


def joining(*targets: str, name: str = "web") -> ServiceSpec:
    spec = web(name)
    networks = tuple(NetworkAttachment(target=target, aliases=("www",)) for target in targets)
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, networks=networks))


async def test_a_network_is_found_by_its_id_its_name_and_the_beginning_of_its_id() -> None:
    async with api() as made:
        await at_level(made, features.LEVEL)
        created = await create(made, "front", labels={"tier": "web"})
        for ref in (created.id, "front", "FRONT", created.id[:8]):
            assert (await get(made, ref)).spec == NetworkSpec(name="front", labels={"tier": "web"})
        assert (await create(made, "front", labels={"tier": "web"})).id == created.id, "the same request"
        error = await refused(create(made, "front", "other"))
        assert (error.code, error.message) == (
            Code.ALREADY_EXISTS,
            "network with name front already exists: choose another name",
        )
        error = await refused(get(made, "host"))
        assert error.message == "host is predefined on every node: the cluster keeps nothing about it"
        assert (await refused(get(made, "no"))).message == "no such network: no"


async def test_lists_select_by_name_label_and_driver() -> None:
    async with api() as made:
        await at_level(made, features.LEVEL)
        await create(made, "a", labels={"tier": "web"})
        await create(made, "ab", driver=NetworkDriver.BRIDGE)

        async def names(**wanted: Any) -> list[str]:
            request = pb.ListNetworksRequest(filter=pb.NetworkFilter(**wanted))
            return sorted(n.spec.name for n in (await made.servicer.ListNetworks(request, None)).networks)

        assert await names() == ["a", "ab"]
        assert await names(names=["ab"]) == ["ab"]
        assert await names(labels={"tier": ""}) == ["a"]
        assert await names(drivers=[types.NETWORK_DRIVER_BRIDGE]) == ["ab"]


async def test_a_subnet_that_is_used_is_refused() -> None:
    async with api() as made:
        await at_level(made, features.LEVEL)
        await create(made, "a", subnet="10.1.0.0/24")
        error = await refused(create(made, "b", subnet="10.1.0.128/25"))
        assert (error.code, error.message) == (
            Code.INVALID_ARGUMENT,
            "subnet 10.1.0.128/25 overlaps 10.1.0.0/24 of network a: choose another one",
        )
        description = NodeDescription(hostname="w1")
        await put(made.store, NODES, Node(id="n", description=description, addr="h.example", data_addr="10.3.0.9"))
        error = await refused(create(made, "b", subnet="10.3.0.0/24"))
        assert error.message == (
            "subnet 10.3.0.0/24 holds 10.3.0.9, an address of node w1, which tasks could not reach: choose another one"
        )


async def test_services_join_by_name_and_are_stored_with_ids() -> None:
    async with api() as made:
        await at_level(made, features.LEVEL)
        front, back = await create(made, "front"), await create(made, "back")
        service = await made.create(joining("front", back.id))
        assert [n.target for n in service.spec.task.networks] == [front.id, back.id]
        assert service.spec.task.networks[0].aliases == ("www",)
        version = made.store.view().get(SERVICE_VERSIONS, f"{service.id}.1")
        assert version is not None
        assert version.task == service.spec.task
        again = await made.update(service, joining("back"))
        assert [n.target for n in again.spec.task.networks] == [back.id]
        assert again.spec_version == 2
        other = msgspec.structs.replace(web("plain"), task=msgspec.structs.replace(web().task, networks=()))
        assert (await made.create(other)).spec.task.networks == ()


@pytest.mark.parametrize(
    ("targets", "code", "sentence"),
    [
        (("nothing",), Code.NOT_FOUND, "no such network: nothing"),
        (("front", "FRONT"), Code.INVALID_ARGUMENT, "network front is joined twice, by different names: drop one"),
    ],
)
async def test_what_cannot_be_joined_is_refused(targets: tuple[str, ...], code: Code, sentence: str) -> None:
    async with api() as made:
        await at_level(made, features.LEVEL)
        await create(made, "front")
        bare = msgspec.structs.replace(
            web(),
            task=msgspec.structs.replace(web().task, networks=tuple(NetworkAttachment(target=t) for t in targets)),
        )
        error = await refused(made.create(bare))
        assert (error.code, error.message) == (code, sentence)


async def test_a_network_stays_while_somebody_joins_it() -> None:
    async with api() as made:
        await at_level(made, features.LEVEL)
        front = await create(made, "front")
        service = await made.create(joining("front"))
        error = await refused(remove(made, "front"))
        assert (error.code, error.message) == (
            Code.FAILED_PRECONDITION,
            "network front is in use by service web: remove them, or have them leave it with "
            "`swarmpy service update --network-rm front`",
        )
        old = Task(id="t", service_id=service.id, spec_version=1, slot=1, state=TaskState.RUNNING)
        await put(made.store, TASKS, old)
        service = await made.update(service, web())
        assert "in use by service web" in (await refused(remove(made, "front", "rm2"))).message, "a task is left"
        await put(made.store, TASKS, msgspec.structs.replace(old, desired_state=TaskState.SHUTDOWN))
        assert await remove(made, "front", "rm3") == front.id
        assert made.store.view().get(NETWORKS, front.id) is None
        error = await refused(made.roll_back(service))
        assert error.message == f"no such network: {front.id}"


async def test_the_tasks_of_a_removed_service_hold_nothing_up() -> None:
    async with api() as made:
        await at_level(made, features.LEVEL)
        await create(made, "front")
        service = await made.create(joining("front"))
        await put(
            made.store, TASKS, Task(id="t", service_id=service.id, spec_version=1, slot=1, state=TaskState.RUNNING)
        )
        await made.remove("web")
        assert not made.store.view().all(SERVICES)
        await remove(made, "front")


async def test_a_cluster_with_an_older_manager_stores_none() -> None:
    async with api() as made:
        await at_level(made, features.NETWORKS - 1)
        wanted = f"yet (feature level {features.NETWORKS - 1}, {features.NETWORKS} is needed): upgrade all managers"
        error = await refused(create(made, "front"))
        assert error.code is Code.FAILED_PRECONDITION
        assert f"cannot store networks {wanted}" in error.message
        error = await refused(made.create(joining("front")))
        assert f"cannot store services that join networks {wanted}" in error.message
        assert await made.create(web()) is not None


async def test_several_faults_are_said_at_once() -> None:
    async with api() as made:
        error = await refused(create(made, "host", subnet="10.0.0.1/24"))
        assert error.message == (
            "name: 'host' is predefined on every node: choose another name; "
            "subnet: 10.0.0.1/24 has bits set behind its mask: did you mean 10.0.0.0/24?"
        )
