"""Watches: order, filters, the bounded history, and waiting with a deadline."""

from __future__ import annotations

import asyncio

import pytest

from manager.store.store import Store
from manager.store.tables import SERVICES, TASKS
from manager.store.transaction import Transaction
from manager.store.watch import CompactedError, next_or_deadline
from swarmpy.errors import Code
from swarmpy.model.service import Service
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.task import Task
from tests.support.clock import FakeClock, settle
from tests.support.store import FakeProposer, put, running_store


def task(row_id: str) -> Task:
    return Task(id=row_id, service_id="s", spec_version=1, slot=1)


def service(name: str) -> Service:
    return Service(id=name, spec=ServiceSpec(name=name))


async def test_a_watch_and_a_view_give_a_state_and_exactly_what_follows() -> None:
    async with running_store() as store:
        await put(store, TASKS, task("a"))
        with store.watch(TASKS) as watch:
            assert [row.id for row in store.view().all(TASKS)] == ["a"]
            (stored,) = await put(store, TASKS, task("b"))
            commit = await watch.next()
            assert commit.revision == 2
            assert [(change.before, change.after) for change in commit.of(TASKS)] == [(None, stored)]
            assert watch.drain() == []


async def test_changes_are_net() -> None:
    async with running_store() as store:
        (a, b) = await put(store, TASKS, task("a"), task("b"))
        with store.watch() as watch:

            def change(tx: Transaction) -> Task:
                tx.delete(TASKS, "b")
                tx.create(TASKS, task("c"))
                tx.delete(TASKS, "c")
                return tx.update(TASKS, tx.update(TASKS, a))

            updated = await store.update(change)
            (commit,) = watch.drain()
            assert [(change.before, change.after) for change in commit.changes] == [(b, None), (a, updated)]


async def test_a_watch_sees_its_tables_only() -> None:
    async with running_store() as store:
        with store.watch(SERVICES) as watch:
            await put(store, TASKS, task("a"))

            def both(tx: Transaction) -> None:
                tx.create(TASKS, task("b"))
                tx.create(SERVICES, service("web"))

            await store.update(both)
            (commit,) = watch.drain()
            assert (commit.revision, [change.table for change in commit.changes]) == (2, [SERVICES])


async def test_since_continues_from_the_history() -> None:
    async with running_store() as store:
        for name in "abc":
            await put(store, TASKS, task(name))
        with store.watch(TASKS, since=1) as watch:
            await put(store, TASKS, task("d"))
            assert [commit.revision for commit in watch.drain()] == [2, 3, 4]


async def test_since_a_revision_to_come_waits_for_it() -> None:
    async with running_store() as store:
        with store.watch(since=2) as watch:
            for name in "abc":
                await put(store, TASKS, task(name))
            assert [commit.revision for commit in watch.drain()] == [3]


async def test_a_slow_watch_and_a_late_one_are_compacted() -> None:
    log = FakeProposer()
    store = Store(log, history_changes=6)
    log.attach(store.apply)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(store.run())
        with store.watch(TASKS) as slow, store.watch(SERVICES) as idle:
            for name in "abcde":
                await put(store, TASKS, task(name))
            for _ in range(2):
                with pytest.raises(CompactedError) as caught:
                    await slow.next()
            assert (caught.value.code, caught.value.revision) == (Code.COMPACTED, 5)
            with pytest.raises(CompactedError):
                store.watch(since=1)
            assert [commit.revision for commit in store.watch(since=2).__enter__().drain()] == [3, 4, 5]
            await put(store, SERVICES, service("web"))
            assert [commit.revision for commit in idle.drain()] == [6], "what does not concern a watch costs it nothing"
        running.cancel()


async def test_a_restored_store_compacts_every_watch() -> None:
    async with running_store() as store:
        await put(store, TASKS, task("a"))
        with store.watch() as watch:
            waiting = asyncio.ensure_future(watch.next())
            await settle()
            await store.restore(list(store.snapshot()))
            with pytest.raises(CompactedError):
                await waiting


async def test_a_closed_watch_is_forgotten() -> None:
    async with running_store() as store:
        with store.watch() as watch:
            pass
        await put(store, TASKS, task("a"))
        assert watch.drain() == []


async def test_a_cancelled_wait_loses_no_commit() -> None:
    async with running_store() as store:
        with store.watch() as watch:
            waiting = asyncio.ensure_future(watch.next())
            await settle()
            await put(store, TASKS, task("a"))
            waiting.cancel()
            await settle()
            if waiting.cancelled():
                assert len(watch.drain()) == 1
            else:
                assert waiting.result().revision == 1


async def test_next_or_deadline_returns_a_commit_or_none() -> None:
    clock = FakeClock()
    async with running_store() as store:
        with store.watch() as watch:
            waiting = asyncio.ensure_future(next_or_deadline(watch, clock, clock.monotonic() + 5))
            await clock.advance(4.9)
            assert not waiting.done()
            await clock.advance(0.1)
            assert await waiting is None

            waiting = asyncio.ensure_future(next_or_deadline(watch, clock, clock.monotonic() + 5))
            await settle()
            await put(store, TASKS, task("a"))
            commit = await waiting
            assert commit is not None
            assert commit.revision == 1

            await put(store, TASKS, task("b"))
            past = await next_or_deadline(watch, clock, clock.monotonic() - 1)
            assert past is not None, "what is there wins over a deadline that has passed"
            assert await next_or_deadline(watch, clock, clock.monotonic()) is None

            await put(store, TASKS, task("c"))
            last = await next_or_deadline(watch, clock, None)
            assert last is not None
            assert last.revision == 3


async def test_next_or_deadline_can_be_cancelled() -> None:
    clock = FakeClock()
    async with running_store() as store:
        with store.watch() as watch:
            waiting = asyncio.ensure_future(next_or_deadline(watch, clock, clock.monotonic() + 5))
            await settle()
            waiting.cancel()
            await settle()
            assert waiting.cancelled()
            await put(store, TASKS, task("a"))
            assert len(watch.drain()) == 1
            await clock.advance(10)


async def test_next_or_deadline_tells_of_compaction() -> None:
    clock = FakeClock()
    async with running_store() as store:
        with store.watch() as watch:
            waiting = asyncio.ensure_future(next_or_deadline(watch, clock, clock.monotonic() + 5))
            await settle()
            await store.restore(list(store.snapshot()))
            with pytest.raises(CompactedError):
                await waiting
