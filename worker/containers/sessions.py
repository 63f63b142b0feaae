"""A terminal, or a pipe, at a container: what comes from it, what goes to it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from swarmpy.errors import SwarmError, invalid, precondition
from swarmpy.model.container import ContainerStatus
from worker.containers.desk import Desk
from worker.containers.life import EXIT_NOT_STARTED, start_code
from worker.containers.pipes import Input
from worker.logs.format import Stream
from worker.logs.tap import Tap

EXIT_OURS = 125
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Typed:
    """Bytes for standard input; none at all is its end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Signalled:
    name: str


@dataclass(frozen=True, slots=True)
class Detached:
    """The user leaves; what runs goes on."""


Event = Typed | Resized | Signalled | Detached


@dataclass(frozen=True, slots=True)
class End:
    """`exit_code` None: detached."""

    exit_code: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Attaching:
    ref: str
    start: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    size: tuple[int, int] | None = None


class Process(Protocol):
    """What a session is at: the container's own program, or a command beside it."""

    async def resize(self, width: int, height: int) -> None: ...
    async def signal(self, number_or_name: str) -> None: ...
    async def close_stdin(self) -> None: ...


Send = Callable[[Stream, bytes], Awaitable[None]]


class Session:
    """One user at one process: `serve` passes output until its end, or until he leaves; returns whether he left."""

    def __init__(self, process: Process, stdin: Input | None, events: AsyncIterator[Event]) -> None:
        self._process = process
        self._stdin = stdin
        self._events = events
        self._left = False

    async def serve(self, tap: Tap, send: Send) -> bool:
        async with asyncio.TaskGroup() as group:
            taking = group.create_task(self._take(tap))
            while pieces := await tap.read():
                if self._left:
                    break
                for stream, data in pieces:
                    await send(stream, data)
            taking.cancel()
        return self._left

    async def _take(self, tap: Tap) -> None:
        async for event in self._events:
            try:
                match event:
                    case Typed(data=b""):
                        await self._close_stdin()
                    case Typed(data=data):
                        if self._stdin is not None:
                            await self._stdin.write(data)
                    case Resized(width=width, height=height):
                        await self._process.resize(width, height)
                    case Signalled(name=name):
                        await self._process.signal(name)
                    case Detached():
                        self._left = True
                        tap.end()
                        return
            except SwarmError as error:
                # The process may have ended in between; its end is told otherwise.
                _log.debug("event of a session", error=error.message)

    async def _close_stdin(self) -> None:
        if self._stdin is not None:
            self._stdin.close()
            await self._process.close_stdin()


class OwnProgram:
    """The container's own program."""

    def __init__(self, desk: Desk, container_id: str) -> None:
        self._desk = desk
        self._id = container_id

    async def resize(self, width: int, height: int) -> None:
        await self._desk.containers.client.tasks.resize(self._id, width, height)

    async def signal(self, number_or_name: str) -> None:
        await self._desk.kill(self._id, number_or_name)

    async def close_stdin(self) -> None:
        await self._desk.containers.client.tasks.close_stdin(self._id)


async def attach(
    desk: Desk,
    asked: Attaching,
    events: AsyncIterator[Event],
    begin: Callable[[bool], Awaitable[None]],
    send: Send,
) -> End:
    """Attach to a container, starting it first if that is asked for; return how it ended.

    Args:
        begin: called, with whether it has a terminal, once everything that comes is listened to.

    Raises:
        SwarmError: NOT_FOUND; FAILED_PRECONDITION, it does not run and is not to be started.
    """
    container = desk.get(asked.ref)
    config = container.config
    wanted = {s for s, want in ((Stream.STDOUT, asked.stdout), (Stream.STDERR, asked.stderr)) if want}
    if asked.start:
        desk.own(container.id, "start")
    elif container.state.status is ContainerStatus.PAUSED:
        raise precondition("You cannot attach to a paused container, unpause it first")
    elif container.state.status is not ContainerStatus.RUNNING:
        raise precondition("You cannot attach to a stopped container, start it first")
    if asked.stdin and not config.open_stdin and not asked.start:
        asked = Attaching(asked.ref, asked.start, False, asked.stdout, asked.stderr, asked.size)
    stdin = Input(desk.files(container.id).stdin()) if asked.stdin and config.open_stdin else None
    program = OwnProgram(desk, container.id)

    async def pass_on(stream: Stream, data: bytes) -> None:
        if stream in wanted:
            await send(stream, data)

    ended = asyncio.ensure_future(_end_of(desk, container.id, starts=asked.start))
    try:
        with desk.logs.tap(container.id) as tap:
            await begin(config.task.container.tty)
            await _bring_up(desk, asked, program)
            if asked.start and not wanted and stdin is None:
                return End()
            left = await Session(program, stdin, events).serve(tap, pass_on)
        if left:
            return End()
        return await ended if not container.service_id else _of_task(desk, asked)
    except NotStartedError as error:
        return End(error.exit_code, str(error))
    finally:
        ended.cancel()
        if stdin is not None:
            stdin.close()
            if config.stdin_once and not config.task.container.tty:
                await _quietly(program.close_stdin())


class NotStartedError(Exception):
    """A container could not be started; `exit_code` is what stands for that."""

    def __init__(self, error: SwarmError) -> None:
        super().__init__(error.message)
        code = start_code(error.message)
        self.exit_code = EXIT_OURS if code == EXIT_NOT_STARTED else code


async def _bring_up(desk: Desk, asked: Attaching, program: OwnProgram) -> None:
    """Start the container, if that is asked for, with a window of the right size."""
    container = desk.get(asked.ref)
    size = asked.size if container.config.task.container.tty else None
    if not asked.start:
        if size is not None:
            await program.resize(*size)
        return
    if size is not None:
        desk.containers.executor.window_sizes[container.id] = size
    try:
        await desk.start(container.id)
    except SwarmError as error:
        raise NotStartedError(error) from error


async def _end_of(desk: Desk, container_id: str, *, starts: bool) -> End:
    """Return how a user's container ends, in its present run or in the one that is about to start."""
    record = desk.keeper.records.get(container_id)
    if record is None:
        return End()
    goes_on = record.is_live and record.wanted
    code, _ = await desk.keeper.end_of(container_id, record.run if goes_on or not starts else record.run + 1)
    return End(code)


def _of_task(desk: Desk, asked: Attaching) -> End:
    return End(desk.get(asked.ref).state.exit_code or 0)


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except SwarmError as error:
        _log.debug("end of a session", error=error.message)


def window(width: int, height: int) -> tuple[int, int] | None:
    """Return a window's size, None if it is not known.

    Raises:
        SwarmError: INVALID_ARGUMENT, no window is that large.
    """
    if max(width, height) > 0xFFFF:
        raise invalid(f"no window has {width} columns and {height} lines")
    return (width, height) if width and height else None
