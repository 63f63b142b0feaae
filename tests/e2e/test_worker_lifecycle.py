"""What a worker outlives, what outlives it, and how it parts with a task: restarts, drains, checks, other managers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import EndpointsUpdate
from swarmpy.model.spec import Healthcheck
from swarmpy.model.states import TaskState
from tests.e2e.test_worker_tasks import LISTEN, alive
from tests.support.dispatcher import FakeDispatcher
from tests.support.task_host_process import TaskHostProcess
from tests.support.worker_bench import Bench, open_bench, python, shell
from tests.support.worker_parts import FakeDataPlane, WorkerParts
from worker.dataplane.protocol import Applied
from worker.task.journal import FileJournal

pytestmark = pytest.mark.e2e


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


@asynccontextmanager
async def worker_process(host: TaskHostProcess, manager: FakeDispatcher) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in a process of its own, killed with -9 at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.worker_child", str(host.directory), manager.address
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_a_killed_workers_tasks_go_on_and_are_taken_over() -> None:
    async with TaskHostProcess() as host, FakeDispatcher() as manager:
        version = python(LISTEN, ports=(8000,))
        async with worker_process(host, manager):
            manager.assign(version, "goes-on")
            manager.assign(shell("sleep 1000"), "ends")
            before = await manager.ready("goes-on")
            ending = await manager.ready("ends")
        os.killpg(ending.pid, signal.SIGKILL)
        manager.statuses.clear()
        async with worker_process(host, manager):
            after = await manager.ready("goes-on")
            assert after == before
            ended = await manager.status("ends", TaskState.COMPLETE)
            assert (ended.state, ended.exit_code) == (TaskState.FAILED, -signal.SIGKILL)
            manager.want("goes-on", TaskState.SHUTDOWN)
            stopped = await manager.status("goes-on", TaskState.COMPLETE)
            assert stopped.state is TaskState.SHUTDOWN


async def test_logs_of_a_task_survive_its_worker() -> None:
    async with TaskHostProcess() as host, FakeDispatcher() as manager:
        log = host.directory / "tasks" / "task1" / "logs" / "json.log"
        version = shell("echo one; while test ! -e go; do sleep 0.01; done; echo two; sleep 1000")
        async with worker_process(host, manager):
            manager.assign(version)
            # What a worker has taken out of the pipe but not yet written when it is killed is lost.
            await manager.until(lambda: log.exists() and b"one" in log.read_bytes(), "the first line is there")
        (host.directory / "tasks" / "task1" / "work" / "go").touch()
        async with AsyncExitStack() as stack:
            worker = await WorkerParts(host.directory, [manager.address]).start(stack)
            bench = Bench(host, manager, worker)
            await manager.until(lambda: b"two" in log.read_bytes(), "the second line is there")
            await manager.until(lambda: len(manager.hellos) == 2, "the next worker has its session")
            assert await bench.printed() == "one\ntwo\n"


async def test_a_process_without_a_record_is_stopped() -> None:
    async with TaskHostProcess() as host, FakeDispatcher() as manager:
        async with worker_process(host, manager):
            manager.assign(shell("sleep 1000"))
            status = await manager.ready("task1")
        FileJournal(host.directory / "worker" / "tasks").remove("task1")
        manager.remove("task1")
        async with worker_process(host, manager):
            await manager.until(lambda: not (host.directory / "tasks" / "task1").exists(), "the folder is gone")
            assert not alive(status.pid)


async def test_a_task_that_this_node_forgot_is_lost(bench: Bench) -> None:
    bench.manager.assign(shell("sleep 1000"), state=TaskState.RUNNING)
    status = await bench.manager.status("task1", TaskState.COMPLETE)
    assert status.state is TaskState.FAILED
    assert status.error.startswith("lost: this node has no record of the task")


async def test_after_a_reboot_all_tasks_have_failed() -> None:
    async with TaskHostProcess() as host, FakeDispatcher() as manager:
        async with AsyncExitStack() as stack:
            await WorkerParts(host.directory, [manager.address], boot_id="old").start(stack)
            manager.assign(shell("sleep 1000"))
            await manager.ready("task1")
        await host.shut_down()
        await host.start()
        async with AsyncExitStack() as stack:
            await WorkerParts(host.directory, [manager.address], boot_id="new").start(stack)
            status = await manager.status("task1", TaskState.COMPLETE)
            assert (status.state, status.error) == (TaskState.FAILED, "node rebooted")


async def test_a_task_whose_task_host_was_killed_says_that_its_status_is_lost(bench: Bench) -> None:
    bench.manager.assign(shell("sleep 1000"), "goes-on")
    bench.manager.assign(shell("sleep 1000"), "ends")
    goes_on = await bench.manager.ready("goes-on")
    ends = await bench.manager.ready("ends")
    await bench.host.kill()
    os.killpg(ends.pid, signal.SIGKILL)
    await bench.host.start()
    status = await bench.manager.status("ends", TaskState.COMPLETE)
    assert status.state is TaskState.FAILED
    # Whoever reaps orphans here may be slow enough for the new task host to read the status still.
    lost, known = "exit status lost: the task host was killed", "killed by signal 9 (SIGKILL)"
    assert status.error == (lost if status.exit_code is None else known)
    assert bench.manager.statuses["goes-on"].state is TaskState.RUNNING
    bench.manager.want("goes-on", TaskState.SHUTDOWN)
    status = await bench.manager.status("goes-on", TaskState.COMPLETE)
    assert status.state is TaskState.SHUTDOWN
    assert not alive(goes_on.pid)


async def test_the_stop_signal_waits_for_the_drain(bench: Bench) -> None:
    bench.manager.assign(python(LISTEN, ports=(8000,), drain_timeout_s=1000.0))
    status = await bench.manager.ready("task1")
    bench.manager.want("task1", TaskState.SHUTDOWN, withdrawn_at=7)
    bench.manager.drain(6)
    bench.manager.drain(7, ["task1"])
    await bench.printed()  # an answer to what was sent after the drain states
    assert alive(status.pid)
    bench.manager.drain(7)
    status = await bench.manager.status("task1", TaskState.COMPLETE)
    assert status.state is TaskState.SHUTDOWN


async def test_the_drain_ends_with_its_deadline_without_a_manager(bench: Bench) -> None:
    bench.manager.assign(python(LISTEN, ports=(8000,), drain_timeout_s=0.2))
    status = await bench.manager.ready("task1")
    bench.manager.want("task1", TaskState.SHUTDOWN, withdrawn_at=7)
    bench.manager.refusal = SwarmError(Code.NOT_LEADER, "not the leader")
    bench.manager.end_session()
    await bench.manager.until(lambda: not alive(status.pid), "the task has ended")
    bench.manager.refusal = None
    ended = await bench.manager.status("task1", TaskState.COMPLETE)
    assert ended.state is TaskState.SHUTDOWN


async def test_running_waits_for_the_health_check_and_its_failure_ends_the_task(bench: Bench) -> None:
    check = Healthcheck(test=("CMD-SHELL", "cat $FILE"), interval_s=0.05, retries=2)
    bench.manager.assign(shell("echo $PWD; sleep 1000", healthcheck=check, env=("FILE=well",)))
    status = await bench.manager.status("task1", TaskState.STARTING)
    assert (status.state, status.ready) == (TaskState.STARTING, False)
    # The check runs in the task's directory, with its environment; two failures end it before it ever ran.
    status = await bench.manager.status("task1", TaskState.COMPLETE)
    assert status.state is TaskState.FAILED
    assert status.error.startswith("unhealthy: cat: ")
    assert TaskState.RUNNING not in {s.state for s in bench.manager.history["task1"]}


async def test_a_task_that_becomes_unhealthy_is_stopped_and_failed(bench: Bench) -> None:
    check = Healthcheck(test=("CMD", "test", "!", "-e", "ill"), interval_s=0.05, retries=2)
    bench.manager.assign(shell("sleep 1000", healthcheck=check))
    running = await bench.manager.ready("task1")
    (bench.directory / "tasks" / "task1" / "work" / "ill").touch()
    status = await bench.manager.status("task1", TaskState.COMPLETE)
    assert (status.state, status.error) == (TaskState.FAILED, "unhealthy: the check exited with code 1")
    assert not alive(running.pid)


async def test_readiness_routes_and_unroutes_but_never_kills(bench: Bench) -> None:
    script = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists("busy") and self.path == "/ready" else 200)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
    check = Healthcheck(test=("HTTP", ":8000/ready"), interval_s=0.05, retries=1)
    bench.manager.assign(python(script, ports=(8000,), readiness=check))
    first = await bench.manager.ready("task1")
    busy = bench.directory / "tasks" / "task1" / "work" / "busy"
    busy.touch()
    status = await bench.manager.until(
        lambda: s if not (s := bench.manager.statuses["task1"]).ready else None, "the task is unrouted"
    )
    assert (status.state, status.not_ready_reason) == (TaskState.RUNNING, "GET /ready: status 503")
    busy.unlink()
    again = await bench.manager.ready("task1")
    assert again.pid == first.pid
    assert again.ready_since > first.ready_since


async def test_another_manager_is_found_and_told_what_was_not_acknowledged() -> None:
    async with TaskHostProcess() as host, FakeDispatcher() as old, FakeDispatcher() as new, AsyncExitStack() as stack:
        old.managers = [old.address, new.address]
        await WorkerParts(host.directory, [old.address]).start(stack)
        version = shell("sleep 1000")
        for task_id in ("task1", "task2"):
            new.assign(version, task_id)
        old.assign(version, "task1")
        await old.ready("task1")
        old.acknowledges = False
        old.assign(version, "task2")
        await old.until(lambda: "task2" in old.statuses, "task2 is reported")
        old.refusal = SwarmError(Code.NOT_LEADER, "not the leader")
        old.end_session()
        await new.ready("task2")
        assert {r.task_id for r in new.hellos[0].reports} == {"task1", "task2"}
        await new.until(lambda: new.batches, "what was not acknowledged comes again")
        assert [r.task_id for r in new.batches[0].reports] == ["task2"]
        for task_id in ("task1", "task2"):
            new.want(task_id, TaskState.SHUTDOWN)
            await new.status(task_id, TaskState.COMPLETE)


async def test_a_complete_set_ends_what_is_not_in_it(bench: Bench) -> None:
    bench.manager.assign(shell("sleep 1000"), "kept")
    bench.manager.assign(shell("sleep 1000"), "dropped")
    await bench.manager.ready("kept")
    await bench.manager.ready("dropped")
    bench.manager.end_session()
    bench.manager.remove("dropped")
    await bench.manager.until(lambda: "dropped" not in bench.worker.runner.statuses, "the task is gone")
    assert bench.worker.runner.statuses["kept"].state is TaskState.RUNNING


async def test_endpoints_pass_through_and_their_watermark_comes_back(bench: Bench) -> None:
    bench.manager.endpoints(EndpointsUpdate(revision=1, complete=True))
    await bench.manager.until(lambda: (1, ()) in bench.manager.applied, "the update is applied")


async def test_a_data_plane_that_missed_endpoints_gets_them_by_a_new_session() -> None:
    planes: list[FakeDataPlane] = []

    def connect() -> FakeDataPlane:
        planes.append(FakeDataPlane())
        return planes[-1]

    async with TaskHostProcess() as host, FakeDispatcher() as manager, AsyncExitStack() as stack:
        await WorkerParts(host.directory, [manager.address], connect_data_plane=connect).start(stack)
        await manager.until(lambda: planes and manager.hellos, "all is connected")
        manager.endpoints(EndpointsUpdate(revision=1, complete=True))
        await manager.until(lambda: (1, ()) in manager.applied, "the update is applied")
        sessions = len(manager.hellos)
        planes[0].told.put_nowait(None)
        await manager.until(lambda: len(manager.hellos) > sessions, "there is a new session")
        assert manager.hellos[-1].endpoints_applied.revision == 0
        planes[-1].told.put_nowait(Applied(revision=5, busy=("t",)))
        await manager.until(lambda: (5, ("t",)) in manager.applied, "the new plane's watermark arrives")


async def test_heartbeats_keep_the_period_that_the_manager_wants() -> None:
    async with TaskHostProcess() as host, FakeDispatcher(heartbeat_s=0.02) as manager, AsyncExitStack() as stack:
        await WorkerParts(host.directory, [manager.address]).start(stack)
        await manager.until(lambda: manager.heartbeats >= 3, "heartbeats arrive")


async def test_a_full_disk_rejects_tasks_and_spares_the_worker(bench: Bench) -> None:
    journal = bench.directory / "worker" / "tasks"
    journal.rmdir()
    journal.write_text("")  # no file can be made below a file
    status = await bench.finished(shell("true"))
    assert status.state is TaskState.REJECTED
    assert status.error.startswith(f"cannot write the task journal {journal}")
    journal.unlink()
    journal.mkdir()
    status = await bench.finished(shell("true"), "later")
    assert status.state is TaskState.COMPLETE
