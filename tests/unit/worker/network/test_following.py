"""The kernel's tables follow the endpoints, and say how far they have come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import Backend, EndpointsUpdate, ServiceEndpoint, ServiceNetwork
from swarmpy.model.endpoints import Neighbour as NeighbourRow
from swarmpy.model.network import NetworkAddress, NetworkRow
from tests.support.clock import FakeClock, settle
from worker.network.following import AGAIN_S, Following
from worker.network.link.forwarding import Neighbour
from worker.network.nft.vip import Vip
from worker.network.reach import Balance, Reach
from worker.network.records import WiringRecords
from worker.network.wiring import Link, Wiring

HERE = "10.83.0.1"
VIP, FIRST, SECOND = (IPv4Address(f"10.0.1.{n}") for n in (2, 11, 12))
FRONT = NetworkRow(id="front", subnet="10.0.1.0/24")


def update(revision: int, *ready: int, complete: bool = False) -> EndpointsUpdate:
    return EndpointsUpdate(
        revision=revision,
        complete=complete,
        services=(ServiceEndpoint("web", "web", networks=(ServiceNetwork("front", str(VIP)),)),) if complete else (),
        networks=(FRONT,) if complete else (),
        neighbours=tuple(
            NeighbourRow(f"t{n}", "web", n, "n1", HERE, (NetworkAddress("front", f"10.0.1.{10 + n}"),)) for n in ready
        ),
        backends=tuple(Backend(f"t{n}", "web", n, "n1", HERE) for n in ready),
    )


class Kernel:
    """Remembers what was asked for; each answer is in `answers`, then nothing fails."""

    def __init__(self) -> None:
        self.neighbours: dict[str, tuple[Neighbour, ...]] = {}
        self.balances: list[Balance] = []
        self.calls = 0
        self.untidy = 0
        self.tidied = 0
        self.answers: list[frozenset[str] | SwarmError] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def follow(
        self, neighbours: Mapping[str, tuple[Neighbour, ...]], balances: Iterable[Balance]
    ) -> frozenset[str]:
        await self.may_go_on.wait()
        self.calls += 1
        self.neighbours |= neighbours
        self.balances += balances
        answer = self.answers.pop(0) if self.answers else frozenset[str]()
        if isinstance(answer, SwarmError):
            raise answer
        return answer

    async def tidy(self) -> bool:
        self.tidied += 1
        self.untidy = max(0, self.untidy - 1)
        return self.untidy > 0

    def taken(self) -> list[Balance]:
        taken, self.balances = self.balances, []
        return taken


class Desk:
    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.records = WiringRecords(directory)
        self.following = Following(HERE, self.records, self.clock)
        self.kernel = Kernel()
        self.applied: list[int] = []
        self.following.reset(lambda: self.applied.append(self.following.applied))

    def join(self, task_id: str = "mine") -> Wiring:
        link = Link(row=FRONT, address="10.0.1.20", inner="eth0")
        wiring = Wiring(task_id=task_id, links=(link,), way_out="eth1", name_port=53)
        self.records.keep(wiring)
        return wiring

    async def take(self, *updates: EndpointsUpdate) -> list[Balance]:
        for one in updates:
            self.following.take(one)
        await settle()
        return self.kernel.taken()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(desk.following.run(desk.kernel))
        yield desk
        running.cancel()


async def test_without_tasks_on_networks_everything_is_in_force_at_once(desk: Desk) -> None:
    assert await desk.take(update(5, 1, complete=True)) == []
    assert (desk.following.applied, desk.kernel.calls) == (5, 0)


async def test_a_task_that_joins_is_told_what_is_known(desk: Desk) -> None:
    await desk.take(update(5, 1, complete=True))
    reach = desk.following.reach(desk.join())
    neighbour = Neighbour(FIRST, IPv4Address(HERE))
    assert reach == Reach({"front": (neighbour,)}, (Vip(VIP, (FIRST,)),))


async def test_changes_go_to_the_tasks_on_the_network_and_then_count(desk: Desk) -> None:
    await desk.take(update(5, 1, complete=True))
    desk.following.reach(desk.join())
    assert await desk.take(update(6, 2)) == [Balance("mine", (Vip(VIP, (FIRST, SECOND)),))]
    assert desk.applied == [6]
    assert await desk.take(EndpointsUpdate(revision=7, removed_services=("web",))) == [Balance("mine", (), (VIP,))]
    assert await desk.take(EndpointsUpdate(revision=8)) == []
    assert desk.applied == [6, 7, 8]


async def test_what_comes_meanwhile_is_done_together(desk: Desk) -> None:
    await desk.take(update(5, complete=True))
    desk.join()
    desk.kernel.may_go_on.clear()
    await desk.take(update(6, 1))
    await desk.take(update(7, 2), EndpointsUpdate(revision=8, removed_backends=("t1",)))
    assert desk.applied == []
    desk.kernel.may_go_on.set()
    await settle()
    assert desk.kernel.calls == 2
    assert desk.kernel.taken()[-1] == Balance("mine", (Vip(VIP, (SECOND,)),))
    assert desk.applied == [6, 8]


async def test_what_may_come_later_is_done_when_all_that_is_new_is_in_force(desk: Desk) -> None:
    await desk.take(update(5, complete=True))
    desk.join()
    desk.kernel.untidy = 3
    await desk.take(update(6, 1))
    assert (desk.applied, desk.kernel.tidied) == ([6], 3)


async def test_a_worker_that_begins_keeps_what_is_there_until_it_knows_everything(desk: Desk) -> None:
    wiring = desk.join()
    assert desk.following.reach(wiring) is None
    assert await desk.take(EndpointsUpdate(revision=4)) == []
    assert desk.applied == []
    assert await desk.take(update(5, 1, complete=True)) == [Balance("mine", (Vip(VIP, (FIRST,)),), whole=True)]
    assert desk.applied == [5]


async def test_a_task_whose_table_could_not_be_changed_is_told_everything_again(desk: Desk) -> None:
    await desk.take(update(5, 1, complete=True))
    desk.join()
    desk.kernel.answers = [frozenset({"mine"})]
    await desk.take(update(6, 2))
    assert desk.applied == []
    await desk.clock.advance(AGAIN_S)
    assert desk.kernel.taken() == [Balance("mine", (Vip(VIP, (FIRST, SECOND)),), whole=True)]
    assert desk.applied == [6]


async def test_a_kernel_that_refuses_is_asked_again_for_everything(desk: Desk) -> None:
    await desk.take(update(5, 1, complete=True))
    desk.join()
    desk.kernel.answers = [SwarmError(Code.UNAVAILABLE, "not now")]
    await desk.take(update(6, 2))
    desk.kernel.taken()
    desk.kernel.neighbours.clear()
    await desk.clock.advance(AGAIN_S)
    assert desk.kernel.taken() == [Balance("mine", (Vip(VIP, (FIRST, SECOND)),), whole=True)]
    assert set(desk.kernel.neighbours) == {"front"}
    assert desk.applied == [6]


async def test_tables_that_were_opened_again_are_set_anew(desk: Desk) -> None:
    await desk.take(update(5, 1, complete=True))
    desk.join()
    desk.following.repeat()
    await settle()
    assert desk.kernel.taken() == [Balance("mine", (Vip(VIP, (FIRST,)),), whole=True)]


async def test_another_cluster_begins_at_nothing(desk: Desk) -> None:
    await desk.take(update(5, 1, complete=True))
    desk.join()
    desk.following.reset(lambda: desk.applied.append(desk.following.applied))
    assert desk.following.applied == 0
    assert await desk.take(EndpointsUpdate(revision=2, complete=True)) == [Balance("mine", (), whole=True)]
    assert desk.applied == [2]
