"""The control socket from both ends: the worker's client and the data plane's server."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import ENCODER, EndpointsUpdate
from tests.support.clock import settle
from tests.support.dataplane import service
from worker.dataplane.client import DataPlaneClient, Event
from worker.dataplane.control import ControlServer
from worker.dataplane.protocol import (
    Applied,
    Configure,
    Counters,
    GetCounters,
    Hello,
    PortCleared,
    PortProblem,
    TaskGone,
    TaskNamespace,
    Tasks,
    encode,
)

DEADLINE_S = 5.0
PROBLEM = PortProblem(transport="tcp", address="127.0.0.2", port=80, message="taken")


class FakePlane:
    """Answers as a data plane would, and remembers what it was told."""

    def __init__(self) -> None:
        self.configured: list[Configure] = []
        self.updates: list[EndpointsUpdate] = []
        self.named: list[TaskNamespace | Tasks | TaskGone] = []
        self.busy: tuple[str, ...] = ()

    def configure(self, message: Configure) -> None:
        self.configured.append(message)

    def apply(self, update: EndpointsUpdate) -> None:
        self.updates.append(update)

    def name(self, message: TaskNamespace | Tasks | TaskGone) -> None:
        self.named.append(message)

    def hello(self) -> Hello:
        return Hello(dns_address="127.0.0.2", dns_port=53, vip_prefix="127.93", cluster_id="c", revision=0)

    def applied(self) -> Applied:
        return Applied(revision=self.updates[-1].revision if self.updates else 0, busy=self.busy)

    def problems(self) -> tuple[PortProblem, ...]:
        return (PROBLEM,)

    def counters(self) -> Counters:
        return Counters(dns={"noerror": 9}, balancer=(), loop_lag_max_s=0.0, loop_lag_total_s=0.0, rss_bytes=1)


class Served:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.plane = FakePlane()
        self.server = ControlServer()

    async def connect(self) -> DataPlaneClient:
        return await DataPlaneClient.connect(self.path, node_id="n", cluster_id="c")


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Served]:
    with tempfile.TemporaryDirectory(prefix="dp-") as folder:
        made = Served(Path(folder) / "dataplane.sock")
        await made.server.start(made.path, made.plane)
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield made
        finally:
            await made.server.close()


async def take(client: DataPlaneClient, count: int) -> list[Event]:
    async with contextlib.aclosing(client.events()) as events:
        return [await anext(events) for _ in range(count)]


async def test_a_worker_says_who_it_is_and_hears_the_whole_state() -> None:
    async with served() as it:
        client = await it.connect()
        assert client.hello == it.plane.hello()
        assert it.plane.configured == [Configure(node_id="n", cluster_id="c")]
        assert await take(client, 2) == [PROBLEM, Applied(revision=0)]
        assert stat.S_IMODE(it.path.stat().st_mode) == 0o660
        await client.close()


async def test_each_update_is_applied_and_confirmed() -> None:
    async with served() as it:
        client = await it.connect()
        for revision in (3, 4):
            update = EndpointsUpdate(revision=revision, services=(service("web"),))
            await client.send_endpoints(ENCODER.encode(update))
        assert (await take(client, 4))[2:] == [Applied(revision=3), Applied(revision=4)]
        assert [u.revision for u in it.plane.updates] == [3, 4]
        await client.close()


async def test_a_large_update_arrives_whole() -> None:
    async with served() as it:
        client = await it.connect()
        services = tuple(service(f"service-{n}") for n in range(50_000))
        await client.send_endpoints(ENCODER.encode(EndpointsUpdate(revision=9, services=services)))
        assert (await take(client, 3))[2] == Applied(revision=9)
        assert it.plane.updates[0].services == services
        await client.close()


async def test_busy_tasks_are_told_when_they_change_and_only_then() -> None:
    async with served() as it:
        client = await it.connect()
        it.server.busy_changed()
        it.plane.busy = ("t1",)
        it.server.busy_changed()
        it.server.busy_changed()
        assert (await take(client, 3))[2] == Applied(revision=0, busy=("t1",))
        it.plane.busy = ()
        it.server.busy_changed()
        assert await take(client, 1) == [Applied(revision=0)]
        await client.close()


async def test_what_comes_up_is_told() -> None:
    async with served() as it:
        client = await it.connect()
        cleared = PortCleared(transport="tcp", address="127.0.0.2", port=80)
        it.server.tell(cleared)
        it.server.tell(it.plane.hello())
        assert (await take(client, 4))[2:] == [cleared, it.plane.hello()]
        await client.close()


async def test_counters_are_answered_while_events_are_read() -> None:
    async with served() as it:
        client = await it.connect()

        async def listen() -> None:
            async for _ in client.events():
                pass

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen())
            first, second = await asyncio.gather(client.counters(), client.counters())
            assert first.dns == second.dns == {"noerror": 9}
            await it.server.close()
        with pytest.raises(SwarmError) as caught:
            await client.counters()
        assert caught.value.code is Code.UNAVAILABLE
        await client.close()


async def test_a_new_worker_replaces_the_old_one() -> None:
    async with served() as it:
        old = await it.connect()
        new = await it.connect()
        assert [e async for e in old.events()] == [PROBLEM, Applied(revision=0)]
        with pytest.raises(SwarmError) as caught:
            for _ in range(100):  # the first writes may still go into the socket
                await old.send_endpoints(ENCODER.encode(EndpointsUpdate(revision=7)))
        assert caught.value.retryable
        assert it.plane.updates == []
        await new.send_endpoints(ENCODER.encode(EndpointsUpdate(revision=8)))
        assert (await take(new, 3))[2] == Applied(revision=8)
        await old.close()
        await new.close()


async def test_a_connection_that_says_nothing_replaces_nobody() -> None:
    async with served() as it:
        client = await it.connect()
        reader, writer = await asyncio.open_unix_connection(it.path)
        await client.send_endpoints(ENCODER.encode(EndpointsUpdate(revision=8)))
        assert (await take(client, 3))[2] == Applied(revision=8)
        await it.server.close()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
        await client.close()


@pytest.mark.parametrize(
    "data", [encode(GetCounters()), b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1"], ids=["no Configure", "size", "junk"]
)
async def test_who_does_not_speak_the_protocol_is_sent_away(data: bytes) -> None:
    async with served() as it:
        reader, writer = await asyncio.open_unix_connection(it.path)
        writer.write(data)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
        client = await it.connect()
        await client.close()


async def test_an_update_that_cannot_be_read_ends_the_connection() -> None:
    async with served() as it:
        client = await it.connect()
        await client.send_endpoints(b"\xc1")
        assert [e async for e in client.events()] == [PROBLEM, Applied(revision=0)]
        assert it.plane.updates == []
        await client.close()


async def test_without_a_data_plane_the_worker_is_told_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(SwarmError, match=r"no data plane answers at .*/none\.sock") as caught:
        await DataPlaneClient.connect(tmp_path / "none.sock", node_id="n", cluster_id="c")
    assert caught.value.retryable


async def test_a_data_plane_that_is_silent_is_given_up(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        writer.close()
        gone.set()

    path = tmp_path / "silent.sock"
    async with await asyncio.start_unix_server(silent, path):
        with pytest.raises(SwarmError, match="no data plane answers") as caught:
            await DataPlaneClient.connect(path, node_id="n", cluster_id="c", timeout_s=0.05)
        assert caught.value.code is Code.UNAVAILABLE
        await asyncio.wait_for(gone.wait(), DEADLINE_S)


async def test_for_a_worker_that_does_not_read_only_the_newest_state_is_kept() -> None:
    async with served() as it:
        client = await it.connect()
        long = PortProblem(transport="tcp", address="127.0.0.2", port=80, message="x" * 100_000)
        for _ in range(100):  # 10 MB, of which nearly all must be dropped
            it.server.tell(long)
        it.plane.busy = ("t1",)
        it.server.busy_changed()
        await settle()
        dropped = Applied(revision=0, busy=("t1",))
        kept: list[Event] = []
        async with contextlib.aclosing(client.events()) as events:
            while dropped not in kept:
                kept.append(await anext(events))
        assert kept.count(long) < 50
        assert kept[-3:] == [it.plane.hello(), PROBLEM, dropped]
        await client.close()


async def test_counters_that_do_not_come_are_given_up_and_their_late_answer_is_no_other_s() -> None:
    async with served() as it:
        client = await it.connect()
        with pytest.raises(SwarmError, match=r"no counters within 0 s") as caught:
            await client.counters(timeout_s=0.0)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(take(client, 3))
            assert (await client.counters()).dns == {"noerror": 9}
            it.server.tell(PortCleared(transport="tcp", address="127.0.0.2", port=80))
        assert reading.result()[:2] == [PROBLEM, Applied(revision=0)]
        await client.close()


async def failing(client: DataPlaneClient) -> Code:
    with pytest.raises(SwarmError, match="connect again") as caught:
        await client.counters()
    return caught.value.code


async def test_who_waits_for_counters_hears_that_the_data_plane_is_gone(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(encode(FakePlane().hello()))
        await reader.read(1024)  # the question
        asked.set()
        writer.close()

    async with await asyncio.start_unix_server(dying, tmp_path / "s"), asyncio.timeout(DEADLINE_S):
        client = await DataPlaneClient.connect(tmp_path / "s", node_id="n", cluster_id="c")
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(failing(client))
            await asked.wait()
            assert [event async for event in client.events()] == []
        assert asking.result() is Code.UNAVAILABLE
        await client.close()


async def test_a_place_that_cannot_be_listened_at_is_named(tmp_path: Path) -> None:
    with pytest.raises(SwarmError, match=r"cannot listen on .*/none/dataplane\.sock.*check the owner"):
        await ControlServer().start(tmp_path / "none" / "dataplane.sock", FakePlane())
