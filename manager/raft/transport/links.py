"""The streams that this member dials, one to each other member; all of it on the Raft thread's loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import grpc.aio
import structlog

from manager.raft.transport.hello import check_hello, make_hello, read_hello
from manager.raft.transport.outbox import Outbox
from manager.raft.transport.wire import decode_batch, encode_batch
from manager.raft.types import Message, Metadata
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.cancelling import end_if_cancelled
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.rpc.dial import peer_channel
from swarmpy.security.identity import Identity

STREAM: Final = "/swarmpy.api.v1.Raft/Stream"
_log: Final = structlog.get_logger()
_Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Network:
    """How a member reaches the others.

    Args:
        identity: returns this node's present key and certificate.
        feature_level: what this member's release can do; the others are told.
        addr: `host:port` at which this member is reached; the others are told.
        hello_s: time within which a dialled member must have answered.
        retry_s: pause after a first failure to reach a member; it doubles from there.
        retry_most_s: longest pause.
    """

    identity: Callable[[], Identity]
    feature_level: int = 1
    addr: str = ""
    hello_s: float = 3.0
    retry_s: float = 0.05
    retry_most_s: float = 1.0


class Listener(Protocol):
    """What happens on the links, told on the Raft thread's loop."""

    def arrived(self, messages: Sequence[Message]) -> None:
        """Messages came: answers to what was sent."""

    def dropped(self, member_id: int) -> None:
        """Messages to a member were lost."""

    def found(self, member_id: int) -> None:
        """The stream to a member is up."""

    def lost(self, member_id: int) -> None:
        """The stream to a member ended."""


class Link:
    """The way to one member: dialled again whenever it breaks, until `run` is cancelled.

    Args:
        addresses: where the member may be, tried in turn; TLS sees to it that it is found at no other node's.
        heard: told what the member says of where others are, as (member, `host:port`).
    """

    def __init__(
        self,
        me: Metadata,
        member_id: int,
        node_id: str,
        addresses: Sequence[str],
        network: Network,
        listener: Listener,
        heard: Callable[[int, str], None],
        *,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._me, self._member_id, self._node_id = me, member_id, node_id
        self._addresses, self._turn, self._heard = tuple(addresses), 0, heard
        self._network, self._listener, self._clock, self._rng = network, listener, clock, rng
        self._outbox = Outbox()
        self._failures = 0
        self._pausing: asyncio.Timeout | None = None
        self.channel: grpc.aio.Channel | None = None  # while the stream is up
        self.hello: pb.RaftHello | None = None  # what the other said last

    @property
    def address(self) -> str:
        """Where the member is dialled now."""
        return self._addresses[self._turn % len(self._addresses)]

    def send(self, message: Message) -> bool:
        """Send a message, if the stream is up; whether it is on its way."""
        if self.channel is None:
            return False
        if not self._outbox.put(message):
            self._listener.dropped(self._member_id)
        return True

    async def run(self) -> None:
        """Keep the stream up; never returns."""
        while True:
            try:
                await self._serve()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, SwarmError, TimeoutError) as error:
                self._note(error)
            finally:
                self._ended()
            end_if_cancelled()
            pause_s = min(self._network.retry_s * 2**self._failures, self._network.retry_most_s)
            self._failures = min(self._failures + 1, 16)
            await self._pause(pause_s * self._rng.uniform(0.5, 1.0))

    def hurry(self) -> None:
        """Dial at once, if the next attempt is waited for: the member was just heard of."""
        if self._pausing is not None and not self._pausing.expired():
            self._pausing.reschedule(0.0)

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(None) as self._pausing:
                await self._clock.sleep(pause_s)
        except TimeoutError:
            self._failures = 0
        finally:
            self._pausing = None

    async def _serve(self) -> None:
        channel = peer_channel(self._network.identity(), self._node_id, self.address)
        try:
            call: _Call = channel.stream_stream(STREAM)()
            try:
                self.hello = await self._greet(call)
                self.channel = channel
                self._failures = 0
                self._listener.found(self._member_id)
                for place in self.hello.places:
                    self._heard(place.member_id, place.addr)
                await self._exchange(call)
            finally:
                call.cancel()
        finally:
            self.channel = None
            await channel.close()

    async def _greet(self, call: _Call) -> pb.RaftHello:
        mine = make_hello(self._me, self._member_id, self._network.feature_level, addr=self._network.addr)
        async with asyncio.timeout(self._network.hello_s):
            await call.write(pb.RaftBatch(hello=mine).SerializeToString())
            first = _present(await call.read())
        hello = read_hello(first)
        check_hello(hello, self._me)
        _log.info("raft peer connected", member=self._member_id, address=self.address, version=hello.version)
        return hello

    async def _exchange(self, call: _Call) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._send(call))
                try:
                    await self._read(call)
                finally:
                    sender.cancel()
        except ExceptionGroup as failures:  # one end fails first; the other only follows
            raise failures.exceptions[0] from None

    async def _send(self, call: _Call) -> None:
        while True:
            await call.write(encode_batch(await self._outbox.take()))

    async def _read(self, call: _Call) -> None:
        while True:
            self._listener.arrived(decode_batch(_present(await call.read())))

    def _ended(self) -> None:
        self._outbox.clear()
        if self.hello is None:
            self._turn += 1
        else:
            self.hello = None
            self._listener.lost(self._member_id)

    def _note(self, error: Exception) -> None:
        """Say once an outage why a member cannot be reached."""
        reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error) or "no answer in time"
        if self._failures == 0:
            _log.warning("raft peer lost", member=self._member_id, address=self.address, reason=reason)


def _present(data: object) -> bytes:
    if not isinstance(data, bytes):
        raise SwarmError(Code.UNAVAILABLE, "the other manager ended the stream: it is stopping")
    return data
