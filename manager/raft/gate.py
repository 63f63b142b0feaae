"""What the streams that other members dialled may do with this member, on the main loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager

from manager.raft import files
from manager.raft.api import Peer
from manager.raft.engine import Engine
from manager.raft.items import Arrived, Ask, Wiring
from manager.raft.node import RaftNode
from manager.raft.transport.hello import check_caller
from manager.raft.transport.inbound import Inbound
from manager.raft.types import Message, Metadata
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.security.names import NodeName


class Gate:
    """A running member as the `servicer` sees it; a `transport.servicer.Member`.

    Args:
        check: raises once the member has failed or is stopping.
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
        order: Callable[[Callable[[RaftNode], None]], Awaitable[None]],
        file_thread: Executor,
    ) -> None:
        self.metadata = metadata
        self.peers: Mapping[int, Peer] = {}
        self._engine, self._node, self._check, self._order, self._files = engine, node, check, order, file_thread
        self._is_receiving = False

    def admit(self, hello: pb.RaftHello, name: NodeName) -> None:
        """See `Member.admit`."""
        self._check()
        check_caller(hello, name, self.metadata, self.peers)

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

    def _ask(self, action: Callable[[RaftNode], None]) -> None:
        if not self._engine.is_closed:
            self._engine.inbox.post(Ask(action))

    @asynccontextmanager
    async def receiving(self, message: Message) -> AsyncIterator[files.Sink | None]:
        """See `Member.receiving`. One at a time, for they are large."""
        self._check()
        mark = message.snapshot
        assert mark is not None, "a SNAPSHOT message names its snapshot"
        needed = mark.index > self._engine.status.commit_index
        if not needed:
            yield None
        elif self._is_receiving:
            raise SwarmError(Code.UNAVAILABLE, "another snapshot is being received already: try again in a moment")
        else:
            self._is_receiving = True
            try:
                async with files.writing(self._files, lambda: self._node.snapshot_receiver(mark), self._check) as sink:
                    yield sink
            except BaseException:
                self._ask(lambda node: node.snapshot_given_up(mark))  # it may have been finished all the same
                raise
            finally:
                self._is_receiving = False
        await self._order(lambda node: node.snapshot_received(message, stored=needed))
