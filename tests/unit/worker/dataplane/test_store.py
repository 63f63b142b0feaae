from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.clock import FakeClock
from tests.support.dataplane import service, task
from worker.dataplane.store import EMPTY, EndpointStore, Saved, load

DEADLINE_S = 5.0


def saved(revision: int) -> Saved:
    return Saved(
        endpoints=EndpointsUpdate(
            revision=revision, complete=True, services=(service("web", vip=1),), backends=(task("t", "web"),)
        ),
        node_id="n",
        cluster_id="c",
        vip_prefix="127.93",
    )


class Taking:
    """Hands out the current state, and says when that was."""

    def __init__(self) -> None:
        self.current = saved(1)
        self.taken = asyncio.Queue[int]()

    def __call__(self) -> Saved:
        self.taken.put_nowait(self.current.endpoints.revision)
        return self.current


async def test_changes_are_written_at_once_and_then_together(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.msgpack"
    clock, taking = FakeClock(), Taking()
    store = EndpointStore(path, clock=clock, take=taking)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        life = tasks.create_task(store.run())
        store.changed()
        assert await taking.taken.get() == 1
        for revision in (2, 3):
            taking.current = saved(revision)
            store.changed()
        while taking.taken.empty():  # the write is a thread's: the store may not wait for the clock yet
            await clock.advance(1.0)
        assert await taking.taken.get() == 3
        assert taking.taken.empty()
        store.changed()
        while taking.taken.empty():
            await clock.advance(1.0)
        assert load(path) == saved(3), "the next write began, so this one is there"
        life.cancel()


async def test_flush_writes_what_is_due_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.msgpack"
    store = EndpointStore(path, clock=FakeClock(), take=Taking())
    await store.flush()
    assert not path.exists()
    store.changed()
    await store.flush()
    assert load(path) == saved(1)
    assert not path.with_suffix(".tmp").exists()


async def test_an_interrupted_write_is_made_up_for_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.msgpack"
    os.mkfifo(path.with_suffix(".tmp"))  # holds the first write up until somebody reads
    taking = Taking()
    store = EndpointStore(path, clock=FakeClock(), take=taking)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        life = tasks.create_task(store.run())
        store.changed()
        assert await taking.taken.get() == 1
        life.cancel()
        await asyncio.wait((life,))
        taking.current = saved(2)
        end = tasks.create_task(store.flush())
        assert await taking.taken.get() == 2
        assert await asyncio.to_thread(path.with_suffix(".tmp").read_bytes)
        await end
        assert load(path) == saved(2)


async def test_a_write_that_fails_is_said_once_and_made_up_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    store = EndpointStore(folder / "endpoints.msgpack", clock=FakeClock(), take=Taking())
    store.changed()
    await store.flush()
    await store.flush()
    folder.mkdir()
    await store.flush()
    assert load(folder / "endpoints.msgpack") == saved(1)
    said = capsys.readouterr().out
    assert said.count("cannot save the endpoints") == 1
    assert said.count("are saved again") == 1


def test_nothing_saved_is_nothing_known(tmp_path: Path) -> None:
    assert load(tmp_path / "endpoints.msgpack") == EMPTY


@pytest.mark.parametrize(
    "content", [b"", b"\xc1", b"\x80", b"{}", b"\x82\xa9endpoints\x81\xa8revision\x05\xa7version\x09"]
)
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "endpoints.msgpack"
    path.write_bytes(content)
    assert load(path) == EMPTY
    assert not path.exists()
    assert path.with_suffix(".corrupt").read_bytes() == content
