"""A socket of rtnetlink: requests in, answers out. The kernel answers before `send` returns, so nothing waits."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from swarmpy.errors import Code, SwarmError
from worker.network.link.messages import Request, get_link, link_index
from worker.network.link.namespace import open_in

# All answers of one datagram lie in the socket's buffer together, and it has room for some 200.
_BATCH: Final = 64
_BUFFER_BYTES: Final = 1 << 16
_TIMEOUT_S: Final = 10.0
_DUMP_TRIES: Final = 5

_SOL_NETLINK: Final = 270
_EXTENDED_ACK: Final = 11
_ERROR: Final = 2
_DONE: Final = 3
_INTERRUPTED: Final = 0x10
_CAPPED: Final = 0x100
_ACK_ATTRIBUTES: Final = 0x200
_SENTENCE: Final = 1

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NUMBER: Final = struct.Struct("=i")
_SEQUENCE_AT: Final = 8

_CODES: Final = {
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.ENODEV: Code.NOT_FOUND,
    errno.ENOENT: Code.NOT_FOUND,
    errno.ESRCH: Code.NOT_FOUND,
    errno.EEXIST: Code.ALREADY_EXISTS,
    errno.EINVAL: Code.INVALID_ARGUMENT,
    errno.ERANGE: Code.INVALID_ARGUMENT,
    errno.ENOBUFS: Code.RESOURCE_EXHAUSTED,
    errno.ENOMEM: Code.RESOURCE_EXHAUSTED,
    errno.EOPNOTSUPP: Code.NOT_SUPPORTED,
    errno.EAFNOSUPPORT: Code.NOT_SUPPORTED,
    errno.EBUSY: Code.UNAVAILABLE,
    errno.EAGAIN: Code.UNAVAILABLE,
}


class Rtnl:
    """Links, addresses, routes and neighbours of one namespace, whichever thread asks (one at a time)."""

    def __init__(self, namespace: Path | None = None) -> None:
        """
        Args:
            namespace: where a namespace is pinned; None is the caller's own.

        Raises:
            SwarmError: NOT_FOUND or PERMISSION_DENIED, it cannot be entered.
        """
        self._where = "" if namespace is None else f" in the namespace {namespace.name}"
        self._socket = open_in(namespace, _open)
        self._sequence = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def run(self, *requests: Request) -> None:
        """Have all of them done, in this order, whatever becomes of one; then raise what the first one met.

        Raises:
            SwarmError: the kernel refused one, by another reason than those that are fine.
        """
        first: SwarmError | None = None
        for start in range(0, len(requests), _BATCH):
            for request, error in self._exchange(requests[start : start + _BATCH]):
                if error is not None and error.errno not in request.fine:
                    first = first or self._refused(request, error)
        if first is not None:
            raise first

    def dump(self, request: Request) -> list[bytes]:
        """Return all rows of a dump, each with its header; of one moment, unless the table changes all the time."""
        for _ in range(_DUMP_TRIES - 1):
            rows, whole = self._dump(request)
            if whole:
                return rows
        return self._dump(request)[0]

    def get(self, name: str) -> bytes | None:
        """Return what the kernel tells of a link, None if there is none of that name."""
        request = get_link(name)
        self._send(request.data)
        for kind, _, message in self._receive():
            if kind != _ERROR:
                return message
            error = _error(message)
            if error is not None and error.errno != errno.ENODEV:
                raise self._refused(request, error)
        return None

    def find(self, name: str) -> int:
        """Return a link's index, 0 if there is none of that name."""
        message = self.get(name)
        return 0 if message is None else link_index(message)

    def index(self, name: str) -> int:
        """Return a link's index.

        Raises:
            SwarmError: NOT_FOUND, there is no link of that name.
        """
        found = self.find(name)
        if not found:
            raise SwarmError(Code.NOT_FOUND, f"there is no link {name}{self._where}")
        return found

    def _exchange(self, requests: Sequence[Request]) -> Iterator[tuple[Request, OSError | None]]:
        pending = {self._number(data := bytearray(r.data)): (r, data) for r in requests}
        self._socket.send(b"".join(data for _, data in pending.values()))
        while pending:
            for kind, sequence, message in self._receive():
                if kind == _ERROR and sequence in pending:
                    yield pending.pop(sequence)[0], _error(message)

    def _dump(self, request: Request) -> tuple[list[bytes], bool]:
        sequence = self._send(request.data)
        rows: list[bytes] = []
        whole = True
        while True:
            for kind, number, message in self._receive():
                if number != sequence:
                    continue
                whole = whole and not _HEADER.unpack_from(message)[2] & _INTERRUPTED
                if kind == _DONE:
                    return rows, whole
                if kind == _ERROR and (error := _error(message)) is not None:
                    raise self._refused(request, error)
                rows.append(message)

    def _send(self, data: bytes) -> int:
        numbered = bytearray(data)
        sequence = self._number(numbered)
        self._socket.send(numbered)
        return sequence

    def _number(self, data: bytearray) -> int:
        sequence = next(self._sequence) & 0xFFFFFFFF
        struct.pack_into("=I", data, _SEQUENCE_AT, sequence)
        return sequence

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield kind, sequence number and whole message of each message in the next datagram."""
        data = self._socket.recv(_BUFFER_BYTES)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, sequence, data[offset : offset + length]
            offset += max(_HEADER.size, length + 3 & ~3)

    def _refused(self, request: Request, error: OSError) -> SwarmError:
        code = _CODES.get(error.errno or 0, Code.FAILED_PRECONDITION)
        hint = "; it needs root (CAP_NET_ADMIN)" if code is Code.PERMISSION_DENIED else ""
        return SwarmError(code, f"the kernel does not {request.purpose}{self._where}: {error.strerror}{hint}")


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        sock.settimeout(_TIMEOUT_S)
        sock.setsockopt(_SOL_NETLINK, _EXTENDED_ACK, 1)
        sock.bind((0, 0))
    except BaseException:
        sock.close()
        raise
    return sock


def _error(message: bytes) -> OSError | None:
    """Return the error in an acknowledgement, with the kernel's own words where it has some; None: it is done."""
    number = -_NUMBER.unpack_from(message, _HEADER.size)[0]
    if not number:
        return None
    return OSError(number, _words(message) or os.strerror(number))


def _words(message: bytes) -> str:
    flags = _HEADER.unpack_from(message)[2]
    if not flags & _ACK_ATTRIBUTES:
        return ""
    offset = _HEADER.size + _NUMBER.size
    echoed = _HEADER.size if flags & _CAPPED else _HEADER.unpack_from(message, offset)[0]
    offset += echoed + 3 & ~3
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if kind & 0x3FFF == _SENTENCE:
            return message[offset + _ATTRIBUTE.size : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max(_ATTRIBUTE.size, length + 3 & ~3)
    return ""
