"""Request ids: a retry gets the first result, on every manager, and for as long as it is kept."""

from __future__ import annotations

import asyncio

import pytest

from manager.store.requests import KEPT, Requests
from manager.store.store import Store
from manager.store.tables import SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.errors import SwarmError
from swarmpy.model.service import Service
from swarmpy.model.spec import Healthcheck, ServiceSpec
from tests.support.clock import settle
from tests.support.store import FakeProposer, running_store


def create(tx: Transaction) -> Service:
    return tx.create(SERVICES, Service(id="1", spec=ServiceSpec(name="web")))


async def test_a_retry_returns_the_first_result() -> None:
    async with running_store() as store:
        first = await store.update(create, request_id="r")
        assert await store.update(create, request_id="r") == first
        assert store.revision == 1


@pytest.mark.parametrize("result", [None, "an id", 7, ["a", 1], {"id": "x"}])
async def test_plain_results_are_kept_even_without_changes(result: object) -> None:
    async with running_store() as store:
        assert await store.update(lambda _: result, request_id="r") == result
        assert await store.update(lambda _: "another", request_id="r") == result


async def test_a_result_that_could_not_be_given_again_is_refused() -> None:
    async with running_store() as store:

        def change(tx: Transaction) -> Healthcheck:
            create(tx)
            return Healthcheck()

        with pytest.raises(TypeError, match="Healthcheck"):
            await store.update(change, request_id="r")
        assert await store.update(lambda tx: len(tx.all(SERVICES))) == 0


async def test_a_retry_joins_the_request_in_flight() -> None:
    log = FakeProposer(hold=True)
    async with running_store(log) as store, asyncio.TaskGroup() as group:
        calls = [group.create_task(store.update(create, request_id="r")) for _ in range(3)]
        await settle()
        calls[0].cancel()
        await settle()
        log.release()
        await settle()
        assert calls[1].result() == calls[2].result() == store.view().get(SERVICES, "1")


async def test_after_a_failure_the_request_may_run_again() -> None:
    log = FakeProposer(hold=True)
    async with running_store(log) as store:
        first = asyncio.ensure_future(store.update(create, request_id="r"))
        await settle()
        log.fail()
        with pytest.raises(SwarmError):
            await first
        log.release()
        assert (await store.update(create, request_id="r")).version == 1


async def test_a_request_committed_after_its_failure_is_not_run_again() -> None:
    log = FakeProposer(hold=True)
    async with running_store(log) as store:
        first = asyncio.ensure_future(store.update(create, request_id="r"))
        await settle()
        lost = log.fail()
        with pytest.raises(SwarmError):
            await first
        log.append(lost)
        assert await store.update(create, request_id="r") == store.view().get(SERVICES, "1")


async def test_another_manager_knows_the_request_from_the_log_and_from_a_snapshot() -> None:
    log = FakeProposer()
    async with running_store(log) as store:
        first = await store.update(create, request_id="r")
        restored = Store(FakeProposer())
        await restored.restore(store.snapshot())
    follower = Store(FakeProposer())
    log.attach(follower.apply)
    for other in (follower, restored):
        assert await other.update(create, request_id="r") == first
        assert not other.view().all(TASKS)


def test_the_oldest_results_go_first() -> None:
    requests = Requests()
    for number in range(KEPT + 2):
        requests.add(str(number), b"")
    assert requests.get("1") is None
    assert requests.get("2") == b""
    assert len(requests.dump()) == KEPT
