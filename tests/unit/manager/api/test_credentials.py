"""Whom a service's tasks pull their image as: kept with each version, and shown to nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from manager.store.store import Store
from manager.store.tables import CLUSTERS, SERVICE_VERSIONS, TASKS
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import Code
from swarmpy.model import features
from swarmpy.model.service import RegistryAuth, Service
from swarmpy.model.spec import ContainerSpec, ServiceSpec, TaskSpec
from swarmpy.model.task import Task
from tests.support.api import Api, api, refused, web
from tests.support.store import put

ANNA = RegistryAuth(registry="hub.example:5000", username="anna", password="secret")
RENEWED = RegistryAuth(registry="hub.example:5000", username="anna", password="new secret")
BOB = RegistryAuth(registry="other.example", username="bob", password="word")


@asynccontextmanager
async def upgraded() -> AsyncIterator[Api]:
    """An API of managers that can all store credentials."""
    async with api() as a:
        await at_level(a, features.CREDENTIALS)
        yield a


async def at_level(a: Api, level: int) -> None:
    (cluster,) = a.store.view().all(CLUSTERS)
    await put(a.store, CLUSTERS, msgspec.structs.replace(cluster, feature_level=level))


def shop(image: str = "hub.example:5000/shop:1") -> ServiceSpec:
    return ServiceSpec(name="shop", task=TaskSpec(container=ContainerSpec(image=image)))


def kept(store: Store, service: Service) -> RegistryAuth | None:
    """Return what the service's present version has."""
    version = store.view().get(SERVICE_VERSIONS, f"{service.id}.{service.spec_version}")
    assert version is not None
    return version.pull_auth


async def test_they_are_kept_with_the_version_and_go_along_with_a_change_without_them() -> None:
    async with upgraded() as a:
        service = await a.create(shop(), auth=ANNA)
        assert kept(a.store, service) == ANNA
        service = await a.update(service, shop("hub.example:5000/shop:2"))
        assert (service.spec_version, kept(a.store, service)) == (2, ANNA)
        service = await a.roll_back(service)
        assert (service.spec_version, kept(a.store, service)) == (3, ANNA)


async def test_they_are_for_one_registry() -> None:
    async with upgraded() as a:
        service = await a.create(shop(), auth=ANNA)
        service = await a.update(service, shop("other.example/shop:1"))
        assert kept(a.store, service) is None
        service = await a.update(service, shop("other.example/shop:2"), auth=BOB)
        assert kept(a.store, service) == BOB
        service = await a.update(service, shop("hub.example:5000/shop:3"))
        assert kept(a.store, service) == ANNA


async def test_new_ones_alone_replace_no_task() -> None:
    async with upgraded() as a:
        service = await a.create(shop(), auth=ANNA)
        service = await a.update(service, shop(), auth=RENEWED)
        assert (service.spec_version, kept(a.store, service)) == (1, RENEWED)
        service = await a.update(service, shop())
        assert (service.spec_version, kept(a.store, service)) == (1, RENEWED)


async def test_no_user_is_answered_with_them() -> None:
    async with upgraded() as a:
        service = await a.create(shop(), auth=ANNA)
        await put(a.store, TASKS, Task(id="t1", service_id=service.id, spec_version=1, slot=1))
        answer = await a.servicer.GetTask(pb.GetTaskRequest(ref="t1"), None)
        assert answer.service_version.id == f"{service.id}.1"
        assert b"secret" not in answer.SerializeToString()
        listed = await a.servicer.ListServices(pb.ListServicesRequest(), None)
        assert b"secret" not in listed.SerializeToString()


async def test_what_is_refused() -> None:
    async with upgraded() as a:
        error = await refused(a.create(shop(), auth=BOB))
        assert error.message == (
            "the image of service shop is in hub.example:5000, and the credentials are for other.example"
        )
        error = await refused(a.create(web(), auth=ANNA))
        assert (error.code, "service web has no image" in error.message) == (Code.INVALID_ARGUMENT, True)
        await at_level(a, features.CREDENTIALS - 1)
        error = await refused(a.create(shop(), auth=ANNA))
        assert (error.code, "upgrade all managers first" in error.message) == (Code.FAILED_PRECONDITION, True)
        assert not list(a.store.view().all(SERVICE_VERSIONS))
