"""Transactions: what they check, when they take effect, and what becomes of them when the log fails."""

from __future__ import annotations

import asyncio

import pytest

from manager.store.line import Limits
from manager.store.store import Store
from manager.store.tables import SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.errors import Code, SwarmError
from swarmpy.model.service import Service
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.task import Task
from tests.support.clock import settle
from tests.support.store import FakeProposer, put, running_store


def task(row_id: str, *, slot: int = 1, version: int = 0) -> Task:
    return Task(id=row_id, service_id="s", spec_version=1, slot=slot, version=version)


def service(row_id: str, name: str) -> Service:
    return Service(id=row_id, spec=ServiceSpec(name=name))


async def test_a_row_gets_the_revision_of_its_transaction() -> None:
    async with running_store() as store:
        first = await store.update(lambda tx: tx.create(TASKS, task("a")))
        second = await store.update(lambda tx: tx.update(TASKS, first))
        assert (first.version, second.version) == (1, 2)
        assert store.view().get(TASKS, "a") == second
        assert store.revision == store.view().revision == 2


async def test_a_change_of_an_old_version_is_out_of_sequence() -> None:
    async with running_store() as store:
        first = await store.update(lambda tx: tx.create(TASKS, task("a")))
        await store.update(lambda tx: tx.update(TASKS, first))
        with pytest.raises(SwarmError, match="read it again") as caught:
            await store.update(lambda tx: tx.update(TASKS, first))
        assert caught.value.code is Code.OUT_OF_SEQUENCE


async def test_what_is_missing_or_there_already_is_refused() -> None:
    async with running_store() as store:
        await put(store, TASKS, task("a"))
        for change, code in (
            (lambda tx: tx.create(TASKS, task("a")), Code.ALREADY_EXISTS),
            (lambda tx: tx.update(TASKS, task("b")), Code.NOT_FOUND),
            (lambda tx: tx.delete(TASKS, "b"), Code.NOT_FOUND),
        ):
            with pytest.raises(SwarmError) as caught:
                await store.update(change)
            assert caught.value.code is code
        assert store.revision == 1


async def test_service_names_are_unique_whatever_their_case() -> None:
    async with running_store() as store:
        await put(store, SERVICES, service("1", "Web"))
        with pytest.raises(SwarmError, match="'web' exists already"):
            await put(store, SERVICES, service("2", "WEB"))
        assert [row.id for row in store.view().find(SERVICES, "name", "wEb")] == ["1"]


async def test_a_freed_name_can_be_taken_in_the_same_transaction() -> None:
    async with running_store() as store:
        await put(store, SERVICES, service("1", "web"))

        def replace(tx: Transaction) -> None:
            tx.delete(SERVICES, "1")
            tx.create(SERVICES, service("2", "web"))

        await store.update(replace)
        assert [row.id for row in store.view().all(SERVICES)] == ["2"]


async def test_a_raising_change_leaves_nothing_behind() -> None:
    async with running_store() as store:
        await put(store, TASKS, task("a"))

        def change(tx: Transaction) -> None:
            tx.delete(TASKS, "a")
            tx.create(TASKS, task("b"))
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await store.update(change)
        assert await store.update(lambda tx: [row.id for row in tx.all(TASKS)]) == ["a"]


async def test_a_transaction_cannot_be_used_after_its_function() -> None:
    kept: list[Transaction] = []
    async with running_store() as store:
        await store.update(kept.append)
        with pytest.raises(AssertionError):
            kept[0].create(TASKS, task("a"))


async def test_writes_are_seen_by_later_transactions_at_once_and_by_views_once_applied() -> None:
    log = FakeProposer(hold=True)
    async with running_store(log) as store, asyncio.TaskGroup() as group:
        first = group.create_task(put(store, TASKS, task("a")))
        await settle()
        seen = group.create_task(store.update(lambda tx: tx.get(TASKS, "a")))
        await settle()
        assert store.view().get(TASKS, "a") is None
        assert not seen.done(), "what a transaction read must be applied before it returns"
        log.commit()
        assert (await seen, store.view().get(TASKS, "a")) == (first.result()[0], first.result()[0])


async def test_transactions_are_grouped_while_an_entry_is_in_flight() -> None:
    log = FakeProposer(hold=True)
    async with running_store(log) as store, asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(put(store, TASKS, task(f"t{number}")))
            await settle(3)
        assert len(log.sent) == 1
        log.release()
        await settle()
        assert (len(log.sent), store.revision) == (2, 50)


async def test_full_entries_do_not_wait_for_the_one_in_flight() -> None:
    log = FakeProposer(hold=True)
    store = Store(log, limits=Limits(changes=2, entries_in_flight=3))
    log.attach(store.apply)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(store.run())
        writes = [group.create_task(put(store, TASKS, task(f"t{number}"))) for number in range(9)]
        await settle()
        assert log.in_flight == 3
        log.release()
        await asyncio.gather(*writes)
        running.cancel()
    assert store.view().count(TASKS, "service_id", "s") == 9


async def test_a_transaction_that_fits_no_entry_is_refused() -> None:
    async with running_store() as store:

        def many(tx: Transaction) -> None:
            for number in range(201):
                tx.create(TASKS, task(f"t{number}"))

        def large(tx: Transaction) -> None:
            tx.create(SERVICES, Service(id="1", spec=ServiceSpec(name="web", labels={"a": "x" * 1_600_000})))

        for change in (many, large):
            with pytest.raises(SwarmError, match="is the most") as caught:
                await store.update(change)
            assert (caught.value.code, caught.value.retryable) == (Code.RESOURCE_EXHAUSTED, False)
        assert await store.update(lambda tx: len(tx.all(TASKS)) + len(tx.all(SERVICES))) == 0


async def test_too_many_waiting_writes_are_refused() -> None:
    log = FakeProposer(hold=True)
    store = Store(log, limits=Limits(transactions_waiting=1))
    log.attach(store.apply)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(store.run())
        first = group.create_task(put(store, TASKS, task("a")))
        await settle()
        second = group.create_task(put(store, TASKS, task("b")))
        await settle()
        with pytest.raises(SwarmError, match="too many writes") as caught:
            await put(store, TASKS, task("c"))
        assert caught.value.code is Code.UNAVAILABLE
        log.release()
        await asyncio.gather(first, second)
        running.cancel()


async def test_a_failed_entry_fails_what_was_built_on_it() -> None:
    log = FakeProposer(hold=True)
    async with running_store(log) as store:
        first = asyncio.ensure_future(put(store, TASKS, task("a")))
        await settle()
        second = asyncio.ensure_future(put(store, TASKS, task("b")))
        await settle()
        log.fail(SwarmError(Code.RESOURCE_EXHAUSTED, "the disk is full"))
        errors = await asyncio.gather(first, second, return_exceptions=True)
        assert [error.code for error in errors if isinstance(error, SwarmError)] == [
            Code.RESOURCE_EXHAUSTED,
            Code.UNAVAILABLE,
        ]
        log.release()
        assert await store.update(lambda tx: len(tx.all(TASKS))) == 0


async def test_a_lost_entry_that_is_committed_after_all_cannot_mix_with_later_ones() -> None:
    log = FakeProposer(hold=True)
    async with running_store(log) as store:
        first = asyncio.ensure_future(put(store, TASKS, task("a")))
        await settle()
        lost = log.fail()
        second = asyncio.ensure_future(put(store, TASKS, task("b")))
        await settle()
        log.append(lost)
        log.commit()
        errors = await asyncio.gather(first, second, return_exceptions=True)
        assert [error.code for error in errors if isinstance(error, SwarmError)] == [Code.UNAVAILABLE] * 2
        assert [row.id for row in store.view().all(TASKS)] == ["a"]


async def test_an_entry_behind_a_lost_one_is_passed_over_even_if_another_has_its_revision() -> None:
    log = FakeProposer(hold=True)
    store = Store(log, limits=Limits(changes=1))
    log.attach(store.apply)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(store.run())
        writes = [group.create_task(_outcome(put(store, TASKS, task(name)))) for name in ("a", "b")]
        await settle()
        assert log.in_flight == 2
        log.fail()
        await settle()
        writes.append(group.create_task(_outcome(put(store, TASKS, task("c")))))
        await settle()
        built_on_lost = log.fail()
        log.commit()
        log.append(built_on_lost)
        assert [await write for write in writes] == [Code.UNAVAILABLE, Code.UNAVAILABLE, None]
        assert [row.id for row in store.view().all(TASKS)] == ["c"]
        running.cancel()


async def _outcome(update: object) -> Code | None:
    try:
        await update  # type: ignore[misc]  # any awaitable
    except SwarmError as error:
        return error.code
    return None


async def test_an_error_that_is_not_the_logs_ends_run_and_fails_the_writes() -> None:
    class Broken:
        async def propose(self, data: bytes) -> None:
            raise ZeroDivisionError

    store = Store(Broken())
    write = asyncio.ensure_future(put(store, TASKS, task("a")))
    await settle()
    with pytest.raises(ExceptionGroup):
        await store.run()
    for update in (write, put(store, TASKS, task("b"))):
        with pytest.raises(SwarmError, match="stopping"):
            await update


async def test_a_cancelled_caller_takes_nothing_back() -> None:
    log = FakeProposer(hold=True)
    async with running_store(log) as store:
        write = asyncio.ensure_future(put(store, TASKS, task("a")))
        await settle()
        write.cancel()
        await settle()
        log.release()
        assert store.view().get(TASKS, "a") is not None


async def test_an_entry_handed_in_twice_is_an_error() -> None:
    log = FakeProposer()
    async with running_store(log) as store:
        await put(store, TASKS, task("a"))
        with pytest.raises(SwarmError, match="after entry 1"):
            store.apply(1, log.log[0])
