"""Logs from the call of a user to the workers and back, and what a reader that stops reading costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from manager.api.logs import read_logs
from manager.dispatcher import logs
from manager.store.tables import TASKS
from swarmpy.api.v1 import control_pb2
from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeState, TaskState
from swarmpy.model.task import Task
from tests.support.dispatching import Desk, ScriptedWorker, dispatching


def line(task_id: str, text: bytes) -> pb.WorkerLogLine:
    return pb.WorkerLogLine(task_id=task_id, at=1.0, stream=2, data=text)


async def close(answers: object) -> None:
    """End a generator as gRPC does when its caller goes."""
    assert isinstance(answers, AsyncGenerator)
    await answers.aclose()


async def asked(worker: ScriptedWorker) -> pb.LogSubscription:
    subscription = await worker.next("log_subscription")
    assert isinstance(subscription, pb.LogSubscription)
    return subscription


async def test_lines_come_back_and_the_end_is_the_end(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        answers = read_logs(desk.store, desk.broker, control_pb2.LogsRequest(ref="web", tail=3))
        first = asyncio.ensure_future(anext(answers))
        subscription = await asked(worker)
        assert (list(subscription.task_ids), subscription.tail, subscription.follow) == (["t1"], 3, False)
        await worker.send(logs=pb.LogChunk(subscription_id=subscription.id, lines=[line("t1", b"hello")]))
        (got,) = (await first).lines
        assert (got.task_id, got.node_id, got.data) == ("t1", "n1", b"hello")
        assert got.stream == control_pb2.LOG_STREAM_STDERR
        await worker.send(logs=pb.LogChunk(subscription_id=subscription.id, done=True, problem="the file was cut"))
        assert list((await anext(answers)).warnings) == ["the file was cut"]
        with pytest.raises(StopAsyncIteration):
            await anext(answers)


async def test_tasks_that_never_ran_are_not_asked_for(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        rejected = Task(id="t0", service_id="s", spec_version=1, slot=1, node_id="n1", state=TaskState.REJECTED)
        await desk.store.update(lambda tx: tx.create(TASKS, rejected).id)
        answers = read_logs(desk.store, desk.broker, control_pb2.LogsRequest(ref="web"))
        first = asyncio.ensure_future(anext(answers))
        subscription = await asked(worker)
        assert list(subscription.task_ids) == ["t1"]
        await worker.send(logs=pb.LogChunk(subscription_id=subscription.id, done=True))
        with pytest.raises(StopAsyncIteration):
            await first


async def test_a_node_that_is_not_there_is_a_warning_with_its_name(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk:
        answers = [a async for a in read_logs(desk.store, desk.broker, control_pb2.LogsRequest(ref="t1"))]
        (warning,) = answers[0].warnings
        assert "is not connected: the logs of its 1 task(s) are missing" in warning
        with pytest.raises(SwarmError) as refused:
            await anext(read_logs(desk.store, desk.broker, control_pb2.LogsRequest(ref="nobody")))
        assert refused.value.code is Code.NOT_FOUND


async def test_a_node_whose_session_ends_ends_its_logs(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        answers = read_logs(desk.store, desk.broker, control_pb2.LogsRequest(ref="web"))
        first = asyncio.ensure_future(anext(answers))
        await asked(worker)
        async with desk.worker() as newer:
            assert list((await first).warnings) == ["node host was disconnected: its logs end here"]
            with pytest.raises(StopAsyncIteration):
                await anext(answers)
            await newer.synced(1)


async def test_following_finds_tasks_that_come_to_nodes_later(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        pending = Task(id="t2", service_id="s", spec_version=1, slot=2, state=TaskState.PENDING)
        await desk.store.update(lambda tx: tx.create(TASKS, pending).id)
        answers = read_logs(desk.store, desk.broker, control_pb2.LogsRequest(ref="web", follow=True))
        first = asyncio.ensure_future(anext(answers))
        subscription = await asked(worker)
        assert list(subscription.task_ids) == ["t1"]
        await desk.change_task("t2", lambda task: msgspec.structs.replace(task, node_id="n1", state=TaskState.ASSIGNED))
        await worker.send(logs=pb.LogChunk(subscription_id=subscription.id, lines=[line("t1", b"a")]))
        await first
        second = asyncio.ensure_future(anext(answers))
        more = await asked(worker)
        assert (more.id, list(more.task_ids)) == (subscription.id, ["t2"])
        await worker.send(logs=pb.LogChunk(subscription_id=subscription.id, lines=[line("t2", b"b")]))
        assert (await second).lines[0].task_id == "t2"
        await close(answers)
        assert (await asked(worker)).cancel


async def fill(desk: Desk, worker: ScriptedWorker, subscription_id: str, chunks: int) -> None:
    for _ in range(chunks):
        await worker.send(logs=pb.LogChunk(subscription_id=subscription_id, lines=[line("t1", b"x")]))


async def test_a_reader_that_stops_reading_is_cut_off_and_the_node_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "STALLED_READER_S", 0.0)
    async with (
        dispatching(tmp_path) as desk,
        desk.worker() as worker,
        desk.broker.subscribe(control_pb2.LogsRequest(ref="web")) as reader,
    ):
        assert reader.add({"n1": ["t1"]}) == []
        subscription = await asked(worker)
        await fill(desk, worker, subscription.id, logs.QUEUED_CHUNKS + 20)
        await worker.synced(1)
        assert desk.node().state is NodeState.READY
        found = [await reader.next() for _ in range(logs.QUEUED_CHUNKS + 2)]
        assert [bool(each and each[1].lines) for each in found[:-2]] == [True] * logs.QUEUED_CHUNKS
        cut_off = found[-2]
        assert cut_off is not None
        assert "was not read fast enough" in cut_off[1].problem
        assert found[-1] is None
