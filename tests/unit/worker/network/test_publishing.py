"""Published ports in the kernel follow the endpoints, and say how far they have come and who is connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import msgspec

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import (
    AppProtocol,
    Backend,
    EndpointsUpdate,
    HostPort,
    PublishMode,
    ServiceEndpoint,
    ServicePort,
    Transport,
)
from tests.support.clock import FakeClock, settle
from worker.dataplane.endpoints import EndpointTable
from worker.network.publishing import AGAIN_S, LOOK_S, WATCHED_S, Place, Publishing, Way, grouped, ways

HERE, THERE = "10.83.0.1", "10.83.0.2"
PLAIN = ServicePort(target=80, published=8080)


def update(revision: int, *ready: int, complete: bool = False, port: ServicePort = PLAIN) -> EndpointsUpdate:
    return EndpointsUpdate(
        revision=revision,
        complete=complete,
        services=(ServiceEndpoint("web", "web", ports=(port,)),) if complete else (),
        backends=tuple(Backend(f"t{n}", "web", n, "n1", THERE, (HostPort(target=80, port=20000 + n),)) for n in ready),
    )


def without(revision: int, *gone: int) -> EndpointsUpdate:
    return EndpointsUpdate(revision=revision, removed_backends=tuple(f"t{n}" for n in gone))


def way(number: int) -> Way:
    return Way((HERE, 8080), (THERE, 20000 + number), f"t{number}")


def table(*updates: EndpointsUpdate) -> EndpointTable:
    made = EndpointTable()
    for one in updates:
        made.apply(one)
    return made


def test_plain_ports_are_led_to_each_ready_task() -> None:
    found = ways(table(update(1, 1, 2, complete=True)), HERE)
    assert found == {way(1), way(2)}
    assert grouped(found) == {(HERE, 8080): ((THERE, 20001), (THERE, 20002))}
    chosen = msgspec.structs.replace(PLAIN, address="0.0.0.0")
    assert {w.entry for w in ways(table(update(1, 1, complete=True, port=chosen)), HERE)} == {("0.0.0.0", 8080)}


def test_what_the_kernel_cannot_do_is_the_balancers() -> None:
    for change in (
        {"app_protocol": AppProtocol.HTTP},
        {"transport": Transport.UDP},
        {"mode": PublishMode.HOST},
        {"proxy_protocol": 1},
        {"published": 0},
        {"address": "::1"},
    ):
        port = msgspec.structs.replace(PLAIN, **change)
        assert not ways(table(update(1, 1, complete=True, port=port)), HERE), change
    assert not ways(table(update(1, complete=True)), HERE)


class Kernel:
    """Remembers what it was told, and has the connections that a test says."""

    def __init__(self) -> None:
        self.ports: Mapping[Place, tuple[Place, ...]] | None = None
        self.calls = 0
        self.open: set[Way] = set()
        self.refuses = False

    async def lead(self, ports: Mapping[Place, tuple[Place, ...]]) -> None:
        self.calls += 1
        if self.refuses:
            raise SwarmError(Code.INTERNAL, "a test says so")
        self.ports = ports

    async def connected(self, asked: Iterable[Way]) -> frozenset[Way]:
        return frozenset(self.open.intersection(asked))


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kernel = Kernel()
        self.publishing = Publishing(HERE, self.clock)
        self.told: list[tuple[int, frozenset[str]]] = []
        self.publishing.reset(lambda: self.told.append((self.publishing.applied, self.publishing.busy)))

    async def take(self, change: EndpointsUpdate) -> None:
        self.publishing.take(change)
        await settle()


@asynccontextmanager
async def running() -> AsyncIterator[Rig]:
    rig = Rig()
    async with asyncio.TaskGroup() as group:
        life = group.create_task(rig.publishing.run(rig.kernel))
        yield rig
        life.cancel()


async def test_the_kernel_is_told_before_it_is_said_that_it_was() -> None:
    async with running() as rig:
        await rig.take(update(1, 1))
        assert not rig.kernel.calls, "nothing is known before the first complete update"
        await rig.take(update(2, 1, 2, complete=True))
        assert rig.kernel.ports == grouped({way(1), way(2)})
        assert rig.told == [(2, frozenset())]
        await rig.take(EndpointsUpdate(revision=3, services=(ServiceEndpoint("other", "other"),)))
        assert (rig.kernel.calls, rig.told[-1]) == (1, (3, frozenset()))


async def test_a_withdrawn_task_is_busy_until_its_connections_have_ended() -> None:
    async with running() as rig:
        await rig.take(update(1, 1, 2, complete=True))
        rig.kernel.open = {way(1), way(2)}
        await rig.take(without(2, 1))
        assert rig.kernel.ports == grouped({way(2)})
        assert rig.told[-1] == (2, frozenset({"t1"}))
        await rig.clock.advance(LOOK_S)
        assert rig.told[-1] == (2, frozenset({"t1"}))
        rig.kernel.open = {way(2)}
        await rig.clock.advance(10 * LOOK_S)
        assert rig.told[-1] == (2, frozenset())


async def test_a_task_that_is_ready_again_is_not_busy() -> None:
    async with running() as rig:
        await rig.take(update(1, 1, complete=True))
        rig.kernel.open = {way(1)}
        await rig.take(without(2, 1))
        await rig.take(update(3, 1))
        assert rig.told[-1] == (3, frozenset())


async def test_connections_of_a_lost_machine_are_not_watched_for_ever() -> None:
    async with running() as rig:
        await rig.take(update(1, 1, complete=True))
        rig.kernel.open = {way(1)}
        await rig.take(without(2, 1))
        for _ in range(2000):
            if not rig.publishing.busy:
                break
            await rig.clock.advance(1.0)
        assert rig.clock.monotonic() >= WATCHED_S
        assert rig.told[-1] == (2, frozenset())


async def test_a_kernel_that_refuses_everything_holds_nothing_up() -> None:
    async with running() as rig:
        rig.kernel.refuses = True
        await rig.take(update(1, 1, complete=True))
        assert rig.told == [(1, frozenset())], "the balancer serves all"
        rig.kernel.refuses = False
        await rig.clock.advance(AGAIN_S)
        assert rig.kernel.ports == grouped({way(1)})
        rig.kernel.refuses = True
        await rig.take(without(2, 1))
        assert rig.told[-1] == (1, frozenset()), "what is led there still must not be stopped"
        rig.kernel.refuses = False
        await rig.clock.advance(AGAIN_S)
        assert (rig.kernel.ports, rig.told[-1]) == ({}, (2, frozenset()))


async def test_a_table_that_was_opened_again_is_set_anew() -> None:
    async with running() as rig:
        await rig.take(update(1, 1, complete=True))
        rig.publishing.repeat()
        await settle()
        assert rig.kernel.calls == 2
