"""What tasks print, from their FIFOs to the manager: kept, rotated, followed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.model.states import TaskState
from tests.support.worker_bench import Bench, open_bench, shell
from worker.metrics import WorkerMetrics

pytestmark = pytest.mark.e2e


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


async def test_both_streams_are_told_apart(bench: Bench) -> None:
    await bench.finished(shell("echo out; echo err >&2; printf unfinished"))
    assert await bench.printed() == "out\nunfinished\n"
    assert await bench.printed(stream=2) == "err\n"


async def test_logs_are_rotated_and_the_newest_are_kept(bench: Bench) -> None:
    options = {"max-size": "32k", "max-file": "2"}
    await bench.finished(shell("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done", log_options=options))
    files = sorted((bench.directory / "tasks" / "task1" / "logs").iterdir())
    assert [f.name for f in files] == ["json.log", "json.log.1"]
    assert all(f.stat().st_size <= 32 * 1024 for f in files)
    lines = (await bench.printed()).splitlines()
    assert lines == [f"line {n}" for n in range(3000 - len(lines), 3000)]
    tail = await bench.log_lines(pb.LogSubscription(id="tail", task_ids=["task1"], tail=2))
    assert [line.data for line in tail] == [b"line 2998\n", b"line 2999\n"]


async def test_a_long_line_comes_in_pieces(bench: Bench) -> None:
    await bench.finished(shell("head -c 40000 /dev/zero | tr '\\0' x; echo"))
    lines = await bench.log_lines(pb.LogSubscription(id="s", task_ids=["task1"]))
    assert [len(line.data) for line in lines] == [16384, 16384, 40001 - 2 * 16384]


async def test_a_log_is_followed_until_the_task_ends(bench: Bench) -> None:
    bench.manager.assign(shell("echo one; while test ! -e go; do sleep 0.01; done; echo two"))
    await bench.manager.ready("task1")
    subscription = pb.LogSubscription(id="follow", task_ids=["task1"], follow=True)
    bench.manager.send(pb.ManagerMessage(log_subscription=subscription))
    await bench.manager.until(lambda: bench.chunks("follow"), "the first line arrives")
    (bench.directory / "tasks" / "task1" / "work" / "go").touch()
    await bench.manager.until(lambda: any(c.done for c in bench.chunks("follow")), "it ends with the task")
    data = b"".join(line.data for chunk in bench.chunks("follow") for line in chunk.lines)
    assert data == b"one\ntwo\n"


async def test_a_task_that_floods_its_log_does_not_hold_up_the_others(bench: Bench) -> None:
    bench.manager.assign(shell("yes flood"), "flood")
    await bench.manager.ready("flood")
    flooded = shell("yes flood", log_options={"max-size": "1m"})
    bench.manager.assign(flooded, "flood-2")
    status = await bench.finished(shell("echo quiet"), "quiet")
    assert status.state is TaskState.COMPLETE
    assert await bench.printed("quiet") == "quiet\n"


async def test_the_figures_can_be_scraped(bench: Bench) -> None:
    await bench.finished(shell("echo 12345"))
    parts = bench.worker
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(parts.runner, parts.session, parts.logs, parts.endpoints))
    text = generate_latest(registry).decode()
    for line in (
        'swarmpy_worker_tasks{state="complete"} 1.0',
        'swarmpy_worker_tasks_ended_total{state="complete"} 1.0',
        "swarmpy_worker_tasks_started_total 1.0",
        "swarmpy_worker_log_read_bytes_total 6.0",
        "swarmpy_worker_connected 1.0",
    ):
        assert line in text
