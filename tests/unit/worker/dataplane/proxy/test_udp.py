"""UDP ports: clients keep a backend, answers come from the port, and nothing grows without bound."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

from swarmpy.model.endpoints import Backend, HostPort, ServicePort, Transport
from tests.support.balancer import SERVICE, eventually
from tests.support.clock import FakeClock
from worker.dataplane.proxy.api import CounterRow, Limits, ListenKey
from worker.dataplane.proxy.balancer import Balancer

PORT = ServicePort(target=53, published=53, transport=Transport.UDP)
DEADLINE_S = 5.0


class Echo:
    """A backend that answers with its name and what it was sent, or keeps silent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.silent = False
        self.asked: list[tuple[bytes, object]] = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind(("127.0.0.1", 0))
        asyncio.get_running_loop().add_reader(self.sock.fileno(), self._read)

    @property
    def backend(self) -> Backend:
        port = HostPort(target=53, port=self.sock.getsockname()[1], transport=Transport.UDP)
        return Backend(self.name, SERVICE, 1, "node", "127.0.0.1", (port,))

    def _read(self) -> None:
        data, client = self.sock.recvfrom(65536)
        self.asked.append((data, client))
        if not self.silent:
            self.answer()

    def answer(self) -> None:
        data, client = self.asked[-1]
        self.sock.sendto(self.name.encode() + b" " + data, client)  # type: ignore[call-overload]  # an address

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock.fileno())
        self.sock.close()


class Rig:
    """A balancer with one UDP port, its backends, and clients."""

    def __init__(self, limits: Limits, address: str) -> None:
        self.clock = FakeClock()
        self.balancer = Balancer(
            loop=asyncio.get_running_loop(), clock=self.clock, limits=limits, on_busy_changed=lambda: None
        )
        self.address = address
        self.port = 0
        self._echoes: list[Echo] = []
        self._clients: list[socket.socket] = []
        self._closed = False

    async def listen(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.address, 0))
        self.port = sock.getsockname()[1]
        await self.balancer.listen(ListenKey(self.address, self.port, "udp"), sock, SERVICE, PORT)

    def echo(self, name: str) -> Echo:
        self._echoes.append(Echo(name))
        return self._echoes[-1]

    def ready(self, echoes: Sequence[Echo], withdrawn: Sequence[str] = ()) -> None:
        self.balancer.apply({}, {SERVICE: tuple(echo.backend for echo in echoes)}, withdrawn)

    def client(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind(("127.0.0.1", 0))
        self._clients.append(sock)
        return sock

    def send(self, client: socket.socket, text: bytes, *, to: str = "127.0.0.1") -> None:
        client.sendto(text, (to, self.port))

    async def ask(self, client: socket.socket, text: bytes, *, to: str = "127.0.0.1") -> bytes:
        """Return the answer, which must come from where the question went."""
        self.send(client, text, to=to)
        return await self.answer(client, to=to)

    async def answer(self, client: socket.socket, *, to: str = "127.0.0.1") -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            await eventually(readable, client)
        data, source = client.recvfrom(65536)
        assert source == (to, self.port)
        return data

    def row(self, task_id: str = "") -> CounterRow:
        return next(row for row in self.balancer.counters() if row.task_id == task_id)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self.balancer.close()

    async def end(self) -> None:
        await self.close()
        for echo in self._echoes:
            echo.close()
        for client in self._clients:
            client.close()


def readable(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


@contextlib.asynccontextmanager
async def rig(*, address: str = "127.0.0.1", **limits: float) -> AsyncIterator[Rig]:
    made = Rig(Limits(**{"drain_s": 0.0, "answer_s": 0.0, **limits}), address)  # type: ignore[arg-type]  # of tests
    try:
        await made.listen()
        yield made
    finally:
        await made.end()


async def test_clients_take_turns_and_each_keeps_its_backend() -> None:
    async with rig() as r:
        a, b = r.echo("a"), r.echo("b")
        r.ready([a, b])
        one, two = r.client(), r.client()
        assert await r.ask(one, b"1") == b"a 1"
        assert await r.ask(two, b"2") == b"b 2"
        assert await r.ask(one, b"3") == b"a 3"
        assert await r.ask(one, b"") == b"a "
        assert await r.ask(two, bytes(60_000)) == b"b " + bytes(60_000)
        assert (r.row().active, r.row().connections, r.row().transport) == (2, 2, "udp")
        assert r.row("a").bytes_in == 2


async def test_without_a_backend_datagrams_are_dropped_and_counted() -> None:
    async with rig() as r:
        client = r.client()
        r.send(client, b"lost")
        await eventually(lambda: r.row().refused == 1)
        r.ready([r.echo("a")])
        assert await r.ask(client, b"found") == b"a found"


async def test_a_withdrawn_backend_may_still_answer_and_gets_nothing_new() -> None:
    async with rig(answer_s=1.0) as r:
        a, b = r.echo("a"), r.echo("b")
        a.silent = True
        r.ready([a])
        asks, asked_before = r.client(), r.client()
        r.send(asks, b"slow")
        await eventually(lambda: len(a.asked) == 1)
        a.silent = False
        assert await r.ask(asked_before, b"quick") == b"a quick"
        a.asked.pop()

        r.ready([b], ["a"])
        assert r.balancer.busy() == {"a"}, "one question is open"
        assert await r.ask(asks, b"next") == b"b next"
        assert await r.ask(asked_before, b"next") == b"b next"
        a.answer()
        assert await r.answer(asks) == b"a slow"
        await r.clock.advance(1.1)
        await eventually(lambda: not r.balancer.busy())


async def test_a_backend_without_open_questions_is_not_busy() -> None:
    async with rig() as r:
        a, b = r.echo("a"), r.echo("b")
        r.ready([a])
        client = r.client()
        await r.ask(client, b"1")
        r.ready([b], ["a"])
        assert not r.balancer.busy()
        assert await r.ask(client, b"2") == b"b 2"


async def test_a_backend_at_which_nobody_listens_is_passed_over() -> None:
    async with rig() as r:
        gone, there = r.echo("gone"), r.echo("there")
        r.ready([gone, there])
        gone_backend = gone.backend
        r._echoes.remove(gone)
        gone.close()
        r.balancer.apply({}, {SERVICE: (gone_backend, there.backend)}, ())
        client = r.client()
        assert await r.ask(client, b"1") == b"there 1", "the refused datagram goes to the next one"
        assert r.row("gone").failed == 1
        assert await r.ask(r.client(), b"3") == b"there 3"


async def test_where_nobody_listens_anywhere_datagrams_are_dropped() -> None:
    async with rig() as r:
        gone = r.echo("gone")
        r.ready([gone])
        r._echoes.remove(gone)
        gone.close()
        client = r.client()
        r.send(client, b"1")
        r.send(client, b"2")
        await eventually(lambda: r.row().refused >= 1 and r.row().active == 0)


async def test_silent_clients_are_forgotten() -> None:
    async with rig(flow_idle_s=60.0) as r:
        r.ready([r.echo("a")])
        await r.ask(r.client(), b"1")
        assert r.row().active == 1

        async def forgotten() -> bool:
            await r.clock.advance(61.0)
            return r.row().active == 0

        async with asyncio.timeout(DEADLINE_S):
            while not await forgotten():  # the balancer looks round by the loop's own clock
                await eventually(lambda: True)


async def test_a_service_has_a_bounded_number_of_clients() -> None:
    async with rig(max_flows=4, reclaim_flow_s=1.0) as r:
        r.ready([r.echo("a")])
        first, second, third = (r.client() for _ in range(3))
        await r.ask(first, b"1")
        await r.ask(second, b"2")
        r.send(third, b"3")
        await eventually(lambda: r.row().refused == 1)
        await r.clock.advance(1.1)
        assert await r.ask(third, b"4") == b"a 4"
        assert (r.row().reclaimed, r.row().active) == (1, 2)


async def test_on_the_wildcard_answers_come_from_the_address_that_was_asked() -> None:
    async with rig(address="0.0.0.0") as r:
        r.ready([r.echo("a"), r.echo("b")])
        client = r.client()
        assert await r.ask(client, b"1", to="127.0.0.1") == b"a 1"
        assert await r.ask(client, b"2", to="127.0.0.5") == b"b 2"
        assert await r.ask(client, b"3", to="127.0.0.1") == b"a 3"


async def test_what_was_asked_is_answered_before_the_process_ends() -> None:
    async with rig(answer_s=5.0) as r:
        a = r.echo("a")
        a.silent = True
        r.ready([a])
        client = r.client()
        r.send(client, b"slow")
        await eventually(lambda: len(a.asked) == 1)
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(r.close())
            await asyncio.sleep(0)
            a.answer()
            assert await r.answer(client) == b"a slow"
            await r.clock.advance(5.1)
            await ending
