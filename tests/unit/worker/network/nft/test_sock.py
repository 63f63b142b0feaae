"""The socket with a kernel at its other end that says what the test wants."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from swarmpy.errors import Code, SwarmError
from worker.network.nft.attributes import (
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTERRUPTED,
    NLMSG_DONE,
    NLMSG_ERROR,
    Header,
    message,
    messages,
    text,
)
from worker.network.nft.batch import Batch
from worker.network.nft.sock import NetfilterSocket

Answer = Callable[[list[Header]], list[bytes]]


class Kernel:
    """Answers each datagram with datagrams; the last of `answers` is used again."""

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(5)
        self.sock = NetfilterSocket(ours)
        self.answers: list[Answer] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._theirs:
            while data := self._theirs.recv(1 << 20):
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                for datagram in answer([header for header, _ in messages(data)]):
                    self._theirs.send(datagram)

    def close(self) -> None:
        self.sock.close()
        self._thread.join()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.close()


def said(header: Header, number: int, why: str = "") -> bytes:
    """Return what the kernel says of a request."""
    body = struct.pack("=i", -number) + bytes(16) + (text(1, why) if why else b"")
    flags = NLM_F_CAPPED | (NLM_F_ACK_TLVS if why else 0)
    return struct.pack("=IHHII", 16 + len(body), NLMSG_ERROR, flags, header.sequence, 0) + body


def done(header: Header, flags: int = 0) -> bytes:
    return struct.pack("=IHHIIi", 20, NLMSG_DONE, flags, header.sequence, 0, 0)


def row(header: Header, name: str, flags: int = 0) -> bytes:
    return message(Header(0xA00, flags, header.sequence), 2, text(1, name))


def two() -> Batch:
    batch = Batch()
    batch.add_table("one")
    batch.add_table("two")
    return batch


def test_a_batch_is_done_when_its_last_request_is(kernel: Kernel) -> None:
    kernel.answers = [lambda sent: [said(sent[2], 0)]]
    for _ in range(2):
        kernel.sock.commit(two())


def test_nothing_is_sent_for_an_empty_batch(kernel: Kernel) -> None:
    kernel.sock.commit(Batch())


def test_the_first_refusal_is_told_with_the_kernel_s_words(kernel: Kernel) -> None:
    kernel.answers = [lambda sent: [said(sent[1], errno.EEXIST, "it is there"), said(sent[2], errno.EBUSY)]]
    with pytest.raises(SwarmError, match=r"^cannot add table one: File exists, it is there$") as refused:
        kernel.sock.commit(two())
    assert refused.value.code == Code.ALREADY_EXISTS


def test_a_refusal_of_the_whole_batch(kernel: Kernel) -> None:
    kernel.answers = [lambda sent: [said(sent[0], errno.EPERM)]]
    with pytest.raises(SwarmError, match="Operation not permitted; it needs root or CAP_NET_ADMIN") as refused:
        kernel.sock.commit(two())
    assert refused.value.code == Code.PERMISSION_DENIED


def test_answers_to_earlier_calls_are_passed_over(kernel: Kernel) -> None:
    kernel.answers = [
        lambda sent: [said(sent[0], errno.ENOMEM), said(sent[2], 0)],
        lambda sent: [said(sent[2], 0)],
    ]
    with pytest.raises(SwarmError) as refused:
        kernel.sock.commit(two())
    assert refused.value.code == Code.RESOURCE_EXHAUSTED
    kernel.sock.commit(two())


def test_a_list_comes_in_parts(kernel: Kernel) -> None:
    kernel.answers = [lambda sent: [row(sent[0], "a") + row(sent[0], "b"), row(sent[0], "c") + done(sent[0])]]
    assert kernel.sock.ask(0xA01, 2, b"", "list", flags=NLM_F_DUMP) == [text(1, name) for name in "abc"]


def test_a_list_that_changed_is_read_again(kernel: Kernel) -> None:
    changed: Answer = lambda sent: [row(sent[0], "old", NLM_F_DUMP_INTERRUPTED) + done(sent[0])]  # noqa: E731 - one of a kind
    kernel.answers = [changed, changed, lambda sent: [row(sent[0], "new") + done(sent[0])]]
    assert kernel.sock.ask(0xA01, 2, b"", "list", flags=NLM_F_DUMP) == [text(1, "new")]
    kernel.answers = [changed]
    with pytest.raises(SwarmError, match="cannot list: it changes faster than it can be read") as refused:
        kernel.sock.ask(0xA01, 2, b"", "list", flags=NLM_F_DUMP)
    assert refused.value.retryable


def test_a_refused_question(kernel: Kernel) -> None:
    kernel.answers = [lambda sent: [said(sent[0], errno.ENOENT)]]
    with pytest.raises(SwarmError, match="cannot forget it: No such file or directory") as refused:
        kernel.sock.ask(0x102, 2, b"", "forget it")
    assert refused.value.code == Code.NOT_FOUND


def test_a_kernel_without_a_part_of_it(kernel: Kernel) -> None:
    kernel.answers = [lambda sent: [said(sent[1], errno.EOPNOTSUPP), said(sent[2], 0)]]
    with pytest.raises(SwarmError, match="this kernel lacks a part of nf_tables") as refused:
        kernel.sock.commit(two())
    assert refused.value.code == Code.NOT_SUPPORTED


def test_a_kernel_that_is_silent() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0.001)
    with theirs, NetfilterSocket(ours) as sock, pytest.raises(SwarmError, match="has not answered") as refused:
        sock.commit(two())
    assert refused.value.code == Code.DEADLINE_EXCEEDED


def test_a_socket_that_is_closed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with NetfilterSocket(ours) as sock, pytest.raises(SwarmError, match="cannot add table one: Broken pipe"):
        sock.commit(two())
