"""Connections to other managers: one for each address, made when it is first asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import grpc.aio

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import control_pb2_grpc
from swarmpy.rpc.dial import manager_channel
from swarmpy.rpc.status import to_error
from swarmpy.security.identity import Identity

MOST: Final = 16


class Channels:
    """Keeps the connections that were used last; those beyond `MOST` are let go with the last of them at the end."""

    def __init__(self, identity: Callable[[], Identity]) -> None:
        self._identity = identity
        self._made_as = identity()
        self._open: OrderedDict[str, grpc.aio.Channel] = OrderedDict()
        self._stack = AsyncExitStack()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Close all connections at the end of the block."""
        async with self._stack:
            yield

    def to(self, address: str) -> grpc.aio.Channel:
        """Return the connection to the manager at `address` (host:port)."""
        identity = self._identity()
        if identity is not self._made_as:
            self._open.clear()  # those would show a certificate that ends soon when they connect again
            self._made_as = identity
        channel = self._open.get(address)
        if channel is None:
            channel = self._open[address] = manager_channel(identity, address)
            self._stack.push_async_callback(channel.close)
        self._open.move_to_end(address)
        if len(self._open) > MOST:
            self._open.popitem(last=False)
        return channel

    async def ask_consensus(self, address: str, timeout_s: float) -> pb.GetConsensusResponse:
        """Ask the manager at `address` how the managers agree."""
        stub = control_pb2_grpc.ControlStub(self.to(address))
        try:
            answer: pb.GetConsensusResponse = await stub.GetConsensus(pb.GetConsensusRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise to_error(error) from error
        return answer
