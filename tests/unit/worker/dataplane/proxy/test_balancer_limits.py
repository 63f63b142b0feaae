"""Bounds, withdrawal and what is busy, for plain connections."""

from __future__ import annotations

import asyncio
import os
import resource
import socket

import pytest

from swarmpy.model.endpoints import ServicePort
from tests.support.balancer import SERVICE, TARGET, Rig, backend, eventually, free_port, hang_up, rig
from tests.support.clock import settle
from worker.dataplane.proxy.api import Limits, ListenKey, descriptor_budget
from worker.dataplane.proxy.pool import BusySet


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)


async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"ping")
    async with asyncio.timeout(5):
        assert await reader.readexactly(4) == b"ping"


async def expect_refusal(rig: Rig) -> None:
    """Connect and expect a reset, during the connect or right after it."""
    with pytest.raises(ConnectionResetError):
        reader, writer = await rig.open()
        try:
            await reader.read()
        finally:
            await hang_up(writer)


@pytest.mark.parametrize(
    "limits", [Limits(max_connections=4, drain_s=0.0), Limits(max_connections_per_service=2, drain_s=0.0)]
)
async def test_connections_beyond_the_limit_are_refused(limits: Limits) -> None:
    async with rig(limits=limits) as r:
        r.ready([await r.peers.start("t", echo)])
        open_ones = [await r.open() for _ in range(2)]
        for reader, writer in open_ones:
            await ping(reader, writer)
        await expect_refusal(r)
        assert (r.row().refused, r.row().active, r.row().connections) == (1, 2, 2)
        await hang_up(open_ones[0][1])
        await eventually(lambda: r.row().active == 1)
        reader, writer = await r.open()
        await ping(reader, writer)
        await hang_up(open_ones[1][1])
        await hang_up(writer)


async def test_an_idle_connection_makes_room_once_the_service_holds_its_share() -> None:
    async with rig(limits=Limits(max_connections=4, reclaim_idle_s=30.0, drain_s=0.0)) as r:
        r.ready([await r.peers.start("t", echo)])
        silent_reader, _ = await r.open()
        await eventually(lambda: r.row().active == 1)
        reader, writer = await r.open()
        await ping(reader, writer)
        await r.clock.advance(29.0)
        await expect_refusal(r)
        await r.clock.advance(1.0)
        await ping(*await r.open())
        async with asyncio.timeout(5):
            assert await silent_reader.read() == b""
        await expect_refusal(r)  # the other one has sent something since it was looked at last
        assert (r.row().reclaimed, r.row().refused, r.row().active) == (1, 2, 2)
        await ping(reader, writer)


async def test_one_service_leaves_half_of_what_is_left_to_the_next() -> None:
    async with rig(limits=Limits(max_connections=8, drain_s=0.0)) as r:
        r.ready([await r.peers.start("t", echo)])
        for _ in range(4):
            await ping(*await r.open())
        await expect_refusal(r)
        sock = socket.create_server(("127.0.0.1", 0))
        other = ListenKey("127.0.0.1", sock.getsockname()[1])
        await r.balancer.listen(other, sock, "other", ServicePort(TARGET))
        clients = [await asyncio.open_connection(*other[:2]) for _ in range(2)]
        await eventually(lambda: [row.active for row in r.balancer.counters() if not row.task_id] == [4, 2])
        await expect_refusal(r)
        for _, writer in clients:
            await hang_up(writer)


async def test_a_service_above_its_share_shrinks_by_its_idle_connections() -> None:
    async with rig(limits=Limits(max_connections=8, reclaim_idle_s=30.0, drain_s=0.0)) as r:
        r.ready([await r.peers.start("t", echo)])
        for _ in range(4):
            await r.open()
        await eventually(lambda: r.row().active == 4)
        sock = socket.create_server(("127.0.0.1", 0))
        other = ListenKey("127.0.0.1", sock.getsockname()[1])
        await r.balancer.listen(other, sock, "other", ServicePort(TARGET))
        clients = [await asyncio.open_connection(*other[:2]) for _ in range(2)]
        await eventually(lambda: [row.active for row in r.balancer.counters() if not row.task_id] == [4, 2])
        await r.clock.advance(31.0)
        await ping(*await r.open())
        assert (r.row().reclaimed, r.row().active) == (2, 3)
        for _, writer in clients:
            await hang_up(writer)


async def test_only_so_many_are_held() -> None:
    async with rig(limits=Limits(max_held=1, drain_s=0.0)) as r:
        _reader, first = await r.open()
        await eventually(lambda: r.row().held == 1)
        await expect_refusal(r)
        assert (r.row().refused, r.row().held, r.row().active) == (1, 1, 1)
        await hang_up(first)


async def test_a_held_client_that_leaves_without_a_word_is_forgotten() -> None:
    async with rig() as r:
        _reader, writer = await r.open()
        await eventually(lambda: r.row().held == 1)
        await hang_up(writer)
        await r.clock.advance(1.5)
        await eventually(lambda: r.row().active == 0)


async def test_idle_connections_are_cut_when_asked_for() -> None:
    async with rig(limits=Limits(idle_timeout_s=60.0, drain_s=0.0)) as r:
        r.ready([await r.peers.start("t", echo)])
        idle_reader, idle = await r.open()
        await ping(idle_reader, idle)
        reader, writer = await r.open()
        async with asyncio.timeout(5):
            while r.row().active == 2:
                await ping(reader, writer)
                await r.clock.advance(61.0)
            assert await idle_reader.read() == b""
        await ping(reader, writer)
        assert r.row().active == 1
        await hang_up(idle)
        await hang_up(writer)


async def test_running_out_of_descriptors_leaves_clients_in_the_queue() -> None:
    async with rig() as r:
        r.ready([await r.peers.start("t", echo)])
        spare = [os.dup(0)]
        reader, writer = await r.open()
        await ping(reader, writer)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(spare.pop())
        probe = await r.open()
        await ping(*probe)
        low = max(int(name) for name in os.listdir("/proc/self/fd")) + 1  # noqa: PTH208  # numbers, not paths
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
        try:
            while True:  # fill the holes below the limit
                spare.append(os.dup(0))
        except OSError:
            os.close(spare.pop())  # one for the client's own socket
        try:
            late_reader, late = await r.open()
            late.write(b"late")
            await settle()
        finally:
            for descriptor in spare:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with asyncio.timeout(5):
            assert await late_reader.readexactly(4) == b"late"
        for one in (writer, probe[1], late):
            await hang_up(one)


async def test_a_withdrawn_backend_gets_nothing_new_and_is_busy_until_its_last_connection_ends() -> None:
    async with rig() as r:
        old = await r.peers.start("old", echo)
        new = await r.peers.start("new", echo)
        r.ready([old])
        connections = [await r.open() for _ in range(2)]
        for reader, writer in connections:
            await ping(reader, writer)
        r.ready([new], withdrawn=["old"])
        assert r.balancer.busy() == {"old"}
        for reader, writer in connections:
            await ping(reader, writer)
        reader, writer = await r.open()
        await ping(reader, writer)
        assert (r.row("old").active, r.row("new").active) == (2, 1)
        await hang_up(connections[0][1])
        await eventually(lambda: r.row("old").active == 1)
        assert r.balancer.busy() == {"old"}
        await hang_up(connections[1][1])
        await eventually(lambda: not r.balancer.busy())
        await eventually(lambda: r.busy_calls == [frozenset({"old"}), frozenset()])
        assert [row.task_id for row in r.balancer.counters()] == ["", "new"]
        await hang_up(writer)


async def test_a_backend_without_connections_is_never_busy() -> None:
    async with rig() as r:
        r.ready([backend("a", free_port()), backend("b", free_port())])
        r.ready([], withdrawn=["a", "b"])
        assert r.balancer.busy() == frozenset()
        await asyncio.sleep(0)
        assert r.busy_calls == []


async def test_a_backend_that_is_ready_again_is_not_busy_any_more() -> None:
    async with rig() as r:
        one = await r.peers.start("t", echo)
        r.ready([one])
        reader, writer = await r.open()
        await ping(reader, writer)
        r.ready([], withdrawn=["t"])
        r.ready([one])
        assert r.balancer.busy() == frozenset()
        await ping(reader, writer)
        assert r.row("t").active == 1
        await hang_up(writer)
        await eventually(lambda: r.row("t").active == 0)
        assert r.balancer.busy() == frozenset()


async def test_removing_the_service_withdraws_its_backends() -> None:
    async with rig() as r:
        r.ready([await r.peers.start("t", echo)])
        reader, writer = await r.open()
        await ping(reader, writer)
        r.balancer.remove_service(SERVICE)
        await r.balancer.unlisten(r.key)
        assert r.balancer.busy() == {"t"}
        await ping(reader, writer)
        await hang_up(writer)
        await eventually(lambda: not r.balancer.busy())


async def test_a_task_withdrawn_by_id_alone_is_withdrawn() -> None:
    async with rig() as r:
        r.ready([await r.peers.start("t", echo)])
        reader, writer = await r.open()
        await ping(reader, writer)
        r.balancer.apply({}, {}, ["t", "unknown"])
        assert r.balancer.busy() == {"t"}
        await hang_up(writer)
        await eventually(lambda: not r.balancer.busy())


def test_a_task_is_busy_while_any_of_its_ports_is() -> None:
    seen: list[frozenset[str]] = []
    busy = BusySet(lambda: seen.append(busy.task_ids()))
    busy.add("a")
    busy.add("a")
    busy.remove("a")
    assert busy.task_ids() == {"a"}
    busy.remove("a")
    assert seen == [frozenset({"a"}), frozenset()]


def test_the_budget_leaves_descriptors_for_others() -> None:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < descriptor_budget() < (soft if soft != resource.RLIM_INFINITY else 1 << 20)
