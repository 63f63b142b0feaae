from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from swarmpy.model.endpoints import AppProtocol, ServiceEndpoint
from tests.support.clock import FakeClock, settle
from tests.support.dataplane import FakeBalancer, FakeSockets, port, service
from worker.dataplane.listeners import Listeners, Want, plan, wanted_listeners
from worker.dataplane.proxy.api import ListenKey
from worker.dataplane.sockets import Port

ADDRESS = "127.0.0.2"


def wanted(*services: ServiceEndpoint, prefix: str = "127.93") -> dict[ListenKey, Want]:
    return wanted_listeners(services, data_address=ADDRESS, vip_prefix=prefix)


def test_published_ports_are_on_the_node_and_target_ports_on_the_vip() -> None:
    web = service("web", port("8080:80"), port("443"), vip=258)
    assert wanted(web) == {
        ListenKey(ADDRESS, 8080): Want("web", web.ports[0]),
        ListenKey("127.93.1.2", 80): Want("web", web.ports[0]),
        ListenKey("127.93.1.2", 443): Want("web", web.ports[1]),
    }


def test_what_has_no_listener_gets_none() -> None:
    assert list(wanted(service("host", port("8080:80@host"), vip=1))) == [ListenKey("127.93.0.1", 80)]
    udp = [ListenKey(ADDRESS, 5353, "udp"), ListenKey("127.93.0.1", 53, "udp")]
    assert list(wanted(service("udp", port("5353:53/udp"), vip=1))) == udp
    assert list(wanted(service("rr", port("8080:80"), vip=1, dnsrr=True))) == [ListenKey(ADDRESS, 8080)]
    assert list(wanted(service("web", port("8080:80"), vip=1), prefix="")) == [ListenKey(ADDRESS, 8080)]


def test_a_chosen_address_takes_the_place_of_the_nodes() -> None:
    chosen = msgspec.structs.replace(port("8080:80"), address="127.0.0.9")
    assert list(wanted(service("web", chosen))) == [ListenKey("127.0.0.9", 8080)]


def test_a_port_wanted_twice_goes_to_one_always_the_same() -> None:
    one, two = (service(name, port("8080:80")) for name in ("a", "b"))
    assert wanted(one, two) == wanted(two, one) == {ListenKey(ADDRESS, 8080): Want("a", one.ports[0])}


def test_a_plan_stops_what_changed_before_it_starts_it_anew() -> None:
    keys = kept, moved, gone, new = [ListenKey(ADDRESS, number) for number in range(1, 5)]
    want = Want("a", port("80"))
    steps = plan({kept: want, moved: want, gone: want}, {kept: want, moved: Want("b", port("80")), new: want})
    assert steps.stop == (moved, gone)
    assert steps.free == (gone,)
    assert steps.start == (moved, new)
    assert keys


class World:
    def __init__(self, sockets: FakeSockets) -> None:
        self.services: tuple[ServiceEndpoint, ...] = ()
        self.clock = FakeClock()
        self.sockets = sockets
        self.balancer = FakeBalancer()
        self.said: list[str] = []
        self.listeners = Listeners(
            clock=self.clock,
            sockets=sockets,
            balancer=self.balancer,
            wanted=lambda: wanted(*self.services),
            on_problem=lambda port, _: self.said.append(f"problem {port.port}"),
            on_cleared=lambda port: self.said.append(f"cleared {port.port}"),
        )

    async def want(self, *services: ServiceEndpoint) -> None:
        self.services = services
        self.listeners.changed()
        await settle()

    @property
    def ports(self) -> dict[int, str]:
        return {key.port: service_id for key, (_, service_id, _) in self.balancer.listeners.items()}


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as tasks:
        life = tasks.create_task(world.listeners.run())
        yield world
        life.cancel()


@pytest.fixture
def world() -> Iterator[World]:
    sockets = FakeSockets()
    made = World(sockets)
    yield made
    for sock, _, _ in made.balancer.listeners.values():
        sock.close()
    sockets.close()


async def test_listeners_follow_the_services(world: World) -> None:
    async with running(world):
        await world.want(service("a", port("8080:80")), service("b", port("8081:80")))
        assert world.ports == {8080: "a", 8081: "b"}
        await world.want(service("b", port("8081:80")))
        assert world.ports == {8081: "b"}
        assert f"unbind {ADDRESS}:8080/tcp" in world.sockets.calls


async def test_a_port_that_changes_hands_is_stopped_first_and_its_socket_stays(world: World) -> None:
    async with running(world):
        await world.want(service("old", port("8080:80")))
        world.balancer.calls.clear()
        await world.want(service("new", port("8080:80")))
        assert world.balancer.calls == [f"unlisten {ADDRESS}:8080", f"listen {ADDRESS}:8080 new 80"]
        assert not any(call.startswith("unbind") for call in world.sockets.calls)


async def test_a_port_whose_protocol_changes_is_listened_on_anew(world: World) -> None:
    async with running(world):
        await world.want(service("a", port("8080:80")))
        await world.want(service("a", port("8080:80+http")))
        ((_, _, served),) = world.balancer.listeners.values()
        assert served.app_protocol is AppProtocol.HTTP


async def test_a_port_that_cannot_be_bound_is_said_once_and_tried_until_it_can(world: World) -> None:
    taken = Port("tcp", ADDRESS, 8080)
    world.sockets.failing.add(taken)
    async with running(world):
        await world.want(service("a", port("8080:80")), service("b", port("8081:80")))
        assert world.ports == {8081: "b"}
        await world.clock.advance(60.0)
        assert world.said == ["problem 8080"]
        world.sockets.failing.clear()
        await world.clock.advance(15.0)
        assert world.ports == {8080: "a", 8081: "b"}
        assert world.said == ["problem 8080", "cleared 8080"]


async def test_a_port_waits_in_silence_for_its_address(world: World) -> None:
    chosen = msgspec.structs.replace(port("8080:80"), address="127.0.0.9")
    world.sockets.absent.add("127.0.0.9")
    async with running(world):
        await world.want(service("a", chosen))
        await world.clock.advance(60.0)
        assert world.said == []
        world.sockets.absent.clear()
        await world.clock.advance(1.0)
        assert world.ports == {8080: "a"}


async def test_a_problem_ends_when_its_port_is_not_wanted_any_more(world: World) -> None:
    world.sockets.failing.add(Port("tcp", ADDRESS, 8080))
    async with running(world):
        await world.want(service("a", port("8080:80")))
        await world.want()
        assert world.said == ["problem 8080", "cleared 8080"]


async def test_a_port_that_cannot_be_given_back_is_given_back_later(world: World) -> None:
    async with running(world):
        await world.want(service("a", port("8080:80")))
        world.sockets.failing.add(Port("tcp", ADDRESS, 8080))
        await world.want()
        world.sockets.failing.clear()
        await world.clock.advance(20.0)
        assert world.sockets.calls[-1] == f"unbind {ADDRESS}:8080/tcp"


async def test_stopping_gives_no_port_back(world: World) -> None:
    async with running(world):
        await world.want(service("a", port("8080:80")))
    await world.listeners.stop()
    assert world.ports == {}
    assert not any(call.startswith("unbind") for call in world.sockets.calls)
