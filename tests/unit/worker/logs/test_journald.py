"""What the journal is sent, read by a socket that stands for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmpy.errors import SwarmError
from worker.logs.format import Stream
from worker.logs.journald import JournalSender, entry


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.bind(str(tmp_path / "journal"))
        yield made


def test_each_line_is_an_entry(journal: socket.socket, tmp_path: Path) -> None:
    sender = JournalSender("abcdefghijklmnop", "web.1", tmp_path / "journal")
    sender.append(Stream.STDERR, [b"one\n", b"half"])
    first, second = (journal.recv(4096).splitlines() for _ in range(2))
    sender.close()
    assert first == [
        b"MESSAGE=one",
        b"PRIORITY=3",
        b"SYSLOG_IDENTIFIER=web.1",
        b"CONTAINER_ID=abcdefghijkl",
        b"CONTAINER_ID_FULL=abcdefghijklmnop",
        b"CONTAINER_NAME=web.1",
    ]
    assert second[:3] == [b"MESSAGE=half", b"PRIORITY=3", b"CONTAINER_PARTIAL_MESSAGE=true"]


def test_a_value_with_a_newline_has_its_length() -> None:
    assert entry(Stream.STDOUT, b"a\n", {"NAME": "x\ny"}).endswith(b"NAME\n\x03\0\0\0\0\0\0\0x\ny\n")


def test_what_a_full_journal_does_not_take_is_counted(journal: socket.socket, tmp_path: Path) -> None:
    sender = JournalSender("t", "t", tmp_path / "journal")
    sender.append(Stream.STDOUT, [b"line\n"] * 100_000)
    assert 0 < sender.dropped_lines < 100_000
    sender.close()


def test_a_node_without_a_journal_says_so(tmp_path: Path) -> None:
    with pytest.raises(SwarmError, match="no journal for the log driver journald"):
        JournalSender("t", "t", tmp_path / "none")
