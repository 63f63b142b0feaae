"""What the streams that other members dialled may do with this member, on the main loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager

from manager.raft import files
from manager.raft.api import Peer
from manager.raft.engine import Engine
from manager.raft.items import Arrived, Ask, Wiring
from manager.raft.log.faults import LogFailedError
from manager.raft.node import RaftNode
from manager.raft.transport.hello import check_caller
from manager.raft.transport.inbound import Inbound
from manager.raft.types import Message, Metadata, SnapshotMark
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.security.names import NodeName


class Gate:
    """A running member as the `servicer` sees it; a `transport.servicer.Member`.

    Args:
        check: raises once the member has failed or is stopping.
        fail: lets the member fail: its disk did.
        order: does something on the Raft thread.
        file_thread: where snapshots' files are written.
    """

    def __init__(
        self,
        metadata: Metadata,
        engine: Engine,
        node: RaftNode,
        *,
        check: Callable[[], None],
        fail: Callable[[SwarmError], None],
        order: Callable[[Callable[[RaftNode], None]], Awaitable[None]],
        file_thread: Executor,
    ) -> None:
        self.metadata = metadata
        self.peers: Mapping[int, Peer] = {}
        self._heard: dict[int, str] = {}  # where members said they are
        self._engine, self._node, self._files = engine, node, file_thread
        self._check, self._fail, self._order = check, fail, order
        self._receiving = asyncio.Lock()
        self._until: asyncio.Timeout | None = None  # while something is received

    def admit(self, hello: pb.RaftHello, name: NodeName) -> None:
        """See `Member.admit`."""
        self._check()
        check_caller(hello, name, self.metadata, self.peers)
        if hello.addr:  # now, so that whoever says hello while this one is answered is told of it
            self._heard[hello.member_id] = hello.addr

    def places(self) -> Mapping[int, str]:
        """See `Member.places`. What a member says of itself is newer than what is said of it."""
        return {member_id: self._heard.get(member_id, peer.addr) for member_id, peer in self.peers.items()}

    def opened(self, inbound: Inbound) -> None:
        """See `Member.opened`."""
        self._check()
        self._engine.inbox.post(Wiring(lambda streams: streams.opened(inbound)))

    def arrived(self, inbound: Inbound, data: bytes) -> None:
        """See `Member.arrived`."""
        self._check()
        self._engine.inbox.post(Arrived(inbound, data))

    def closed(self, inbound: Inbound) -> None:
        """See `Member.closed`."""
        if not self._engine.is_closed:
            self._engine.inbox.post(Wiring(lambda streams: streams.closed(inbound)))

    async def close(self) -> None:
        """Give up what is being received, and wait until its file is let go of; `check` raises by now."""
        if self._until is not None and not self._until.expired():
            self._until.reschedule(0.0)
        async with self._receiving:
            pass

    @asynccontextmanager
    async def receiving(self, message: Message) -> AsyncIterator[files.Sink | None]:
        """See `Member.receiving`. One at a time, for they are large."""
        self._check()
        mark = message.snapshot
        assert mark is not None, "a SNAPSHOT message names its snapshot"
        needed = mark.index > self._engine.status.commit_index
        if not needed:
            yield None
        elif self._receiving.locked():
            raise SwarmError(Code.UNAVAILABLE, "another snapshot is being received already: try again in a moment")
        else:
            async with self._receiving, self._storing(mark) as sink:
                yield sink
        await self._order(lambda node: node.snapshot_received(message, stored=needed))

    @asynccontextmanager
    async def _storing(self, mark: SnapshotMark) -> AsyncIterator[files.Sink]:
        """Begin the file of a snapshot; until it is stored, `close` ends it."""
        try:
            async with (
                asyncio.timeout(None) as self._until,
                files.writing(self._files, lambda: self._node.snapshot_receiver(mark), self._check) as sink,
            ):
                yield sink
        except BaseException as error:
            if not self._engine.is_closed:  # it may have been finished all the same
                self._engine.inbox.post(Ask(lambda node: node.snapshot_given_up(mark)))
            if isinstance(error, LogFailedError):
                self._fail(error)
            if isinstance(error, TimeoutError):
                self._check()
            raise
        finally:
            self._until = None
