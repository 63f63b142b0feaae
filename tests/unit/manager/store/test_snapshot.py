"""Snapshots: the same bytes from the same entries, any chunks back, and nothing from damaged ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from manager.store import codec, snapshot
from manager.store.store import Store
from manager.store.tables import NODES, SERVICE_VERSIONS, SERVICES, TASKS
from swarmpy.errors import Code, SwarmError
from swarmpy.model.node import Node, NodeSpec
from swarmpy.model.service import Service, ServiceVersion
from swarmpy.model.spec import ServiceSpec, TaskSpec
from swarmpy.model.task import Task
from tests.support.store import FakeProposer, put, running_store


async def filled() -> tuple[Store, bytes]:
    async with running_store() as store:
        await put(store, NODES, Node(id="n", spec=NodeSpec(name="one")))
        await put(store, SERVICES, Service(id="s", spec=ServiceSpec(name="web", labels={"b": "1", "a": "2"})))
        await put(
            store, SERVICE_VERSIONS, ServiceVersion(id="s.1", service_id="s", number=1, name="web", task=TaskSpec())
        )
        await put(store, TASKS, *(Task(id=f"t{n}", service_id="s", spec_version=1, slot=n) for n in range(1200)))
        await store.update(lambda tx: tx.delete(TASKS, "t7"), request_id="r")
        return store, b"".join(store.snapshot())


@pytest.mark.parametrize("size", [1, 100, 65_536, 1 << 20])
async def test_any_chunks_restore_the_same_state(size: int) -> None:
    store, data = await filled()
    other = Store(FakeProposer())
    await other.restore(data[start : start + size] for start in range(0, len(data), size))
    assert b"".join(other.snapshot()) == data
    assert (other.revision, other.index) == (store.revision, store.index)
    assert other.view().count(TASKS, "service_id", "s") == 1199


async def test_chunks_may_come_asynchronously() -> None:
    _, data = await filled()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 50_000):
            await asyncio.sleep(0)
            yield data[start : start + 50_000]

    other = Store(FakeProposer())
    await other.restore(chunks())
    assert b"".join(other.snapshot()) == data


async def test_a_snapshot_is_of_its_moment() -> None:
    log = FakeProposer()
    async with running_store(log) as store:
        await put(store, TASKS, Task(id="a", service_id="s", spec_version=1, slot=1))
        taken = store.snapshot()
        await put(store, TASKS, Task(id="b", service_id="s", spec_version=1, slot=2))
        other = Store(FakeProposer())
        await other.restore(taken)
        assert (other.revision, other.index, taken.index) == (1, 1, 1)
        other.apply(2, log.log[1])
        assert list(other.snapshot()) == list(store.snapshot())


async def test_an_empty_store_has_a_snapshot() -> None:
    store = Store(FakeProposer())
    await store.restore(Store(FakeProposer()).snapshot())
    assert store.revision == 0


async def test_damage_is_corrupt_and_leaves_the_store_as_it_was() -> None:
    store, data = await filled()
    places = [0, 5, 14, 18, 22, 23, 60, len(data) // 2, len(data) - 1]
    damaged = [data[:at] + bytes((data[at] ^ 0x40,)) + data[at + 1 :] for at in places]
    cut = [data[:at] for at in (0, 3, 14, 20, len(data) // 2, len(data) - 9, len(data) - 1)]
    frames = list(store.snapshot())
    swapped = [
        b"".join(some) for some in (frames[:2] + frames[3:], [*frames, frames[1]], frames[:1] + frames, frames[1:])
    ]
    for bad in [*damaged, *cut, *swapped]:
        with pytest.raises(SwarmError) as caught:
            await store.restore([bad])
        assert caught.value.code is Code.CORRUPT, caught.value
    assert b"".join(store.snapshot()) == data


async def test_a_newer_snapshot_is_refused_by_name() -> None:
    store, data = await filled()
    newer = data.replace(b"SWARMPY-STATE\x01", b"SWARMPY-STATE\x02", 1)
    with pytest.raises(SwarmError, match="format 2") as caught:
        await store.restore([newer])
    assert caught.value.code is Code.NOT_SUPPORTED
    with pytest.raises(SwarmError, match="table number 77"):
        await store.restore([*list(store.snapshot())[:1], snapshot._frame(77, [])])


def test_a_newer_or_damaged_entry_is_refused_and_changes_nothing() -> None:
    store = Store(FakeProposer())
    before = list(store.snapshot())
    put_task = codec.encode_change(TASKS, "a", Task(id="a", service_id="s", spec_version=1, slot=1))
    good = codec.encode_entry(bytes(16), 1, [codec.EncodedTransaction([put_task])])
    unknown = codec.EncodedChange(99, "a", put_task.row)
    wrong = codec.EncodedChange(TASKS.number, "a", codec.encode_change(NODES, "n", Node(id="n")).row)
    for data, code in (
        (b"", Code.CORRUPT),
        (b"\x02" + good[1:], Code.NOT_SUPPORTED),
        (b"\x00" + good[1:], Code.CORRUPT),
        (good[:-3], Code.CORRUPT),
        (codec.encode_entry(bytes(16), 5, [codec.EncodedTransaction([put_task])]), Code.CORRUPT),
        (codec.encode_entry(bytes(16), 1, [codec.EncodedTransaction([put_task, unknown])]), Code.NOT_SUPPORTED),
        (codec.encode_entry(bytes(16), 1, [codec.EncodedTransaction([put_task, wrong])]), Code.CORRUPT),
    ):
        with pytest.raises(SwarmError) as caught:
            store.apply(1, data)
        assert caught.value.code is code
        assert list(store.snapshot()) == before
    store.apply(1, good)
    assert store.revision == 1


async def test_large_rows_come_in_small_chunks() -> None:
    async with running_store() as store:
        for number in range(60):
            spec = ServiceSpec(name=f"s{number}", labels={"x": "y" * 50_000})
            await put(store, SERVICES, Service(id=str(number), spec=spec))
        assert max(map(len, store.snapshot())) < 1_000_000
        other = Store(FakeProposer())
        await other.restore(store.snapshot())
        assert list(other.view().all(SERVICES)) == list(store.view().all(SERVICES))


async def test_restored_tasks_share_what_they_have_in_common() -> None:
    store, _ = await filled()
    other = Store(FakeProposer())
    await other.restore(store.snapshot())
    first, second = other.view().after(TASKS, "", 2)
    assert first.service_id is second.service_id
    assert first.version == store.view().after(TASKS, "", 1)[0].version
