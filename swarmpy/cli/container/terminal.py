"""This process's terminal and standard streams at a container: raw mode, window size, signals, detach keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TextIO

from swarmpy.cli.container.keys import DetachKeys
from swarmpy.cli.session import Session
from swarmpy.errors import invalid

if TYPE_CHECKING:
    from swarmpy.client.sessions import ContainerSession, Ended

FORWARDED: Final = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT")
_READ_BYTES: Final = 64 * 1024
_AHEAD: Final = 16


def window_size() -> tuple[int, int] | None:
    """Return columns and lines of this process's terminal; None without one."""
    for descriptor in (1, 0, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(descriptor)
            return (size.columns, size.lines)
    return None


def need_terminal(tty: bool, stdin: bool) -> None:
    """
    Raises:
        SwarmError: INVALID_ARGUMENT, a terminal is asked for and standard input is none.
    """
    if tty and stdin and not os.isatty(0):
        raise invalid("the input device is not a TTY: leave -t out, or run this in a terminal")


def write_bytes(stream: TextIO, data: bytes) -> None:
    """Write bytes to a text stream as they are, where it has a byte stream below."""
    below = getattr(stream, "buffer", None)
    if below is None:
        stream.write(data.decode("utf-8", "replace"))
    else:
        stream.flush()
        below.write(data)
    stream.flush()


async def converse(session: Session, at: ContainerSession, *, stdin: bool, sig_proxy: bool, keys: bytes = b"") -> Ended:
    """Pass everything between this process and a container until the session's end, and return how it ended.

    Args:
        stdin: whether standard input is passed on; with a terminal at the other end it becomes raw.
        sig_proxy: whether signals are passed on where there is no terminal.
        keys: what leaves the session, if typed at a terminal.
    """
    try:
        return await _converse(session, at, stdin=stdin, sig_proxy=sig_proxy, keys=keys)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # one side fails first; the other only follows


async def _converse(session: Session, at: ContainerSession, *, stdin: bool, sig_proxy: bool, keys: bytes) -> Ended:
    from swarmpy.client.sessions import Ended, Output, Ready

    async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
        begun: list[asyncio.Task[None]] = []
        try:
            async for event in at.events():
                match event:
                    case Output(data=data, stderr=stderr):
                        write_bytes(session.err if stderr else session.out, data)
                    case Ready(tty=tty):
                        at_terminal = tty and stdin and os.isatty(0)
                        if at_terminal:
                            stack.enter_context(_raw(0))
                        if tty:
                            await stack.enter_async_context(_resizing(at, group))
                        if sig_proxy and not at_terminal:
                            stack.enter_context(_forwarding(at, group))
                        if stdin:
                            begun.append(group.create_task(_type(at, keys if at_terminal else b"")))
                    case Ended():
                        return event
        finally:
            for task in begun:
                task.cancel()
    return Ended(error="the connection to the node was lost")


async def _type(at: ContainerSession, keys: bytes) -> None:
    watched = DetachKeys(keys)
    async for data in _input():
        passed, leaves = watched.feed(data)
        if passed:
            await at.send_input(passed)
        if leaves:
            await at.detach()
            return
    await at.close_input()


async def _input() -> AsyncIterator[bytes]:
    """Yield what comes on standard input. A thread reads it: it may be a file, a pipe or a terminal."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue(_AHEAD)

    def read() -> None:
        while True:
            try:
                data = os.read(0, _READ_BYTES)
            except OSError:
                data = b""
            try:
                asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()
            except (RuntimeError, asyncio.CancelledError):
                return  # the session has ended
            if not data:
                return

    # Nobody waits for it: the last read ends with the process.
    threading.Thread(target=read, daemon=True, name="stdin").start()
    while data := await queue.get():
        yield data


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Have what is typed come as it is, key by key."""
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@asynccontextmanager
async def _resizing(at: ContainerSession, group: asyncio.TaskGroup) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def changed() -> None:
        size = window_size()
        if size is not None:
            group.create_task(at.resize(*size))

    loop.add_signal_handler(signal.SIGWINCH, changed)
    changed()
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


@contextmanager
def _forwarding(at: ContainerSession, group: asyncio.TaskGroup) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = {name: getattr(signal, name) for name in FORWARDED}

    def handler(name: str) -> None:
        group.create_task(at.signal(name))

    for name, number in numbers.items():
        loop.add_signal_handler(number, handler, name)
    try:
        yield
    finally:
        for number in numbers.values():
            loop.remove_signal_handler(number)
        sys.stdout.flush()
