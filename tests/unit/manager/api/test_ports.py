"""Which published ports exclude each other, and what tasks are told of them."""

from __future__ import annotations

import msgspec
import pytest

from manager.api.ports import target_ports
from manager.store.tables import CLUSTERS
from swarmpy.errors import Code
from swarmpy.model import features
from swarmpy.model.endpoints import PublishMode, ServicePort, Transport
from swarmpy.model.spec import PortSpec
from tests.support.api import Api, api, refused, web
from tests.support.store import put

HOST = PublishMode.HOST
PLAIN = PortSpec(target=80, published=8080)


async def at_level(made: Api, level: int) -> None:
    (cluster,) = made.store.view().all(CLUSTERS)
    await put(made.store, CLUSTERS, msgspec.structs.replace(cluster, feature_level=level))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (PLAIN, PortSpec(target=1, published=8080, address="10.0.0.5"), "port 8080/tcp is already published by"),
        (PLAIN, PortSpec(target=1, published=8080, mode=HOST), "port 8080/tcp is already published by service web"),
        (PortSpec(target=1, published=8080, mode=HOST), PLAIN, "is already published in mode host by service web"),
        (PLAIN, PortSpec(target=1, published=8080, mode=HOST, transport=Transport.UDP), ""),
        (PortSpec(target=1, published=8080, mode=HOST), PortSpec(target=1, published=8080, mode=HOST), ""),
        (
            PortSpec(target=1, published=8080, address="10.0.0.5"),
            PortSpec(target=1, published=8080, address="10.0.0.6"),
            "",
        ),
        (
            PortSpec(target=1, published=8080, address="10.0.0.5"),
            PortSpec(target=1, published=8080, address="0.0.0.0", mode=HOST),
            "port 8080/tcp is already published by service web",
        ),
    ],
)
async def test_two_services_do_not_publish_one_port(first: PortSpec, second: PortSpec, words: str) -> None:
    async with api() as made:
        await at_level(made, features.LEVEL)
        await made.create(web(ports=(first,)))
        other = made.create(web("other", ports=(second,)))
        if words:
            error = await refused(other)
            assert (error.code, words in error.message) == (Code.ALREADY_EXISTS, True), error.message
        else:
            await other


@pytest.mark.parametrize(
    "port",
    [
        PortSpec(target=80, mode=HOST),
        PortSpec(target=80, address="10.0.0.5"),
        PortSpec(target=80, mode=HOST, transport=Transport.UDP),
    ],
)
async def test_ports_that_an_older_manager_would_misread_wait_for_its_upgrade(port: PortSpec) -> None:
    async with api() as made:
        await at_level(made, features.PORTS - 1)
        error = await refused(made.create(web(ports=(port,))))
        assert error.code is Code.FAILED_PRECONDITION
        assert error.message == (
            "a manager of this cluster cannot store services with such ports yet (feature level 3, 4 is needed): "
            "upgrade all managers first"
        )
        await made.create(web(ports=(PLAIN,)))


def test_tasks_are_told_where_a_port_is_in_mode_host_only() -> None:
    on_host = PortSpec(target=80, published=8080, mode=HOST, address="10.0.0.5")
    ports = (PortSpec(target=80, published=80), on_host, PortSpec(target=90, published=90, address="10.0.0.5"))
    expected = ServicePort(target=80, published=8080, mode=HOST, address="10.0.0.5")
    assert target_ports(web(ports=ports)) == (expected, ServicePort(target=90))
    assert target_ports(web(ports=ports[::-1])) == (expected, ServicePort(target=90))
