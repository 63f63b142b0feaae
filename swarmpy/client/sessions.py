"""A session at a container: what it writes comes in, what is typed goes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from swarmpy.api.v1 import containers_pb2 as pb
from swarmpy.model.base import Model
from swarmpy.rpc.status import to_error


class Ready(Model, frozen=True):
    """Everything that comes from now on is listened to; `tty` tells whether the process has a terminal."""

    tty: bool = False


class Output(Model, frozen=True):
    data: bytes
    stderr: bool = False


class Ended(Model, frozen=True):
    """`exit_code` is None for a session that was left while the process went on. `error` says why it did not start."""

    exit_code: int | None = None
    error: str = ""


SessionEvent = Ready | Output | Ended


class ContainerSession:
    """One session; `async with` ends it. What is sent after its end is dropped."""

    def __init__(self, method: Callable[[], Any], first: pb.StreamRequest) -> None:
        self._call = method()
        self._first = first
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._send(self._first)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()

    async def events(self) -> AsyncGenerator[SessionEvent]:
        """Yield what comes, `Ended` last.

        Raises:
            SwarmError: it was refused, or the connection is gone.
        """
        try:
            while (answer := await self._call.read()) is not grpc.aio.EOF:
                yield _event(answer)
        except (grpc.RpcError, asyncio.CancelledError) as error:
            if isinstance(error, grpc.RpcError):
                raise to_error(error) from error
            raise

    async def send_input(self, data: bytes) -> None:
        await self._send(pb.StreamRequest(stdin=data))

    async def close_input(self) -> None:
        await self._send(pb.StreamRequest(stdin_closed=True))

    async def resize(self, width: int, height: int) -> None:
        await self._send(pb.StreamRequest(size=pb.WindowSize(width=width, height=height)))

    async def signal(self, name: str) -> None:
        await self._send(pb.StreamRequest(signal=name))

    async def detach(self) -> None:
        """Leave; what runs goes on."""
        await self._send(pb.StreamRequest(detach=True))

    async def _send(self, request: pb.StreamRequest) -> None:
        async with self._writing:
            try:
                await self._call.write(request)
            except (grpc.RpcError, asyncio.InvalidStateError):
                return  # it has ended, which `events` tells


def _event(answer: pb.StreamResponse) -> SessionEvent:
    match answer.WhichOneof("response"):
        case "ready":
            return Ready(tty=answer.ready)
        case "stdout":
            return Output(data=answer.stdout)
        case "stderr":
            return Output(data=answer.stderr, stderr=True)
    end = answer.end
    return Ended(exit_code=end.exit_code if end.HasField("exit_code") else None, error=end.error)
