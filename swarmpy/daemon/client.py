"""Clients of the supervisor's socket: a blocking one for commands and tests, and one for asyncio.

Both raise `SwarmError`: UNAVAILABLE when the supervisor cannot be reached or does not answer in time, else
the code that its answer stands for.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from swarmpy.errors import Code, SwarmError

Answer = dict[str, Any]

SOCKET = "supervisor.sock"
CODES: Final = {
    "invalid": Code.INVALID_ARGUMENT,
    "not_found": Code.NOT_FOUND,
    "exists": Code.ALREADY_EXISTS,
    "in_use": Code.ALREADY_EXISTS,
    "denied": Code.PERMISSION_DENIED,
    "unavailable": Code.UNAVAILABLE,
    "failed": Code.FAILED_PRECONDITION,
    "busy": Code.RESOURCE_EXHAUSTED,
}
_CHUNK_BYTES = 1 << 16
_CONTROL_BYTES = socket.CMSG_SPACE(16 * 4)


def socket_path(state_dir: Path | str) -> Path:
    """Return where the supervisor of a state directory listens."""
    return Path(state_dir) / "run" / SOCKET


def error_of(answer: Answer) -> SwarmError:
    """Return the error that a refusing answer stands for."""
    code = CODES.get(str(answer.get("code")), Code.INTERNAL)
    return SwarmError(code, str(answer.get("error") or "the answer gives no reason"))


class Exchange:
    """Requests to bytes, bytes and descriptors to answers: the protocol without its socket."""

    def __init__(self) -> None:
        self._read = bytearray()
        self._fds: deque[int] = deque()

    def request(self, op: str, fields: Answer) -> bytes:
        """Return the line of one request."""
        return json.dumps({"op": op, **fields}).encode() + b"\n"

    def receive(self, chunk: bytes, controls: list[tuple[int, int, bytes]]) -> None:
        """Take in what one recvmsg(2) returned."""
        self._read += chunk
        for level, kind, content in controls:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._fds.extend(numbers)

    def answer(self) -> Answer | None:
        """Return the next whole answer.

        Raises:
            SwarmError: the answer refuses the request.
        """
        at = self._read.find(b"\n")
        if at < 0:
            return None
        answer: Answer = json.loads(self._read[:at])
        del self._read[: at + 1]
        if not answer.get("ok"):
            raise error_of(answer)
        return answer

    def take_socket(self) -> socket.socket:
        """Return the socket that came with the last answer; the caller owns it."""
        if not self._fds:
            raise SwarmError(Code.INTERNAL, "the supervisor's answer came without its socket")
        return socket.socket(fileno=self._fds.popleft())

    def close(self) -> None:
        """Close descriptors that nobody took."""
        while self._fds:
            os.close(self._fds.popleft())


def _place(transport: str, address: str, port: int) -> Answer:
    return {"transport": transport, "address": address, "port": port}


def _rights(sock: socket.socket | None) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))] if sock else []


def _unreachable(path: Path, error: OSError | None) -> SwarmError:
    why = (
        "the connection was closed" if error is None else (error.strerror or str(error) or "no answer in time").lower()
    )
    return SwarmError(Code.UNAVAILABLE, f"cannot talk to the supervisor at {path}: {why}; does swarmpyd run?")


class SupervisorClient:
    """Blocking client; one call at a time. Use it as a context manager or `close` it."""

    def __init__(self, path: Path, *, timeout_s: float = 5.0) -> None:
        self._path = path
        self._exchange = Exchange()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(timeout_s)
        try:
            self._sock.connect(str(path))
        except OSError as error:
            self._sock.close()
            raise _unreachable(path, error) from error

    def call(self, op: str, *, given: socket.socket | None = None, **fields: object) -> Answer:
        """Send one request, with a copy of the socket `given`, and return its answer."""
        try:
            line = self._exchange.request(op, fields)
            sent = self._sock.sendmsg([line], _rights(given))
            self._sock.sendall(line[sent:])
            while (answer := self._exchange.answer()) is None:
                chunk, controls, _, _ = self._sock.recvmsg(_CHUNK_BYTES, _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC)
                if not chunk:
                    raise _unreachable(self._path, None)
                self._exchange.receive(chunk, controls)
        except OSError as error:
            # A late answer would be taken for the next call's.
            self.close()
            raise _unreachable(self._path, error) from error
        return answer

    def status(self) -> Answer:
        """Return the processes, `node.json` and the boot id."""
        return self.call("status")

    def bind(self, transport: str, address: str, port: int) -> socket.socket:
        """Return the node's bound socket (TCP: listening) of that place; the caller owns this copy."""
        self.call("bind", **_place(transport, address, port))
        return self._exchange.take_socket()

    def unbind(self, transport: str, address: str, port: int) -> None:
        """Have the supervisor close its copy."""
        self.call("unbind", **_place(transport, address, port))

    def give(self, transport: str, address: str, port: int, sock: socket.socket) -> None:
        """Hand a bound socket back to a supervisor that was restarted; `sock` stays the caller's too."""
        self.call("give", given=sock, **_place(transport, address, port))

    def set_role(self, *, manager: bool) -> None:
        """Make the node a manager, or not one."""
        self.call("set_role", manager=manager)

    def restart(self, process: str) -> None:
        """Restart one of taskhost, dataplane, worker, manager."""
        self.call("restart", process=process)

    def shutdown(self, *, tasks: bool) -> None:
        """Stop the node; returns when the supervisor has begun to."""
        self.call("shutdown", tasks=tasks)

    def exits(self, pids: list[int] | None = None) -> list[Answer]:
        """Return exits of orphaned tasks: pid, start_time, status (wait status), at (wall seconds)."""
        exits: list[Answer] = self.call("exits", pids=pids)["exits"]
        return exits

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncSupervisorClient:
    """Client for asyncio and uvloop. Calls queue up; each must be answered within `timeout_s` seconds.

    It connects at its first call, and again at the first call after a failure: the supervisor may restart.
    """

    def __init__(self, path: Path, *, timeout_s: float = 5.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._sock: socket.socket | None = None
        self._exchange = Exchange()

    async def call(self, op: str, *, given: socket.socket | None = None, **fields: object) -> Answer:
        """Send one request, with a copy of the socket `given`, and return its answer."""
        async with self._turn:
            return await self._call(op, given, fields)

    async def bind(self, transport: str, address: str, port: int) -> socket.socket:
        """Return the node's bound, non-blocking socket (TCP: listening) of that place; the caller owns this copy."""
        async with self._turn:
            await self._call("bind", None, _place(transport, address, port))
            sock = self._exchange.take_socket()
            sock.setblocking(False)
            return sock

    async def unbind(self, transport: str, address: str, port: int) -> None:
        """Have the supervisor close its copy."""
        await self.call("unbind", **_place(transport, address, port))

    async def give(self, transport: str, address: str, port: int, sock: socket.socket) -> None:
        """Hand a bound socket back to a supervisor that was restarted; `sock` stays the caller's too."""
        await self.call("give", given=sock, **_place(transport, address, port))

    async def status(self) -> Answer:
        """Return the processes, `node.json` and the boot id."""
        return await self.call("status")

    async def set_role(self, *, manager: bool) -> None:
        """Make the node a manager, or not one."""
        await self.call("set_role", manager=manager)

    async def exits(self, pids: list[int] | None = None) -> list[Answer]:
        """Return exits of orphaned tasks: pid, start_time, status (wait status), at (wall seconds)."""
        exits: list[Answer] = (await self.call("exits", pids=pids))["exits"]
        return exits

    def close(self) -> None:
        """Close the connection."""
        if self._sock:
            self._sock.close()
            self._sock = None
        self._exchange.close()
        self._exchange = Exchange()

    async def _call(self, op: str, given: socket.socket | None, fields: Answer) -> Answer:
        whole = False
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._sock is None:
                    self._sock = await self._connect()
                await self._send(self._sock, self._exchange.request(op, fields), given)
                answer = await self._receive(self._sock)
            whole = True
        except SwarmError as error:
            whole = error.code is not Code.UNAVAILABLE
            raise
        except OSError as error:
            raise _unreachable(self._path, error) from error
        finally:
            # A late answer, after a timeout or a cancellation, would be taken for the next call's.
            if not whole:
                self.close()
        return answer

    async def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, str(self._path))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _send(self, sock: socket.socket, line: bytes, given: socket.socket | None) -> None:
        rights = _rights(given)
        while line:
            try:
                line = line[sock.sendmsg([line], rights) :]
                rights = []
            except BlockingIOError:
                await _ready(sock, write=True)

    async def _receive(self, sock: socket.socket) -> Answer:
        while (answer := self._exchange.answer()) is None:
            try:
                chunk, controls, _, _ = sock.recvmsg(_CHUNK_BYTES, _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await _ready(sock, write=False)
                continue
            if not chunk:
                raise _unreachable(self._path, None)
            self._exchange.receive(chunk, controls)
        return answer


async def _ready(sock: socket.socket, *, write: bool) -> None:
    """Wait until `sock` can be written or read; asyncio has no recvmsg of its own."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        with contextlib.suppress(asyncio.InvalidStateError):
            ready.set_result(None)

    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(sock.fileno(), wake)
    try:
        await ready
    finally:
        remove(sock.fileno())
