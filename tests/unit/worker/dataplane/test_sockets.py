from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.clock import FakeClock, settle
from worker.dataplane.sockets import WATCH_S, DirectSockets, Port, SupervisorSockets, bind_socket


class FakeSupervisor:
    """Binds, and keeps copies until it dies."""

    def __init__(self) -> None:
        self.pid = 1
        self.away = False
        self.held: dict[tuple[str, str, int], socket.socket] = {}
        self.closed = False

    async def bind(self, transport: str, address: str, port: int) -> socket.socket:
        key = (transport, address, port)
        if key not in self.held:
            self.held[key] = bind_socket(Port("tcp", "127.0.0.1", 0))
        return self.held[key].dup()

    async def unbind(self, transport: str, address: str, port: int) -> None:
        self.held.pop((transport, address, port)).close()

    async def give(self, transport: str, address: str, port: int, sock: socket.socket) -> None:
        key = (transport, address, port)
        if key not in self.held:
            self.held[key] = sock.dup()

    async def status(self) -> dict[str, Any]:
        if self.away:
            raise SwarmError(Code.UNAVAILABLE, "cannot talk to the supervisor: a test says so")
        return {"ok": True, "pid": self.pid}

    def die(self) -> None:
        self.pid += 1
        while self.held:
            self.held.popitem()[1].close()

    def close(self) -> None:
        self.closed = True


async def test_a_new_supervisor_gets_the_sockets_that_died_with_the_old_one() -> None:
    clock, supervisor = FakeClock(), FakeSupervisor()
    sockets = SupervisorSockets(supervisor, clock=clock)
    port = Port("tcp", "127.0.0.2", 8080)
    with await sockets.bind(port) as mine:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(sockets.watch())
            await settle()
            supervisor.away = True
            supervisor.die()
            await clock.advance(3 * WATCH_S)
            assert supervisor.held == {}
            supervisor.away = False
            await clock.advance(2 * WATCH_S)
            assert supervisor.held[port].getsockname() == mine.getsockname()
            watching.cancel()
        supervisor.die()
        await sockets.keep()
        assert list(supervisor.held) == [port], "at the end of a process it is looked at once more"
        await sockets.unbind(port)
        assert supervisor.held == {}
    sockets.close()
    assert supervisor.closed


async def test_the_same_port_is_the_same_socket_until_it_is_given_up() -> None:
    sockets = DirectSockets()
    port = Port("tcp", "127.0.0.1", 0)
    with await sockets.bind(port) as first, await sockets.bind(port) as second:
        assert first.getsockname() == second.getsockname()
        assert first.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        taken = Port("tcp", "127.0.0.1", first.getsockname()[1])
        with pytest.raises(SwarmError, match="another process holds it") as caught:
            await DirectSockets().bind(taken)
        assert caught.value.code is Code.ALREADY_EXISTS
    await sockets.unbind(port)
    await sockets.unbind(port)
    with bind_socket(taken):
        sockets.close()


def test_an_address_of_another_machine_is_said_to_be_one() -> None:
    with pytest.raises(SwarmError, match="no interface of this machine") as caught:
        bind_socket(Port("udp", "192.0.2.1", 5354))
    assert caught.value.code is Code.UNAVAILABLE
