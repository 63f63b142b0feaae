"""The socket to netfilter: sends a batch and waits for what the kernel says, or asks for a list."""

from __future__ import annotations

import errno
import os
import socket
import sys
from types import TracebackType
from typing import Final, Protocol, Self

from swarmpy.errors import Code, SwarmError
from worker.network.nft.attributes import (
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTERRUPTED,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Header,
    message,
    messages,
    parse,
    string,
)
from worker.network.nft.batch import Batch

NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
BUFFER_BYTES: Final = 8 << 20
READ_BYTES: Final = 1 << 18
ANSWER_S: Final = 10
TRIES: Final = 20
MAX_SEQUENCE: Final = 1 << 31
EXPLANATION: Final = 1  # the attribute of an acknowledgement that holds the kernel's words

_CODES: Final = {
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.ENOENT: Code.NOT_FOUND,
    errno.EEXIST: Code.ALREADY_EXISTS,
    errno.EBUSY: Code.FAILED_PRECONDITION,
    errno.ENOMEM: Code.RESOURCE_EXHAUSTED,
    errno.ENFILE: Code.RESOURCE_EXHAUSTED,
    errno.EMSGSIZE: Code.RESOURCE_EXHAUSTED,
    errno.ENOBUFS: Code.UNAVAILABLE,
    errno.EAGAIN: Code.UNAVAILABLE,
    errno.EINTR: Code.UNAVAILABLE,
    errno.EOPNOTSUPP: Code.NOT_SUPPORTED,
    errno.EPROTONOSUPPORT: Code.NOT_SUPPORTED,
}


class Netfilter(Protocol):
    """The netfilter of one network namespace."""

    def commit(self, batch: Batch) -> None:
        """Apply a batch, whole or not at all; an empty one does nothing.

        Raises:
            SwarmError: the kernel refuses; the sentence names the first request that it refused, and nothing changed.
        """

    def ask(self, kind: int, family: int, payload: bytes, what: str, *, flags: int = 0) -> list[bytes]:
        """Send one request and return the answers' attributes; with `NLM_F_DUMP` in `flags` all of a list.

        A list that changed while it was read is read again.

        Raises:
            SwarmError: the kernel refuses, or the list changes without end (UNAVAILABLE).
        """


class NetfilterSocket:
    """A netlink socket to the netfilter of the network namespace that it was opened in, wherever it is used.

    Not for several threads at once. Calls take microseconds to a few milliseconds: the kernel does what it is asked
    before `send` returns.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sequence = 0

    @classmethod
    def open(cls) -> Self:
        """Open one in this thread's network namespace.

        Raises:
            SwarmError: NOT_SUPPORTED or PERMISSION_DENIED, the kernel has no netfilter or does not let us.
        """
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        except OSError as error:
            raise failure(error.errno or 0, "open a socket to netfilter") from error
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            sock.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            sock.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            sock.settimeout(ANSWER_S)
            sock.bind((0, 0))
        except OSError as error:
            sock.close()
            raise failure(error.errno or 0, "set up a socket to netfilter") from error
        return cls(sock)

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def commit(self, batch: Batch) -> None:
        if not batch:
            return
        first = self._numbers(len(batch.requests) + 2)
        last = first + len(batch.requests)
        self._send(batch.encode(first), batch.requests[0].what)
        failures: dict[int, tuple[int, str]] = {}
        answered = False
        while not answered:
            for header, body in self._read(batch.requests[-1].what):
                if header.type == NLMSG_ERROR and first <= header.sequence <= last:
                    number, why = verdict(header, body)
                    if number:
                        failures[header.sequence] = (number, why)
                    # The begin is only answered where the whole batch fails.
                    answered = answered or header.sequence in (first, last)
        if failures:
            sequence = min(failures)
            raise failure(
                failures[sequence][0], batch.requests[max(0, sequence - first - 1)].what, failures[sequence][1]
            )

    def ask(self, kind: int, family: int, payload: bytes, what: str, *, flags: int = 0) -> list[bytes]:
        for _ in range(TRIES):
            found = self._ask(kind, family, payload, what, flags)
            if found is not None:
                return found
        raise SwarmError(Code.UNAVAILABLE, f"cannot {what}: it changes faster than it can be read; try again later")

    def _ask(self, kind: int, family: int, payload: bytes, what: str, flags: int) -> list[bytes] | None:
        number = self._numbers(1)
        flags |= NLM_F_REQUEST | (0 if flags & NLM_F_DUMP else NLM_F_ACK)
        self._send(message(Header(kind, flags, number), family, payload), what)
        found: list[bytes] = []
        interrupted = False
        while True:
            for header, body in self._read(what):
                if header.sequence != number:
                    continue  # of an earlier call that gave up
                interrupted = interrupted or bool(header.flags & NLM_F_DUMP_INTERRUPTED)
                if header.type in (NLMSG_ERROR, NLMSG_DONE):
                    error, why = verdict(header, body)
                    if error == errno.EINTR or (interrupted and not error):
                        return None
                    if error:
                        raise failure(error, what, why)
                    return found
                found.append(body[4:])

    def _numbers(self, count: int) -> int:
        """Return the first of so many numbers that no other message has."""
        if self._sequence > MAX_SEQUENCE:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        return first

    def _send(self, data: bytes, what: str) -> None:
        try:
            self._sock.send(data)
        except OSError as error:
            raise failure(error.errno or 0, what) from error

    def _read(self, what: str) -> list[tuple[Header, bytes]]:
        try:
            data = self._sock.recv(READ_BYTES)
        except TimeoutError as error:
            raise SwarmError(
                Code.DEADLINE_EXCEEDED, f"cannot {what}: the kernel has not answered within {ANSWER_S} s"
            ) from error
        except OSError as error:
            raise failure(error.errno or 0, what) from error
        return list(messages(data))


def verdict(header: Header, body: bytes) -> tuple[int, str]:
    """Return the error number (0: none) of an acknowledgement or a list's end, and the kernel's own words."""
    number = -int.from_bytes(body[:4], sys.byteorder, signed=True) if len(body) >= 4 else 0
    if header.type != NLMSG_ERROR or not header.flags & NLM_F_ACK_TLVS:
        return number, ""
    # After the number comes the header of the request; all of the request, if it is not capped.
    echoed = 16 if header.flags & NLM_F_CAPPED else int.from_bytes(body[4:8], sys.byteorder)
    return number, string(parse(body[4 + (echoed + 3 & ~3) :]).get(EXPLANATION, b""))


def failure(number: int, what: str, why: str = "") -> SwarmError:
    """Return the error for the system's error `number` (positive) of a request."""
    reason = os.strerror(number) + (f", {why}" if why else "")
    hint = "; it needs root or CAP_NET_ADMIN" if number in (errno.EPERM, errno.EACCES) else ""
    if number in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
        hint = "; this kernel lacks a part of nf_tables (NFT_NAT, NFT_MASQ, NFT_FIB_IPV4, NFT_NUMGEN or NFT_REJECT)"
    return SwarmError(_CODES.get(number, Code.INTERNAL), f"cannot {what}: {reason}{hint}")
