"""One end by itself: what a reset looks like, depending on which system call meets it first."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from worker.dataplane.proxy.end import End
from worker.dataplane.proxy.reactor import READABLE, WRITABLE, Reactor


class Recorder:
    """An owner that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, End]] = []

    def on_end_of_stream(self, end: End) -> None:
        self.told.append(("ended", end))

    def on_flushed(self, end: End) -> None:
        self.told.append(("flushed", end))

    def on_broken(self, end: End) -> None:
        self.told.append(("broken", end))

    def crash(self) -> None:
        self.told.clear()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.setblocking(False)
    return far, near


class Ends:
    """Two ends joined, and the far sides of their sockets."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.owner = Recorder()
        self.far_a, near_a = tcp_pair()
        self.far_b, near_b = tcp_pair()
        self.a, self.b = End(reactor, near_a, self.owner), End(reactor, near_b, self.owner)
        self.a.peer, self.b.peer = self.b, self.a
        self.a.blocked = self.b.blocked = False

    def close(self) -> None:
        for far in (self.far_a, self.far_b):
            far.close()
        self.a.close()
        self.b.close()
        self.reactor.shut_down()


@pytest.fixture
def ends() -> Iterator[Ends]:
    loop = asyncio.new_event_loop()
    made = Ends(Reactor(loop, 1 << 16))
    yield made
    made.close()
    loop.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_a_reset_met_by_a_write_is_not_an_orderly_end(ends: Ends) -> None:
    ends.far_a.sendall(b"data")
    reset(ends.far_b)
    ends.a.pump()  # the write consumes the error; reading `b` now returns nothing, as at an end
    assert ends.owner.told == [("broken", ends.b)]


def test_a_reset_met_by_a_read_is_not_an_orderly_end(ends: Ends) -> None:
    reset(ends.far_b)
    ends.b.pump()
    assert ends.owner.told == [("broken", ends.b)]


def test_what_was_said_before_the_reset_is_delivered(ends: Ends) -> None:
    ends.far_b.sendall(b"early answer")
    ends.far_a.sendall(b"data")
    reset(ends.far_b)
    ends.a.pump()
    assert ends.far_a.recv(100) == b"early answer"
    assert ends.owner.told == [("broken", ends.b)]


def test_an_orderly_end_is_one(ends: Ends) -> None:
    ends.far_a.sendall(b"last")
    ends.far_a.shutdown(socket.SHUT_WR)
    ends.a.hung_up = True
    ends.a.pump()
    assert ends.far_b.recv(100) == b"last"
    assert ends.owner.told == [("ended", ends.a)]


def test_plain_readiness_moves_what_there_is_and_nothing_is_no_harm(ends: Ends) -> None:
    ends.a.on_events(READABLE | WRITABLE)
    ends.far_a.sendall(b"data")
    ends.a.on_events(READABLE | WRITABLE)
    assert ends.far_b.recv(100) == b"data"
    assert (ends.a.received_bytes, ends.owner.told) == (4, [])


@pytest.mark.parametrize("way", ["read", "write"])
def test_plain_readiness_may_still_meet_a_reset(ends: Ends, way: str) -> None:
    if way == "write":
        ends.far_a.sendall(b"data")
    reset(ends.far_b if way == "write" else ends.far_a)
    ends.a.on_events(READABLE | WRITABLE)
    assert ends.owner.told == [("broken", ends.b if way == "write" else ends.a)]


def test_plain_readiness_may_already_be_the_end(ends: Ends) -> None:
    ends.far_a.shutdown(socket.SHUT_WR)
    ends.a.on_events(READABLE | WRITABLE)
    assert ends.owner.told == [("ended", ends.a)]


def test_what_a_full_peer_does_not_take_is_kept_and_sent_once_it_reads(ends: Ends) -> None:
    sent = received = 0
    ends.far_a.setblocking(False)
    while not ends.a.blocked:
        with contextlib.suppress(BlockingIOError):
            sent += ends.far_a.send(bytes(1 << 16))
        ends.a.on_events(READABLE | WRITABLE)
    assert 0 < len(ends.b.pending) <= 1 << 16
    assert not ends.b.write(b"behind it")
    ends.b.flush()  # nothing is taken yet
    ends.far_b.setblocking(False)
    while ends.owner.told != [("flushed", ends.b)]:
        with contextlib.suppress(BlockingIOError):
            received += len(ends.far_b.recv(1 << 20))
        ends.b.on_events(READABLE | WRITABLE)
    with contextlib.suppress(BlockingIOError):
        while data := ends.far_b.recv(1 << 20):
            received += len(data)
            last = data
    assert received == ends.a.received_bytes + len(b"behind it")
    assert received <= sent + len(b"behind it")
    assert last.endswith(b"behind it")


def test_a_reset_met_while_sending_what_is_pending_is_told(ends: Ends) -> None:
    ends.b.pending = b"kept"
    ends.a.blocked = True
    reset(ends.far_b)
    ends.b.flush()
    assert ends.owner.told == [("broken", ends.b)]
    assert ends.b.pending == b""


def test_what_arrives_within_a_turn_is_served_in_it(ends: Ends) -> None:
    ends.reactor.add(ends.a.sock, ends.a)
    ends.reactor.add(ends.b.sock, ends.b)
    answered = []

    class Answering:
        def on_events(self, events: int) -> None:
            if events & READABLE:
                answered.append(near.recv(10))
                ends.far_a.sendall(b"next")  # its edge comes while this turn lasts

        def crash(self) -> None:
            raise AssertionError

    far, near = tcp_pair()
    ends.reactor.add(near, Answering())
    far.sendall(b"x")
    ends.reactor._ready()
    assert (answered, ends.far_b.recv(10)) == ([b"x"], b"next")
    ends.reactor.close(near)
    far.close()


def test_a_crash_in_a_target_cuts_it_and_the_others_are_served(ends: Ends) -> None:
    class Faulty:
        crashed = False

        def on_events(self, events: int) -> None:
            raise RuntimeError("a fault of our own")

        def crash(self) -> None:
            self.crashed = True

    faulty = Faulty()
    far, near = tcp_pair()
    ends.reactor.add(near, faulty)
    ends.reactor.add(ends.a.sock, ends.a)
    far.sendall(b"x")
    ends.far_a.sendall(b"data")
    ends.reactor._ready()
    assert faulty.crashed
    assert ends.far_b.recv(100) == b"data"
    ends.reactor.close(near)
    far.close()
