from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmpy.model.spec import LogDriver
from tests.support.clock import FakeClock, settle
from tests.unit.worker.logs.test_file import texts
from worker.logs.format import Stream
from worker.logs.store import LogStore, TaskLog


@pytest.fixture
async def store(tmp_path: Path) -> LogStore:
    (tmp_path / "task").mkdir()
    return LogStore(tmp_path, FakeClock())


@pytest.fixture
async def log(store: LogStore) -> TaskLog:
    return store.open("task", LogDriver())


@pytest.fixture
def writer(log: TaskLog) -> Iterator[int]:
    descriptor = os.open(log.fifo(Stream.STDOUT), os.O_RDWR)  # as the task host opens it
    yield descriptor
    os.close(descriptor)


async def test_what_a_task_prints_reaches_its_file(store: LogStore, writer: int) -> None:
    os.write(writer, b"one\ntw")
    await settle()
    assert texts(store.directory("task")) == ["one\n"]
    os.write(writer, b"o\nunfinished")
    store.finish("task")
    assert texts(store.directory("task")) == ["one\n", "two\n", "unfinished\n"]
    assert store.totals == (len(b"one\ntwo\nunfinished"), 0)
    assert not (store.directory("task").parent / "stdout").exists()


async def test_a_closed_store_leaves_the_rest_to_the_next_worker(
    store: LogStore, log: TaskLog, writer: int, tmp_path: Path
) -> None:
    store.close()
    os.write(writer, b"meanwhile\n")
    successor = LogStore(tmp_path, FakeClock())
    successor.open("task", LogDriver())
    await settle()
    assert texts(successor.directory("task")) == ["meanwhile\n"]
    successor.finish("task")


async def test_the_last_line_of_standard_error_is_known_at_once(store: LogStore, log: TaskLog) -> None:
    descriptor = os.open(log.fifo(Stream.STDERR), os.O_WRONLY)
    os.write(descriptor, b"warning\nfatal: no such table\n\n")
    os.close(descriptor)
    assert log.last_error_line() == "fatal: no such table"
    store.finish("task")


async def test_finishing_ends_although_somebody_writes_on_and_on(
    store: LogStore, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def endless(descriptor: int, size: int) -> bytes:
        nonlocal reads
        reads += 1
        return b"again\n"

    monkeypatch.setattr(os, "read", endless)
    store.finish("task")
    assert 0 < reads < 1000


async def test_opening_twice_is_opening_once(store: LogStore, log: TaskLog) -> None:
    assert store.open("task", LogDriver()) is log
    store.finish("task")
    store.finish("task")
    assert store.get("task") is None
