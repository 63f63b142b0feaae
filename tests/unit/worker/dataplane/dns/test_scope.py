"""What a task finds by name, by the networks it is on."""

from __future__ import annotations

import dnslib
import pytest

from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.dataplane import port, service, task
from tests.support.names import World, neighbour, network, question, shared, told

T1, T2, T3, D1, D2 = (f"{name:0<25}" for name in ("t1", "t2", "t3", "d1", "d2"))
UPDATE = EndpointsUpdate(
    revision=1,
    services=(
        shared("web", {"net1": "10.1.0.2", "net2": "10.2.0.2"}, port("http=8080:80"), aliases={"net1": ["www", "w.x"]}),
        shared("shop_db", {"net1": ""}, port("5432"), aliases={"net1": ["db"]}, stack="shop"),
        shared("shop_old", {"net1": "10.1.0.3"}, aliases={"net1": ["db"]}, stack="shop"),
        shared("secret", {"net3": "10.3.0.2"}, aliases={"net3": ["hidden", "www"]}),
        service("plain", vip=9),
    ),
    backends=(
        task(T1, "id-web", (80, 40001), slot=1),
        task(T2, "id-web", (80, 40002), slot=2, address="127.0.0.3"),
        task(D1, "id-shop_db", slot=1),
        task(D2, "id-shop_db", slot=2, address="127.0.0.3"),
        task("p1", "plain", (80, 40009)),
    ),
    networks=(network(1, "shop_default"), network(2), network(3)),
    neighbours=(
        neighbour(T1, "web", "10.1.0.11", "10.2.0.11", slot=1),
        neighbour(T2, "web", "10.1.0.12", slot=2, node="n-127.0.0.3"),
        neighbour(T3, "web", "10.1.0.13", slot=3),
        neighbour(D1, "shop_db", "10.1.0.21", slot=1),
        neighbour(D2, "shop_db", "10.1.0.22", slot=2, node="n-127.0.0.3"),
    ),
)


@pytest.fixture
def world() -> World:
    return World(UPDATE)


ON_NET1 = {
    "web": ["10.1.0.2"],
    "WEB": ["10.1.0.2"],
    "web.swarm": ["10.1.0.2"],
    "www": ["10.1.0.2"],
    "w.x": ["10.1.0.2"],
    "tasks.w.x": ["10.1.0.11", "10.1.0.12"],
    "tasks.web": ["10.1.0.11", "10.1.0.12"],
    "tasks.web.swarm": ["10.1.0.11", "10.1.0.12"],
    "1.web": ["10.1.0.11"],
    "3.web": ["NXDOMAIN"],  # it is there, but not ready
    f"{T2}.web": ["10.1.0.12"],
    "shop_db": ["10.1.0.21", "10.1.0.22"],
    "db.shop": ["10.1.0.21", "10.1.0.22"],
    "2.db.shop": ["10.1.0.22"],
    "db": ["10.1.0.21", "10.1.0.22", "10.1.0.3"],  # the alias of two
    "web.shop_default": ["10.1.0.2"],
    "web.net-2": ["NXDOMAIN"],
    f"web.3.{T3}": ["10.1.0.13"],
    f"web.3.{T3}.shop_default": ["10.1.0.13"],
    "shop": ["outside"],
    "shop.swarm": ["NODATA True"],
    "secret": ["NXDOMAIN"],
    "secret.swarm": ["NXDOMAIN"],
    "tasks.secret": ["NXDOMAIN"],
    "7.secret": ["NXDOMAIN"],
    "plain": ["NXDOMAIN"],
    "hidden": ["outside"],  # an alias may be any name of the outside
    "nothing.swarm": ["NXDOMAIN"],
    "example.web": ["outside"],
    "example.com": ["outside"],
    ".": ["outside"],
}


@pytest.mark.parametrize(("name", "expected"), ON_NET1.items())
def test_a_task_finds_what_shares_its_network_and_nothing_else(world: World, name: str, expected: list[str]) -> None:
    assert _asked_twice(world, name, "A", "net1") == expected


ON_NONE = {
    "web.swarm": ["127.0.0.2", "127.0.0.3"],
    "web": ["127.0.0.2", "127.0.0.3"],
    "plain": ["127.0.0.2"],
    "tasks.plain.swarm": ["127.0.0.2"],
    "www": ["outside"],
    "2.plain": ["NXDOMAIN"],
    "_tcp.plain": ["NODATA True"],
    "_http._tcp.plain": ["NXDOMAIN"],
    "shop": ["outside"],
    "example.com": ["outside"],
}


@pytest.mark.parametrize(("name", "expected"), ON_NONE.items())
def test_a_task_on_no_network_gets_what_other_machines_get(world: World, name: str, expected: list[str]) -> None:
    assert _asked_twice(world, name, "A") == expected


def _asked_twice(world: World, name: str, qtype: str, *networks: str) -> list[str]:
    """Ask for a name, and again for what has been kept."""
    answering = world.responder(*networks)
    first, again = (told(answering.reply(question(name, qtype))) for _ in range(2))
    assert first == again
    return first


@pytest.mark.parametrize(
    "name", ["web", "web.swarm", "tasks.web", "1.web", "db", "www", "db.shop", "shop_default.swarm"]
)
@pytest.mark.parametrize("qtype", ["AAAA", "MX", "TXT", "HTTPS"])
def test_other_types_of_a_name_that_exists_are_no_data(world: World, name: str, qtype: str) -> None:
    expected = "NXDOMAIN" if name == "shop_default.swarm" else "NODATA True"
    assert _asked_twice(world, name, qtype, "net1") == [expected]


def test_a_service_on_two_shared_networks_has_the_vip_behind_which_more_tasks_are(world: World) -> None:
    assert _asked_twice(world, "web", "A", "net1", "net2") == ["10.1.0.2"]
    assert _asked_twice(world, "web.net-2", "A", "net1", "net2") == ["10.2.0.2"]
    assert _asked_twice(world, "tasks.web", "A", "net2") == ["10.2.0.11"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.0.11", [f"web.1.{T1}.shop_default."]),
        ("10.1.0.13", [f"web.3.{T3}.shop_default."]),
        ("10.1.0.2", ["web.shop_default."]),
        ("10.1.0.99", ["NXDOMAIN"]),
        ("10.2.0.11", ["outside"]),
        ("10.3.0.2", ["outside"]),
        ("8.8.8.8", ["outside"]),
    ],
)
def test_addresses_lead_back_to_names(world: World, address: str, expected: list[str]) -> None:
    reverse = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    assert _asked_twice(world, reverse, "PTR", "net1") == expected


def test_ports_are_those_of_the_tasks_themselves(world: World) -> None:
    answer = world.responder("net1").reply(question("_http._tcp.web", "SRV"))
    assert isinstance(answer, bytes)
    parsed = dnslib.DNSRecord.parse(answer)
    assert sorted(str(rr.rdata) for rr in parsed.rr) == ["0 0 80 1.web.swarm.", "0 0 80 2.web.swarm."]
    assert {str(rr.rname): str(rr.rdata) for rr in parsed.ar} == {
        "1.web.swarm.": "10.1.0.11",
        "2.web.swarm.": "10.1.0.12",
    }


def test_on_a_network_of_each_node_only_tasks_of_the_same_node_are_found(world: World) -> None:
    world.apply(EndpointsUpdate(revision=2, networks=(network(1, "shop_default", local=True),)))
    world.zone.node_id = "n-127.0.0.3"
    assert told(world.responder("net1").reply(question("tasks.web"))) == ["10.1.0.12"]


def test_answers_rotate_and_say_that_the_outside_is_looked_up(world: World) -> None:
    answering = world.responder("net1")
    answers = [dnslib.DNSRecord.parse(answering.reply(question("tasks.web"))) for _ in range(4)]
    assert [str(a.rr[0].rdata) for a in answers] == ["10.1.0.11", "10.1.0.12"] * 2
    assert all(a.header.ra and a.header.aa and a.header.rd for a in answers)


def test_what_has_been_kept_goes_with_a_backend_an_alias_and_a_neighbour(world: World) -> None:
    answering = world.responder("net1")
    asked = [question(name) for name in ("tasks.web", "www", "db", "shop_db")]
    assert [len(told(answering.reply(packet))) for packet in asked] == [2, 1, 3, 2]
    answering.drop(world.apply(EndpointsUpdate(revision=2, removed_backends=(T1,))))
    assert told(answering.reply(asked[0])) == ["10.1.0.12"]
    answering.drop(world.apply(EndpointsUpdate(revision=3, services=(shared("web", {"net1": "10.1.0.2"}),))))
    assert told(answering.reply(asked[1])) == ["outside"]
    answering.drop(world.apply(EndpointsUpdate(revision=4, neighbours=(neighbour(D1, "shop_db", "10.1.0.77"),))))
    assert told(answering.reply(asked[3])) == ["10.1.0.22", "10.1.0.77"]
    answering.drop(world.apply(EndpointsUpdate(revision=5, removed_neighbours=(D1,))))
    assert told(answering.reply(asked[2])) == ["10.1.0.22", "10.1.0.3"]
