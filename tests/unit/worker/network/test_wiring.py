"""Which links a task gets."""

from __future__ import annotations

import msgspec
import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.network import NetworkRow
from swarmpy.model.service import ServiceVersion
from swarmpy.model.spec import NetworkAttachment, PortSpec
from tests.support.dispatcher import service_version
from worker.assignments import Assignment, OnNetwork
from worker.network.wiring import DNS_PORT, ELSEWHERE, wire

FRONT = NetworkRow(id="front", subnet="10.0.1.0/24", vni=7)
BACK = NetworkRow(id="back", subnet="10.0.2.0/24", vni=8, internal=True)


def version(*targets: str, ports: tuple[int, ...] = (), dns: tuple[str, ...] = ()) -> ServiceVersion:
    made = service_version(name="web", dns=dns)
    joined = tuple(NetworkAttachment(target=target) for target in targets)
    task = msgspec.structs.replace(made.task, networks=joined)
    return msgspec.structs.replace(made, task=task, ports=tuple(PortSpec(target=port) for port in ports))


def assigned(made: ServiceVersion, *rows: NetworkRow) -> Assignment:
    given = tuple(OnNetwork(row=row, address=row.subnet.replace("0/24", "5")) for row in rows)
    return Assignment(id="t1", service_id="s1", slot=1, version=made, networks=given)


def test_networks_come_in_the_order_of_the_spec_and_the_way_out_last() -> None:
    found = wire(assigned(version("back", "front"), FRONT, BACK))
    assert [(link.row.id, link.address, link.inner) for link in found.links] == [
        ("back", "10.0.2.5", "eth0"),
        ("front", "10.0.1.5", "eth1"),
    ]
    assert (found.way_out, found.enclosed, found.networks) == ("eth2", False, ("back", "front"))


def test_a_task_that_names_no_network_has_the_way_out_only() -> None:
    for targets in ((), ("bridge",)):
        found = wire(assigned(version(*targets)))
        assert (found.links, found.way_out, found.enclosed) == ((), "eth0", False)


def test_none_is_nothing_not_even_names() -> None:
    found = wire(assigned(version("none")))
    assert (found.links, found.way_out, found.name_port) == ((), "", 0)


def test_on_internal_networks_only_a_task_is_enclosed_unless_it_asks_for_the_way_out() -> None:
    assert wire(assigned(version("back"), BACK)).enclosed
    assert not wire(assigned(version("back", "bridge"), BACK)).enclosed
    assert not wire(assigned(version("back", "front"), BACK, FRONT)).enclosed


def test_a_task_that_serves_names_keeps_port_53() -> None:
    assert wire(assigned(version("front"), FRONT)).name_port == DNS_PORT
    assert wire(assigned(version("front", ports=(DNS_PORT,)), FRONT)).name_port == ELSEWHERE


def test_the_user_s_name_servers_are_kept() -> None:
    assert wire(assigned(version("front", dns=("9.9.9.9",)), FRONT)).servers == ("9.9.9.9",)


def test_a_network_without_an_address_is_refused_by_name() -> None:
    with pytest.raises(SwarmError, match="no address on the network front") as raised:
        wire(assigned(version("front")))
    assert raised.value.code is Code.FAILED_PRECONDITION
