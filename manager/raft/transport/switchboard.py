"""Brings each message to its member: requests on the stream that this one dialled, answers on the other's."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Any, Final, Protocol

import grpc.aio
import structlog

from manager.raft import files
from manager.raft.api import Peer
from manager.raft.handoff import Handoff
from manager.raft.log.faults import LogFailedError
from manager.raft.log.snapshot_file import SnapshotReader
from manager.raft.transport import snapshots
from manager.raft.transport.hello import make_hello
from manager.raft.transport.inbound import Inbound
from manager.raft.transport.links import Link, Listener, Network
from manager.raft.transport.wire import decode_batch, encode_batch
from manager.raft.types import RESPONSES, Message, Metadata
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError

_log: Final = structlog.get_logger()
Answer = tuple[Inbound, bytes | None]  # None: it may send more
SNAPSHOT_RETRY_S: Final = 1.0


class Events(Listener, Protocol):
    """What the switchboard tells, on the Raft thread's loop."""

    def snapshot_sent(self, member_id: int, *, ok: bool) -> None:
        """A snapshot's transfer ended."""


class Switchboard:
    """The ways to the other members, as the Raft thread sees them.

    Args:
        network: how to reach them; None for a member that is to stay alone.
        answers: the lane to the main loop, which serves the streams that others dialled.
        spawn: runs a coroutine as a task of the Raft thread, until it ends or the thread does.
        file_thread: where a snapshot's file is read.
    """

    def __init__(
        self,
        me: Metadata,
        network: Network | None,
        events: Events,
        answers: Handoff[Answer],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], Callable[[], object]],
        file_thread: Executor,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._me, self._network, self._events, self._answers = me, network, events, answers
        self._spawn, self._files, self._clock, self._rng = spawn, file_thread, clock, rng
        self._links: dict[int, tuple[Peer, Link, Callable[[], object]]] = {}
        self._told: dict[int, str] = {}  # where members were when they last dialled this one
        self._rumours: dict[int, str] = {}  # where others say that they are: true or long past
        self._inbound: dict[int, Inbound] = {}

    def set_peers(self, peers: Mapping[int, Peer]) -> None:
        """Dial those who are new or have moved, and leave those who are gone."""
        if self._network is None:
            return
        for member_id, (peer, _, cancel) in list(self._links.items()):
            if peers.get(member_id) != peer:
                cancel()
                del self._links[member_id]
            if member_id not in peers:
                self._told.pop(member_id, None)
                self._rumours.pop(member_id, None)
        for member_id, peer in sorted(peers.items()):
            if member_id not in self._links and member_id != self._me.member_id:
                self._dial(member_id, peer)

    def _dial(self, member_id: int, peer: Peer) -> None:
        assert self._network is not None, "without a network there is nobody to dial"
        known = (self._rumours.get(member_id), self._told.get(member_id), peer.addr)
        addresses = dict.fromkeys(addr for addr in known if addr)
        link = Link(
            self._me,
            member_id,
            peer.node_id,
            tuple(addresses),
            self._network,
            self._events,
            self.hear_of,
            clock=self._clock,
            rng=self._rng,
        )
        self._links[member_id] = (peer, link, self._spawn(link.run()))

    def _hear(self, member_id: int, addr: str) -> None:
        """Learn from a member where it is, and dial it there unless that is being done: it is nowhere else any more."""
        self._told[member_id] = addr
        self._rumours.pop(member_id, None)
        if self._links[member_id][1].address == addr:
            self._links[member_id][1].hurry()
        else:
            self._redial(member_id, addr)

    def hear_of(self, member_id: int, addr: str) -> None:
        """Learn from another member where one is: of use only while neither reaches the other.

        It may be older than what is known, so that is tried in turn with it.
        """
        lost = member_id in self._links and member_id not in self._inbound and not self.is_connected(member_id)
        if lost and addr not in ("", self._links[member_id][1].address, self._rumours.get(member_id)):
            self._rumours[member_id] = addr
            self._redial(member_id, addr)

    def _redial(self, member_id: int, addr: str) -> None:
        peer, link, cancel = self._links[member_id]
        _log.info("raft peer moved", member=member_id, address=addr, before=link.address)
        cancel()
        self._dial(member_id, peer)

    def is_connected(self, member_id: int) -> bool:
        """Return whether the stream to a member is up."""
        return member_id in self._links and self._links[member_id][1].channel is not None

    def send(self, messages: Sequence[Message]) -> bool:
        """Send each message its way, if there is one; return whether any went out on a stream of this loop."""
        answers: dict[int, list[Message]] = {}
        sent = False
        for message in messages:
            if message.kind in RESPONSES:
                answers.setdefault(message.to, []).append(message)
            elif message.to in self._links:
                sent = self._links[message.to][1].send(message) or sent
        for member_id, batch in answers.items():
            inbound = self._inbound.get(member_id)
            if inbound is not None:
                self._answers.post((inbound, encode_batch(batch)))
        return sent

    def opened(self, inbound: Inbound) -> None:
        """Learn of a stream that a member dialled; answers go there until a request comes on another one."""
        self._inbound[inbound.member_id] = inbound
        if inbound.member_id in self._links:
            self._hear(inbound.member_id, inbound.addr or self._links[inbound.member_id][1].address)

    def closed(self, inbound: Inbound) -> None:
        """Learn that such a stream ended."""
        if self._inbound.get(inbound.member_id) is inbound:
            del self._inbound[inbound.member_id]
            if not self.is_connected(inbound.member_id):
                self._events.lost(inbound.member_id)

    def take(self, inbound: Inbound, data: bytes) -> list[Message]:
        """Return the messages of a batch that came on such a stream; none if its sender may not send them."""
        # Of two streams of one member, the dead one may be the last that was heard to open: its hello was held up.
        self._inbound[inbound.member_id] = inbound
        inbound.consumed_bytes += len(data)
        if inbound.is_waiting:
            self._answers.post((inbound, None))
        try:
            messages = decode_batch(data)
        except SwarmError as error:
            _log.warning("raft message refused", member=inbound.member_id, reason=error.message)
            return []
        return [m for m in messages if m.sender == inbound.member_id and m.to == self._me.member_id]

    def send_snapshot(self, message: Message, reader: SnapshotReader) -> None:
        """Stream a snapshot to `message.to`, and say what came of it."""
        self._spawn(self._stream(message, reader))

    async def _stream(self, message: Message, reader: SnapshotReader) -> None:
        ok = False
        try:
            async with aclosing(files.read(self._files, reader)) as chunks:
                ok = await self._try(message, reader, chunks)
            if not ok:
                await self._clock.sleep(SNAPSHOT_RETRY_S)  # it is asked for again at once otherwise
        finally:
            reader.close()
            self._events.snapshot_sent(message.to, ok=ok)

    async def _try(self, message: Message, reader: SnapshotReader, chunks: AsyncIterator[bytes]) -> bool:
        """Send a snapshot once; whether that went well. A disk that fails ends the thread."""
        assert self._network is not None, "without a network there is nobody to send to"
        progress = snapshots.Progress("sent", message.to, reader.mark, self._clock)
        try:
            link = self._links.get(message.to)
            if link is None or (channel := link[1].channel) is None:
                raise SwarmError(Code.UNAVAILABLE, "it cannot be reached")
            hello = make_hello(self._me, message.to, self._network.feature_level)
            if await snapshots.send(channel, hello, message, chunks, progress):
                progress.done()
        except LogFailedError:
            raise
        except (grpc.aio.AioRpcError, SwarmError) as error:
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else error.message
            _log.warning("raft snapshot not sent", member=message.to, index=reader.mark.index, reason=reason)
            return False
        return True
