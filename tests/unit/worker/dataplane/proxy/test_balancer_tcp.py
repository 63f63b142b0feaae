"""Connections carried as bytes, on real loopback sockets."""

from __future__ import annotations

import asyncio
import collections
import socket

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import ServicePort
from tests.support.balancer import SERVICE, TARGET, Handler, Rig, backend, eventually, free_port, hang_up, reset, rig
from tests.support.clock import settle
from worker.dataplane.proxy.api import Limits, ListenKey


def says(text: bytes) -> Handler:
    """Return a backend that speaks first, then echoes until the client ends its stream."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    return handler


async def ask(rig: Rig, *, size: int = 2) -> bytes:
    reader, writer = await rig.open()
    async with asyncio.timeout(5):
        answer = await reader.readexactly(size)
    await hang_up(writer)
    return answer


async def test_connections_take_turns() -> None:
    async with rig() as r:
        r.ready([await r.peers.start(f"t{n}", says(b"t%d" % n)) for n in range(3)])
        answers = [await ask(r) for _ in range(9)]
        assert answers[:3] * 3 == answers
        assert sorted(answers[:3]) == [b"t0", b"t1", b"t2"]
        await eventually(lambda: r.row().active == 0)
        assert (r.row().connections, r.row("t1").connections) == (9, 3)
        assert (r.row().bytes_out, r.row("t1").bytes_out) == (18, 6)


async def test_two_listeners_of_a_port_share_the_rotation() -> None:
    async with rig() as r:
        r.ready([await r.peers.start(f"t{n}", says(b"t%d" % n)) for n in range(2)])
        first = r.key
        sock = socket.create_server(("127.0.0.1", 0))
        second = ListenKey("127.0.0.1", sock.getsockname()[1])
        await r.balancer.listen(second, sock, SERVICE, ServicePort(TARGET, published=8080))
        answers = []
        for r.key in (first, second) * 3:
            answers.append(await ask(r))
        assert answers == [b"t0", b"t1"] * 3


async def test_both_directions_end_by_themselves() -> None:
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()  # until the client ends its stream
        received.set_result(request)
        writer.write(b"answer to " + request)
        writer.write_eof()

    async with rig() as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        writer.write(b"question")
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await received == b"question"
            assert await reader.read() == b"answer to question"
        await eventually(lambda: r.row().active == 0)
        await hang_up(writer)
        assert r.row().failed == 0


async def test_a_backend_may_end_first_and_go_on_reading() -> None:
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"go")
        writer.write_eof()
        received.set_result(await reader.read())

    async with rig() as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        async with asyncio.timeout(5):
            assert await reader.read() == b"go"
            writer.write(b"late news")
            writer.write_eof()
            assert await received == b"late news"
        await hang_up(writer)


async def test_a_reset_is_passed_on_as_a_reset() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"part")
        await reader.readexactly(1)
        reset(writer)

    async with rig() as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        assert await reader.readexactly(4) == b"part"
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await reader.read()
        await hang_up(writer)
        assert r.row().failed == 1


@pytest.mark.parametrize("resetting", ["client", "backend"])
async def test_a_reset_is_not_an_orderly_end_for_a_side_that_only_sends(resetting: str) -> None:
    """The write that meets the reset takes the error away; the read after it must not count as an end."""
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    hurt = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send without end; note how the other side's stream ends."""

        async def send() -> None:
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
                hurt.set()

        sending = asyncio.ensure_future(send())
        try:
            outcome.set_result("orderly" if await reader.read(-1) == b"" else "bytes")
        except ConnectionError:
            outcome.set_result("reset")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    async def quit_early(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hurt.wait()
        reset(writer)

    async with rig() as r:
        r.ready([await r.peers.start("t", flood if resetting == "client" else quit_early)])
        streams = await r.open()
        async with asyncio.timeout(10):
            await (quit_early if resetting == "client" else flood)(*streams)
            assert await outcome == "reset"


async def test_megabytes_arrive_whole_both_ways() -> None:
    data = bytes(range(256)) * 40_000
    async with rig() as r:
        r.ready([await r.peers.start("t", says(b""))])
        reader, writer = await r.open()

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(send())
            echoed = group.create_task(reader.read(-1))
        assert echoed.result() == data
        await eventually(lambda: r.row().active == 0)
        assert (r.row().bytes_in, r.row().bytes_out) == (len(data), len(data))
        await hang_up(writer)


async def test_a_stalled_reader_stops_the_sender() -> None:
    sent = collections.Counter[str]()

    async def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while sent["bytes"] < 200 << 20:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent["bytes"] += 1 << 16

    async with rig() as r:
        r.ready([await r.peers.start("t", handler)])
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sock.connect(r.key[:2])
        previous = -1
        while previous != sent["bytes"]:  # until nothing moves any more
            previous = sent["bytes"]
            await settle(500)
        pending = [len(connection.client.pending) for connection in r.balancer._shared.connections]
        assert 0 < previous < 200 << 20
        assert 0 < pending[0] <= 1 << 16
        taken = 0
        sock.setblocking(False)
        async with asyncio.timeout(30):
            while taken < previous + (8 << 20):  # and it goes on once the client reads
                taken += len(await asyncio.get_running_loop().sock_recv(sock, 1 << 20))
        sock.close()


async def test_what_a_client_sends_before_there_is_a_backend_is_not_lost() -> None:
    async with rig() as r:
        reader, writer = await r.open()
        writer.write(b"early")
        await eventually(lambda: r.row().held == 1)
        r.ready([await r.peers.start("t", says(b"hello "))])
        async with asyncio.timeout(5):
            assert await reader.readexactly(11) == b"hello early"
        await hang_up(writer)


async def test_a_refused_connect_is_tried_on_the_next_backend() -> None:
    async with rig() as r:
        dead = backend("dead", free_port())
        r.ready([dead, await r.peers.start("t", says(b"ok"))])
        assert [await ask(r) for _ in range(6)] == [b"ok"] * 6
        assert r.row("dead").failed == 1  # then it rests
        await r.clock.advance(1.5)
        assert [await ask(r) for _ in range(3)] == [b"ok"] * 3
        assert r.row("dead").failed == 2


async def test_a_backend_that_does_not_listen_yet_is_tried_again() -> None:
    async with rig() as r:
        port = free_port()
        r.ready([backend("t", port)])
        reader, writer = await r.open()
        await eventually(lambda: r.row("t").failed == 1)
        await r.peers.start("t", says(b"up"), port)
        await r.clock.advance(1.5)
        async with asyncio.timeout(5):
            assert await reader.readexactly(2) == b"up"
        await hang_up(writer)
        assert r.row().refused == 0


async def test_a_connect_that_takes_too_long_is_tried_on_the_next_backend() -> None:
    stuck = socket.socket()
    stuck.bind(("127.0.0.1", 0))
    stuck.listen(0)
    fill = [socket.socket() for _ in range(4)]  # a full queue: the kernel drops further attempts
    for sock in fill:
        sock.setblocking(False)
        sock.connect_ex(stuck.getsockname())
    async with rig() as r:
        r.ready([backend("stuck", stuck.getsockname()[1]), await r.peers.start("t", says(b"ok"))])
        reader, writer = await r.open()
        await eventually(lambda: r.row("stuck").active == 1)
        await r.clock.advance(3.5)
        async with asyncio.timeout(5):
            assert await reader.readexactly(2) == b"ok"
        assert r.row("stuck").failed == 1
        await hang_up(writer)
    for sock in (stuck, *fill):
        sock.close()


async def test_held_clients_are_served_in_the_order_in_which_they_came() -> None:
    order: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        order.append(await reader.readexactly(1))
        await reader.read()

    async with rig() as r:
        writers = []
        for n in range(5):
            _reader, writer = await r.open()
            writer.write(b"%d" % n)
            writers.append(writer)
            await eventually(lambda held: r.row().held == held, n + 1)
        r.ready([await r.peers.start("t", handler)])
        await eventually(lambda: len(order) == 5)
        assert order == [b"0", b"1", b"2", b"3", b"4"]
        for writer in writers:
            await hang_up(writer)


async def test_without_a_backend_clients_are_closed_after_a_while() -> None:
    async with rig() as r:
        reader, writer = await r.open()
        await eventually(lambda: r.row().held == 1)
        await r.clock.advance(9.0)
        assert r.row().active == 1
        await r.clock.advance(1.5)
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await reader.read()
        assert (r.row().refused, r.row().active) == (1, 0)
        await hang_up(writer)


async def test_refusing_backends_do_not_prolong_the_wait() -> None:
    async with rig() as r:
        r.ready([backend("dead", free_port())])
        reader, writer = await r.open()
        await eventually(lambda: r.row("dead").failed == 1)
        for _ in range(11):
            failed = r.row("dead").failed
            await r.clock.advance(1.1)
            await eventually(lambda before: r.row("dead").failed > before or not r.row().active, failed)
        assert (r.row().active, r.row().held, r.row().refused) == (0, 1, 1)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await hang_up(writer)


async def test_removing_the_service_turns_away_who_waits() -> None:
    async with rig() as r:
        reader, writer = await r.open()
        await eventually(lambda: r.row().held == 1)
        r.balancer.remove_service(SERVICE)
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await reader.read()
        await hang_up(writer)


async def test_a_listener_is_taken_once_and_given_up() -> None:
    async with rig() as r:
        sock = socket.create_server(("127.0.0.1", 0))
        with pytest.raises(SwarmError) as caught:
            await r.balancer.listen(r.key, sock, SERVICE, ServicePort(TARGET))
        assert caught.value.code is Code.ALREADY_EXISTS
        sock.close()
        r.ready([await r.peers.start("t", says(b"ok"))])
        reader, writer = await r.open()
        assert await reader.readexactly(2) == b"ok"
        await r.balancer.unlisten(r.key)
        await r.balancer.unlisten(r.key)
        with pytest.raises(ConnectionRefusedError):
            await r.open()
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        await hang_up(writer)


async def test_stopping_lets_connections_end() -> None:
    async with rig(limits=Limits(drain_s=30.0)) as r:
        r.ready([await r.peers.start("t", says(b"ok"))])
        reader, writer = await r.open()
        assert await reader.readexactly(2) == b"ok"
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            closing = group.create_task(r.stop_balancer())
            await asyncio.sleep(0)
            writer.write(b"last words")
            writer.write_eof()
            assert await reader.read() == b"last words"
            await closing
