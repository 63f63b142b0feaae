"""What a name server's answer is worth, and which server is asked next. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from worker.dataplane.dns import wire
from worker.dataplane.dns.wire import MalformedError, Query, RCode

_FAILURES: Final = frozenset((RCode.FORMERR, RCode.SERVFAIL, RCode.NOTIMP, RCode.REFUSED))
TROUBLED_S: Final = 10.0


class Worth(enum.Enum):
    """What may be made of an answer."""

    FOREIGN = enum.auto()  # it answers another question, or nothing: as if it had not come
    FAILURE = enum.auto()  # this server cannot or will not say; another one might
    TRUNCATED = enum.auto()
    GOOD = enum.auto()


def judge(answer: bytes, packet: bytes, query: Query) -> Worth:
    """Say what an answer is worth that came from the server to which `packet`, which is `query`, was sent."""
    if len(answer) < wire.HEADER_BYTES or answer[:2] != packet[:2]:
        return Worth.FOREIGN
    flags = int.from_bytes(answer[2:4], "big")
    if not flags & wire.QR or (flags ^ query.flags) & wire.OPCODE_MASK:
        return Worth.FOREIGN
    failed = flags & 0xF in _FAILURES
    questions = int.from_bytes(answer[4:6], "big")
    if failed and questions == 0:
        return Worth.FAILURE
    if questions != 1 or not _asks(answer, query):
        return Worth.FOREIGN
    if failed:
        return Worth.FAILURE
    return Worth.TRUNCATED if flags & wire.TC else Worth.GOOD


def _asks(answer: bytes, query: Query) -> bool:
    try:
        labels, end = wire.read_name(answer, wire.HEADER_BYTES)
    except MalformedError:
        return False
    kind = query.qtype.to_bytes(2, "big") + query.qclass.to_bytes(2, "big")
    return labels == query.labels and answer[end : end + 4] == kind


class Order:
    """The order in which servers are asked: as they are listed, but those that gave no answer lately are last."""

    def __init__(self) -> None:
        self._silent_until_s: dict[str, float] = {}

    def of(self, servers: Sequence[str], now_s: float) -> list[str]:
        self._silent_until_s = {s: until_s for s, until_s in self._silent_until_s.items() if until_s > now_s}
        return sorted(servers, key=lambda server: server in self._silent_until_s)

    def silent(self, server: str, now_s: float) -> None:
        """Take note of a server that gave no answer."""
        self._silent_until_s[server] = now_s + TROUBLED_S

    def spoke(self, server: str) -> None:
        """Take note of a server that did."""
        self._silent_until_s.pop(server, None)
