"""The use cases of services: what they store, and every way they refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from manager.store.tables import SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2 as types
from swarmpy.errors import Code
from swarmpy.model.endpoints import ServicePort
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.spec import PortSpec
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task
from tests.support.api import api, refused, web
from tests.support.store import put


async def test_a_service_is_stored_with_its_first_version() -> None:
    async with api() as a:
        service = await a.create(web(ports=(PortSpec(target=80, published=8080),)))
        stored = a.store.view().get(SERVICES, service.id)
        assert stored == service
        version = a.store.view().get(SERVICE_VERSIONS, f"{service.id}.1")
        assert version is not None
        assert (version.task, version.ports) == (web().task, (ServicePort(target=80),))


async def test_what_create_refuses() -> None:
    async with api() as a:
        await a.create(web(ports=(PortSpec(target=80, published=8080),)))
        for spec, code, words in [
            (web("WEB"), Code.ALREADY_EXISTS, "service web exists already"),
            (web("bad", replicas=-1), Code.INVALID_ARGUMENT, "replicas"),
            (web(""), Code.INVALID_ARGUMENT, "name"),
            (
                web("other", ports=(PortSpec(target=1, published=8080),)),
                Code.ALREADY_EXISTS,
                "port 8080/tcp is already published by service web",
            ),
        ]:
            error = await refused(a.create(spec))
            assert (error.code, words in error.message) == (code, True), error.message
        assert len(a.store.view().all(SERVICES)) == 1
        assert len(a.store.view().all(SERVICE_VERSIONS)) == 1


async def test_a_port_that_another_service_was_given_is_taken() -> None:
    async with api() as a:
        service = await a.create(web(ports=(PortSpec(target=80),)))
        given = Endpoint(vip_index=1, ports=(ServicePort(target=80, published=30000),))
        await put(a.store, SERVICES, msgspec.structs.replace(service, endpoint=given))
        error = await refused(a.create(web("other", ports=(PortSpec(target=1, published=30000),))))
        assert error.code is Code.ALREADY_EXISTS


async def test_a_request_that_is_repeated_is_done_once() -> None:
    async with api() as a:
        first, second = await asyncio.gather(a.create(web(), "same"), a.create(web(), "same"))
        assert first == second == await a.create(web(), "same")
        assert len(a.store.view().all(SERVICES)) == 1
        assert await a.remove("web", "same") == first.id, "an id of one call is none of another"
        assert await a.remove("web", "same") == first.id
        for request_id in ("", "x" * 65):
            assert (await refused(a.create(web("b"), request_id))).code is Code.INVALID_ARGUMENT


async def test_an_update_replaces_the_spec_and_makes_a_version_only_for_another_template() -> None:
    async with api() as a:
        service = await a.create(web())
        scaled = await a.update(service, web(replicas=5))
        assert (scaled.spec_version, scaled.spec.mode.replicas) == (1, 5)
        changed = await a.update(scaled, web(command="other"))
        assert (changed.spec_version, changed.previous_spec) == (2, web(replicas=5))
        back = await a.roll_back(changed)
        assert (back.spec, back.spec_version, back.previous_spec) == (web(replicas=5), 3, web(command="other"))
        versions = a.store.view().find(SERVICE_VERSIONS, "service_id", service.id)
        assert sorted(v.number for v in versions) == [1, 2, 3]


async def test_what_update_refuses() -> None:
    async with api() as a:
        service = await a.create(web())
        await a.create(web("other", ports=(PortSpec(target=80, published=8080),)))
        error = await refused(a.roll_back(service))
        assert (error.code, "no previous spec" in error.message) == (Code.FAILED_PRECONDITION, True)
        error = await refused(a.update(service, web("renamed")))
        assert (error.code, "cannot be renamed" in error.message) == (Code.INVALID_ARGUMENT, True)
        error = await refused(a.update(service, web(ports=(PortSpec(target=80, published=8080),))))
        assert error.code is Code.ALREADY_EXISTS
        assert (await refused(a.update(service, web(replicas=-1)))).code is Code.INVALID_ARGUMENT
        await a.update(service, web(replicas=3))
        error = await refused(a.update(service, web(replicas=4)))
        assert (error.code, "update out of sequence" in error.message) == (Code.OUT_OF_SEQUENCE, True)
        gone = msgspec.structs.replace(service, id="nobody")
        assert (await refused(a.update(gone, web()))).code is Code.NOT_FOUND


async def test_what_others_write_of_a_service_does_not_put_an_update_out_of_sequence() -> None:
    async with api() as a:
        service = await a.create(web())

        def allocate(tx: Transaction) -> None:
            row = tx.get(SERVICES, service.id)
            assert row is not None
            tx.update(SERVICES, msgspec.structs.replace(row, endpoint=Endpoint(vip_index=1)))

        await a.store.update(allocate)
        updated = await a.update(service, web(replicas=9))
        assert (updated.endpoint.vip_index, updated.spec.mode.replicas) == (1, 9)


async def test_services_are_filtered_and_counted() -> None:
    async with api() as a:
        labelled = msgspec.structs.replace(web("api"), labels={"tier": "front"})
        await put(a.store, SERVICES, Service(id="a", spec=labelled), Service(id="b", spec=web("db", replicas=3)))
        task = Task(id="1", service_id="b", spec_version=1, slot=1, state=TaskState.RUNNING, ready=True)
        stopping = msgspec.structs.replace(task, id="2", desired_state=TaskState.SHUTDOWN)
        waiting = msgspec.structs.replace(task, id="3", ready=False)
        await put(a.store, TASKS, task, stopping, waiting)

        async def listed(**wanted: Any) -> list[str]:
            request = pb.ListServicesRequest(filter=pb.ServiceFilter(**wanted))
            answer = await a.servicer.ListServices(request, None)
            return [entry.service.id for entry in answer.services]

        assert await listed(names=["d"]) == ["b"]
        assert await listed(labels={"tier": ""}) == await listed(labels={"tier": "front"}) == ["a"]
        assert await listed(labels={"tier": "back"}) == []
        assert await listed(ids=["a", "b"], modes=[types.MODE_KIND_REPLICATED]) == ["a", "b"]
        status = (await a.servicer.GetService(pb.GetServiceRequest(ref="db"), None)).status
        assert (status.desired, status.running, status.ready) == (3, 2, 1)
