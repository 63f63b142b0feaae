"""JSON objects, one a line, over UNIX stream sockets, with descriptors beside them.

Nothing a client does blocks or ends the process: lines, queues and the work done for one client in one turn
are bounded; what is malformed is answered by a sentence.
"""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import array
import collections
import contextlib
import json
import os
import socket
import sys

from swarmpy.daemon.loop import READ, WRITE
from swarmpy.daemon.request import Refused, Request

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarmpy.daemon.loop import Loop

LONGEST_LINE_BYTES = 1 << 20
MOST_UNSENT_BYTES = 4 << 20
LINES_A_TURN = 64
MOST_FDS = 16
_READ_BYTES = 1 << 16


def encode(body: dict[str, object]) -> bytes:
    """Return `body` as one line."""
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, object]:
    """Return the object of one line.

    Raises:
        Refused: it is not JSON, or not an object.
    """
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refused("invalid", f"the line is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused("invalid", "the line is not a JSON object")
    return body


class Connection:
    """One peer: whole lines in to `on_line`, objects out, in order. Closes itself; `on_close` hears of it."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_line: Callable[[Connection, bytes], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_line = on_line
        self._on_close = on_close
        self._read = bytearray()
        self._unsent: collections.deque[tuple[memoryview, list[int]]] = collections.deque()
        self._unsent_bytes = 0
        self._fds: list[int] = []
        self._events = READ
        self._paused = False
        self._ended = False
        self.closed = False
        sock.setblocking(False)
        loop.add(sock.fileno(), READ, self._ready)

    def send(self, body: dict[str, object], fds: Sequence[int] = ()) -> None:
        """Queue one object with copies of `fds`; a peer that leaves 4 MiB unread is dropped."""
        if self.closed:
            return
        line = encode(body)
        self._unsent.append((memoryview(line), [os.dup(fd) for fd in fds]))
        self._unsent_bytes += len(line)
        if len(self._unsent) == 1:
            self._write()
        if self._unsent_bytes > MOST_UNSENT_BYTES:
            self.close()

    def take_fd(self) -> int | None:
        """Return the oldest descriptor that came in and was not taken; the caller owns it."""
        return self._fds.pop(0) if self._fds else None

    def end(self) -> None:
        """Close as soon as what is queued is sent."""
        self._ended = True
        self._read.clear()
        if not self.closed:
            self._watch()

    def close(self) -> None:
        """Close now; what is queued is lost."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()
        self._drop_fds()
        self._on_close(self)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._write()
        if not self.closed and events & ~WRITE and not self._ended:
            self._receive()
        elif not self.closed and events & ~(READ | WRITE):
            self.close()

    def _receive(self) -> None:
        space = socket.CMSG_SPACE(MOST_FDS * 4)
        try:
            chunk, controls, _, _ = self._sock.recvmsg(_READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        for level, kind, content in controls:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._fds.extend(numbers)
        if not chunk:
            self.end()
            return
        self._read += chunk
        self._handle_lines()

    def _handle_lines(self) -> None:
        for _ in range(LINES_A_TURN):
            if self.closed:
                return
            at = self._read.find(b"\n")
            if at < 0 or at > LONGEST_LINE_BYTES:
                break
            line = bytes(self._read[:at])
            del self._read[: at + 1]
            if line.strip():
                self._on_line(self, line)
        if self.closed or self._ended:
            return
        if b"\n" in self._read[: LONGEST_LINE_BYTES + 1]:
            # The rest waits for the next turn, and so does what the peer sends meanwhile.
            self._paused = True
            self._watch()
            self._loop.soon(self._resume)
            return
        self._drop_fds()
        if len(self._read) > LONGEST_LINE_BYTES:
            sentence = f"a line is longer than {LONGEST_LINE_BYTES} bytes; the connection is closed"
            self.send({"ok": False, "code": "invalid", "error": sentence})
            self.end()

    def _resume(self) -> None:
        self._paused = False
        if not self.closed:
            self._handle_lines()
        if not self.closed:
            self._watch()

    def _write(self) -> None:
        while self._unsent:
            rest, fds = self._unsent[0]
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                count = self._sock.sendmsg([rest], beside, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:
                self.close()
                return
            _close_all(fds)
            self._unsent_bytes -= count
            if count < len(rest):
                self._unsent[0] = (rest[count:], [])
                break
            self._unsent.popleft()
        self._watch()

    def _watch(self) -> None:
        if self._ended and not self._unsent:
            self.close()
            return
        events = (0 if self._ended or self._paused else READ) | (WRITE if self._unsent else 0)
        if events != self._events:
            self._events = events
            self._loop.change(self._sock.fileno(), events)

    def _drop_fds(self) -> None:
        _close_all(self._fds)


class LineServer:
    """Listens on a UNIX socket and hands each request to `handle`, which answers at once or later.

    The caller holds the lock of the directory: a socket file that is there already is stale and replaced.
    """

    def __init__(
        self,
        loop: Loop,
        path: str,
        handle: Callable[[Request, Connection], None],
        on_close: Callable[[Connection], None] | None = None,
    ) -> None:
        self._loop = loop
        self._path = path
        self._handle = handle
        self._on_close = on_close
        self._connections: set[Connection] = set()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        # The mode is right from the first moment: chmod after bind would leave a gap.
        umask = os.umask(0o117)
        try:
            self._sock.bind(path)
        finally:
            os.umask(umask)
        self._sock.listen(128)
        loop.add(self._sock.fileno(), READ, self._accept)

    def close(self) -> None:
        """Stop listening, end every connection and remove the socket's file."""
        for connection in list(self._connections):
            connection.close()
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors or memory: the client waits in the queue until some come free.
            say(f"cannot accept on {self._path}: {error.strerror}")
            self._loop.change(self._sock.fileno(), 0)
            self._loop.later(0.1, lambda: self._loop.change(self._sock.fileno(), READ))
            return
        self._connections.add(Connection(self._loop, sock, self._line, self._closed))

    def _line(self, connection: Connection, line: bytes) -> None:
        body: dict[str, object] = {}
        try:
            body = decode(line)
            request = Request(body, connection.send, connection.take_fd)
            self._handle(request, connection)
        except Refused as refused:
            _refuse(connection, body, refused.code, refused.sentence)
        except Exception as error:  # noqa: BLE001 - the boundary of a request: a bug here must not end the node
            say(f"bug: the request {line[:200]!r} failed with {error!r}")
            _refuse(connection, body, "internal", f"the request failed inside: {error!r}; please report it")

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._on_close:
            self._on_close(connection)


def _refuse(connection: Connection, body: dict[str, object], code: str, sentence: str) -> None:
    answer: dict[str, object] = {"ok": False, "code": code, "error": sentence}
    connection.send({"seq": body["seq"], **answer} if "seq" in body else answer)


def say(sentence: str) -> None:
    """Write one line to standard error, where the journal of the machine or a person reads it."""
    with contextlib.suppress(OSError, AttributeError):  # it may have been closed before we started
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
