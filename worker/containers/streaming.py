"""The streams of the Containers service: sessions at a container, its log, its figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from swarmpy.api.v1 import containers_pb2 as pb
from swarmpy.errors import SwarmError, invalid
from swarmpy.model.container import Container
from worker.containers.commands import Executing, execute
from worker.containers.desk import Desk
from worker.containers.figures import figures, look
from worker.containers.logs import read_log
from worker.containers.sessions import (
    Attaching,
    Detached,
    End,
    Event,
    Resized,
    Signalled,
    Typed,
    attach,
    window,
)
from worker.logs.format import Stream

FIRST_LOOK_S: Final = 0.5

Write = Callable[[pb.StreamResponse], Awaitable[None]]


async def stream(desk: Desk, requests: AsyncIterator[pb.StreamRequest], write: Write) -> None:
    """Serve one session: the first request says of what kind."""
    first = await anext(requests, None)
    kind = first.WhichOneof("request") if first is not None else None

    async def begin(tty: bool) -> None:
        await write(pb.StreamResponse(ready=tty))

    async def send(source: Stream, data: bytes) -> None:
        answer = pb.StreamResponse(stdout=data) if source is Stream.STDOUT else pb.StreamResponse(stderr=data)
        await write(answer)

    if first is not None and kind == "attach":
        end = await attach(desk, _attaching(first.attach), _events(requests), begin, send)
    elif first is not None and kind == "exec":
        end = await execute(desk, _executing(first.exec), _events(requests), begin, send)
    else:
        raise invalid("the call begins without saying what to attach to")
    await write(pb.StreamResponse(end=_end(end)))


def _end(end: End) -> pb.StreamEnd:
    message = pb.StreamEnd(error=end.error)
    if end.exit_code is not None:
        message.exit_code = end.exit_code
    return message


def _attaching(begin: pb.AttachBegin) -> Attaching:
    return Attaching(
        begin.ref,
        start=begin.start,
        stdin=begin.stdin,
        stdout=begin.stdout,
        stderr=begin.stderr,
        size=window(begin.size.width, begin.size.height),
    )


def _executing(begin: pb.ExecBegin) -> Executing:
    return Executing(
        begin.ref,
        tuple(begin.command),
        env=tuple(begin.env),
        workdir=begin.workdir,
        user=begin.user,
        tty=begin.tty,
        stdin=begin.stdin,
        detach=begin.detach,
        size=window(begin.size.width, begin.size.height),
    )


async def _events(requests: AsyncIterator[pb.StreamRequest]) -> AsyncIterator[Event]:
    async for request in requests:
        match request.WhichOneof("request"):
            case "stdin":
                if request.stdin:
                    yield Typed(request.stdin)
            case "stdin_closed":
                yield Typed(b"")
            case "size":
                size = window(request.size.width, request.size.height)
                if size is not None:
                    yield Resized(*size)
            case "signal":
                yield Signalled(request.signal)
            case "detach":
                yield Detached()


async def logs(desk: Desk, request: pb.ContainerLogsRequest) -> AsyncGenerator[pb.ContainerLogsResponse]:
    """Yield a container's log."""
    container = desk.get(request.ref)
    reading = read_log(
        desk.logs,
        container.id,
        desk.is_live,
        follow=request.follow,
        tail=request.tail if request.HasField("tail") else None,
        since=request.since,
        until=request.until,
    )
    async with aclosing(reading) as parts:
        async for part in parts:
            rows = [
                pb.ContainerLogLine(at=line.at, stderr=line.stream is Stream.STDERR, data=line.data) for line in part
            ]
            yield pb.ContainerLogsResponse(lines=rows)


async def stats(
    desk: Desk, request: pb.ContainerStatsRequest, memory_bytes: int
) -> AsyncGenerator[pb.ContainerStatsResponse]:
    """Yield figures of containers, once or every so many seconds."""

    def chosen() -> list[Container]:
        return [desk.get(ref) for ref in request.refs] if request.refs else desk.list()

    before = await look(desk, chosen(), desk.clock)
    wait_s = FIRST_LOOK_S
    while True:
        await asyncio.sleep(wait_s)
        try:
            containers = chosen()
        except SwarmError:
            return  # what was looked at has been removed
        now = await look(desk, containers, desk.clock)
        rows = [figures(one, before, now, memory_bytes) for one in containers]
        yield pb.ContainerStatsResponse(
            figures=[pb.ContainerFigures(**{name: getattr(row, name) for name in row.__slots__}) for row in rows]
        )
        if not request.interval_s:
            return
        before, wait_s = now, max(FIRST_LOOK_S, request.interval_s)
