from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import ENCODER, EndpointsUpdate
from tests.support.clock import FakeClock, settle
from tests.support.worker_parts import FakeDataPlane
from worker.dataplane.protocol import Applied, PortCleared, PortProblem
from worker.endpoints import MOST_WAITING, DataPlane, EndpointsLink


def update(revision: int) -> bytes:
    return ENCODER.encode(EndpointsUpdate(revision=revision))


@dataclass
class Desk:
    clock: FakeClock
    planes: list[FakeDataPlane] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    refusals: int = 0
    revision: int = 0

    def __post_init__(self) -> None:
        self.link = EndpointsLink(self.connect, self.clock, random.Random(1))
        self.link.on_stale = self.stale.append

    async def connect(self) -> DataPlane:
        if self.refusals:
            self.refusals -= 1
            raise SwarmError(Code.UNAVAILABLE, "no data plane")
        self.planes.append(FakeDataPlane(self.revision))
        return self.planes[-1]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk(FakeClock())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(desk.link.run())
        await settle()
        yield desk
        running.cancel()


async def test_updates_pass_through_untouched(desk: Desk) -> None:
    desk.link.forward(update(1))
    await settle()
    assert desk.planes[0].updates == [update(1)]
    assert desk.link.applied == (1, ())
    assert desk.stale == []


async def test_bytes_that_are_no_update_are_refused(desk: Desk) -> None:
    with pytest.raises(SwarmError, match="endpoints that cannot be read"):
        desk.link.forward(b"nonsense")


async def test_a_plane_that_comes_back_with_all_it_was_sent_is_not_stale(desk: Desk) -> None:
    desk.link.forward(update(1))
    await settle()
    desk.revision, desk.refusals = 1, 3
    desk.planes[0].told.put_nowait(None)
    await desk.clock.advance(10.0)
    assert len(desk.planes) == 2
    assert desk.stale == []


async def test_a_plane_that_missed_updates_is_stale(desk: Desk) -> None:
    desk.refusals = 1
    desk.planes[0].told.put_nowait(None)
    await settle()
    desk.link.forward(update(7))
    await desk.clock.advance(10.0)
    assert desk.stale == ["the data plane has endpoints of revision 0"]
    desk.link.session_begins()
    desk.planes[-1].told.put_nowait(None)
    await desk.clock.advance(10.0)
    assert len(desk.stale) == 1  # the session has begun after what the plane has


async def test_a_plane_that_does_not_keep_up_is_stale(desk: Desk) -> None:
    for revision in range(MOST_WAITING + 1):
        desk.link.forward(update(revision))
    assert desk.stale == [f"the data plane is {MOST_WAITING} updates behind"]


async def test_ports_that_cannot_be_bound_are_known_until_they_can(desk: Desk) -> None:
    problem = PortProblem(transport="tcp", address="127.0.0.1", port=80, message="in use")
    desk.planes[0].told.put_nowait(problem)
    desk.planes[0].told.put_nowait(Applied(revision=3, busy=("t",)))
    await settle()
    assert desk.link.problems == {("tcp", "127.0.0.1", 80): "in use"}
    assert desk.link.applied == (3, ("t",))
    desk.planes[0].told.put_nowait(PortCleared(transport="tcp", address="127.0.0.1", port=80))
    await settle()
    assert desk.link.problems == {}


class FakeTables:
    """The kernel's tables, as far as a test says."""

    def __init__(self) -> None:
        self.applied = 0
        self.busy: frozenset[str] = frozenset()
        self.taken: list[int] = []
        self.on_applied: Callable[[], None] = lambda: None

    def reset(self, on_applied: Callable[[], None]) -> None:
        self.applied = 0
        self.on_applied = on_applied

    def take(self, update: EndpointsUpdate) -> None:
        self.taken.append(update.revision)

    def follow(self, revision: int) -> None:
        self.applied = revision
        self.on_applied()


async def test_an_update_is_in_force_when_the_kernel_s_tables_follow_it_too() -> None:
    tables, plane = FakeTables(), FakeDataPlane()

    async def connect() -> DataPlane:
        return plane

    link = EndpointsLink(connect, FakeClock(), random.Random(1), (tables,))
    told: list[tuple[int, tuple[str, ...]]] = []
    link.on_applied = lambda revision, busy: told.append((revision, busy))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(link.run())
        await settle()
        link.forward(update(1))
        await settle()
        assert (tables.taken, link.applied) == ([1], (0, ()))
        tables.follow(1)
        assert link.applied == (1, ())
        tables.busy = frozenset({"t2"})
        tables.follow(2)  # of which the data plane does not know yet
        assert told[-1] == (1, ("t2",)), "the kernel has a connection to it"
        running.cancel()


async def test_the_kernel_s_tables_follow_while_the_data_plane_is_away() -> None:
    tables = FakeTables()

    async def connect() -> DataPlane:
        raise SwarmError(Code.UNAVAILABLE, "no data plane")

    EndpointsLink(connect, FakeClock(), random.Random(1), (tables,)).forward(update(3))
    assert tables.taken == [3]
