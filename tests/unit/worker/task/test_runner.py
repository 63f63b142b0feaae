"""The runner with a scripted executor and a clock that stands still: orders of steps, retries, recovery."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import HostPort
from swarmpy.model.states import Runtime, TaskState
from swarmpy.model.task import TaskStatus
from tests.support.clock import FakeClock, settle
from tests.support.dispatcher import service_version
from tests.support.task_executor import ScriptedExecutor
from worker.alarms import Alarms
from worker.assignments import Assignment, Changes
from worker.executor.protocol import Found, Started
from worker.health.checks import Check, CheckKind, HealthPlan
from worker.health.probe import ProbeResult
from worker.task.journal import MemoryJournal, TaskRecord
from worker.task.outcome import Exit
from worker.task.runner import TaskRunner


@dataclass
class Desk:
    clock: FakeClock
    executor: ScriptedExecutor
    journal: MemoryJournal
    runner: TaskRunner

    def status(self, task_id: str = "a") -> TaskStatus:
        return self.runner.statuses[task_id]

    async def put(self, *assignments: Assignment) -> None:
        self.runner.apply(Changes(put=assignments))
        await settle()

    async def want(self, desired: TaskState, task_id: str = "a", withdrawn_at: int = 0) -> None:
        held = self.runner.assignments[task_id]
        changed = msgspec.structs.replace(held, desired_state=desired, withdrawn_at=withdrawn_at)
        await self.put(changed)

    async def acknowledge_all(self) -> None:
        while (batch := self.runner.reports.take()) is not None:
            self.runner.reports.acknowledge(batch[0])
        await settle()


HERE = "10.0.0.9"
PORTS = (HostPort(target=80, port=20_001),)


def assignment(task_id: str = "a", *, row_state: TaskState = TaskState.ASSIGNED, **template: Any) -> Assignment:
    version = service_version(command=("x",), **template)
    return Assignment(id=task_id, service_id=version.service_id, slot=1, version=version, row_state=row_state)


@asynccontextmanager
async def open_desk(*records: TaskRecord, journal: MemoryJournal | None = None, **found: Found) -> AsyncIterator[Desk]:
    clock, executor = FakeClock(), ScriptedExecutor()
    journal = MemoryJournal() if journal is None else journal
    for record in records:
        journal.save(record)
    executor.found = found
    alarms = Alarms(clock)
    runner = TaskRunner(
        executors={Runtime.PROCESS: executor},
        journal=journal,
        alarms=alarms,
        clock=clock,
        rng=random.Random(1),
        boot_id="boot",
        data_addr=HERE,
    )
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(alarms.run()), group.create_task(runner.run())]
        await settle()
        yield Desk(clock, executor, journal, runner)
        for task in running:
            task.cancel()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as desk:
        yield desk


def record(state: TaskState, **more: Any) -> TaskRecord:
    status = TaskStatus(state=state, pid=9, ready=state == TaskState.RUNNING)
    return TaskRecord(**{"assignment": assignment(), "status": status, "boot_id": "boot", **more})


FOUND = Found(Started(9, 1))


async def test_a_task_goes_its_way_one_operation_at_a_time(desk: Desk) -> None:
    await desk.put(assignment())
    assert desk.executor.calls == ["prepare a", "start a"]
    assert (desk.status().state, desk.status().pid, desk.status().ready) == (TaskState.RUNNING, 42, True)
    assert desk.journal.records["a"].status == desk.status()
    desk.executor.exit("a", 0)
    await settle()
    assert (desk.status().state, desk.status().ready) == (TaskState.COMPLETE, False)
    assert desk.executor.calls[2:] == ["release a"]


async def test_the_manager_sees_one_status_of_a_quick_start(desk: Desk) -> None:
    await desk.put(assignment())
    batch = desk.runner.reports.take()
    assert batch is not None
    assert [s.state for s in batch[1].values()] == [TaskState.RUNNING]


async def test_temporary_errors_are_retried_and_said(desk: Desk) -> None:
    desk.executor.errors["start"] = [SwarmError(Code.UNAVAILABLE, "no task host")] * 3
    await desk.put(assignment())
    assert desk.status().message == "waiting: no task host"
    await desk.clock.advance(30.0)
    assert desk.status().state is TaskState.RUNNING
    assert desk.executor.calls.count("start a") == 4


async def test_a_task_that_is_retried_can_be_stopped(desk: Desk) -> None:
    desk.executor.errors["start"] = [SwarmError(Code.UNAVAILABLE, "no task host")] * 100
    await desk.put(assignment())
    await desk.want(TaskState.SHUTDOWN)
    assert desk.status().state is TaskState.SHUTDOWN


async def test_fatal_errors_end_the_task(desk: Desk) -> None:
    desk.executor.errors["prepare"] = [SwarmError(Code.INVALID_ARGUMENT, "no such user")]
    await desk.put(assignment())
    assert (desk.status().state, desk.status().error) == (TaskState.REJECTED, "no such user")
    desk.executor.errors["start"] = [SwarmError(Code.PERMISSION_DENIED, "may not")]
    await desk.put(assignment("b"))
    assert (desk.status("b").state, desk.status("b").error) == (TaskState.FAILED, "may not")


async def test_an_operating_system_error_ends_its_task_only(desk: Desk) -> None:
    desk.executor.errors["prepare"] = [OSError(5, "Input/output error")]
    await desk.put(assignment())
    assert "Input/output error" in desk.status().error
    await desk.put(assignment("b"))
    assert desk.status("b").state is TaskState.RUNNING


async def test_a_stop_signals_waits_and_kills(desk: Desk) -> None:
    desk.executor.answers_signals = False
    await desk.put(assignment(stop_grace_period_s=3.0))
    await desk.want(TaskState.SHUTDOWN)
    assert desk.executor.calls[-1] == "signal-15 a"
    await desk.clock.advance(2.9)
    assert desk.executor.calls[-1] == "signal-15 a"
    await desk.clock.advance(0.2)
    assert desk.executor.calls[-1] == "signal-9 a"
    desk.executor.exit("a", -9)
    await settle()
    assert (desk.status().state, desk.status().exit_code) == (TaskState.SHUTDOWN, -9)


async def test_a_ready_task_with_ports_is_drained_first(desk: Desk) -> None:
    await desk.put(assignment(ports=(80,), drain_timeout_s=5.0), assignment("b", ports=(80,), drain_timeout_s=5.0))
    await desk.want(TaskState.SHUTDOWN, withdrawn_at=7)
    await desk.want(TaskState.SHUTDOWN, "b", withdrawn_at=9)
    desk.runner.drain(7, ["a"])
    await settle()
    assert desk.status().state is TaskState.RUNNING
    desk.runner.drain(8, [])
    await settle()
    assert (desk.status().state, desk.status("b").state) == (TaskState.SHUTDOWN, TaskState.RUNNING)
    await desk.clock.advance(5.0)
    assert desk.status("b").state is TaskState.SHUTDOWN


async def test_a_removed_task_goes_once_its_end_is_acknowledged(desk: Desk) -> None:
    await desk.put(assignment())
    desk.runner.apply(Changes(removed=("a",)))
    await settle()
    assert desk.status().state is TaskState.SHUTDOWN
    assert "remove a" not in desk.executor.calls
    assert "a" not in desk.runner.assignments
    await desk.acknowledge_all()
    assert desk.executor.calls[-1] == "remove a"
    assert not desk.runner.statuses
    assert not desk.journal.records


async def test_cleaning_up_is_tried_again(desk: Desk) -> None:
    desk.executor.errors["release"] = [SwarmError(Code.UNAVAILABLE, "busy"), OSError(16, "busy")]
    await desk.put(assignment())
    desk.executor.exit("a", 0)
    await desk.clock.advance(10.0)
    assert desk.executor.calls.count("release a") == 3


HEALTH = Check(CheckKind.HTTP, path="/health", interval_s=10.0, retries=2)
READY = Check(CheckKind.HTTP, path="/ready", interval_s=10.0, retries=1)


async def test_running_waits_for_the_first_pass_of_the_health_check(desk: Desk) -> None:
    desk.executor.plan = HealthPlan(health=HEALTH)
    desk.executor.probes["/health"] = ProbeResult(False, "warming up")
    await desk.put(assignment())
    assert (desk.status().state, desk.status().ready) == (TaskState.STARTING, False)
    desk.executor.probes["/health"] = ProbeResult(True)
    await desk.clock.advance(1.0)
    assert (desk.status().state, desk.status().ready) == (TaskState.RUNNING, True)
    desk.executor.probes["/health"] = ProbeResult(False, "status 500")
    await desk.clock.advance(10.0)
    assert desk.status().state is TaskState.RUNNING
    await desk.clock.advance(10.0)
    assert (desk.status().state, desk.status().error) == (TaskState.FAILED, "unhealthy: status 500")


async def test_readiness_changes_readiness_only(desk: Desk) -> None:
    desk.executor.plan = HealthPlan(readiness=READY)
    desk.executor.probes["/ready"] = ProbeResult(False, "loading")
    await desk.put(assignment())
    status = desk.status()
    assert (status.state, status.ready, status.not_ready_reason) == (TaskState.RUNNING, False, "loading")
    desk.executor.probes["/ready"] = ProbeResult(True)
    await desk.clock.advance(10.0)
    assert (desk.status().ready, desk.status().not_ready_reason) == (True, "")
    desk.executor.probes["/ready"] = ProbeResult(False, "busy")
    await desk.clock.advance(100.0)
    status = desk.status()
    assert (status.state, status.ready, status.not_ready_reason) == (TaskState.RUNNING, False, "busy")
    assert not any(c.startswith("signal") for c in desk.executor.calls)


async def test_an_exit_that_comes_before_the_starts_answer_counts(desk: Desk) -> None:
    start = desk.executor.start

    async def quick(*args: Any) -> Started:
        started = await start(*args)
        desk.executor.exit("a", 3)
        return started

    desk.executor.start = quick  # type: ignore[method-assign, assignment]  # this one call answers late
    await desk.put(assignment())
    assert (desk.status().state, desk.status().exit_code) == (TaskState.FAILED, 3)


async def test_a_running_task_is_taken_over() -> None:
    async with open_desk(record(TaskState.RUNNING), a=FOUND) as desk:
        assert desk.executor.calls == ["adopt a"]
        assert (desk.status().state, desk.status().ready, desk.status().pid) == (TaskState.RUNNING, True, 9)


async def test_nothing_happens_to_a_recovered_task_before_the_inventory() -> None:
    async with open_desk(record(TaskState.READY), a=FOUND) as desk:
        assert desk.executor.calls == ["adopt a"]
        assert desk.status().state is TaskState.RUNNING


async def test_a_task_that_was_never_started_is_started_now() -> None:
    async with open_desk(record(TaskState.READY)) as desk:
        assert desk.executor.calls == ["adopt a", "start a"]


async def test_an_exit_during_the_workers_absence_is_known() -> None:
    async with open_desk(record(TaskState.RUNNING), a=Found(Started(9, 1), Exit(4, 1.0))) as desk:
        assert (desk.status().state, desk.status().exit_code) == (TaskState.FAILED, 4)


async def test_a_running_task_that_nobody_knows_is_lost() -> None:
    async with open_desk(record(TaskState.RUNNING)) as desk:
        assert desk.status().state is TaskState.FAILED
        assert desk.status().error.startswith("exit status lost")


async def test_a_stop_that_was_under_way_goes_on() -> None:
    stopping = msgspec.structs.replace(assignment(), desired_state=TaskState.SHUTDOWN)
    async with open_desk(record(TaskState.RUNNING, assignment=stopping), a=FOUND) as desk:
        assert desk.status().state is TaskState.SHUTDOWN


async def test_another_boots_tasks_have_failed() -> None:
    async with open_desk(record(TaskState.RUNNING, boot_id="before")) as desk:
        assert (desk.status().state, desk.status().error) == (TaskState.FAILED, "node rebooted")


@pytest.mark.parametrize(
    ("ports", "data_addr", "lives"),
    [
        pytest.param(PORTS, "10.0.0.1", False, id="it listens where the node was"),
        pytest.param(PORTS, HERE, True, id="it listens where the node is"),
        pytest.param(PORTS, "", True, id="an earlier release did not say where"),
        pytest.param((), "10.0.0.1", True, id="it listens nowhere"),
    ],
)
async def test_a_task_does_not_outlive_the_address_it_listens_at(
    ports: tuple[HostPort, ...], data_addr: str, lives: bool
) -> None:
    status = TaskStatus(state=TaskState.RUNNING, pid=9, ready=True, host_ports=ports)
    async with open_desk(record(TaskState.RUNNING, status=status, data_addr=data_addr), a=FOUND) as desk:
        assert desk.executor.calls[1:2] == ([] if lives else ["signal-15 a"])
        found = desk.status()
        assert (found.state, found.ready) == ((TaskState.RUNNING, True) if lives else (TaskState.FAILED, False))
        reason = f"unhealthy: it listens at {data_addr}, and the node is at {HERE} now"
        assert found.error == ("" if lives else reason)
        assert desk.journal.records["a"].data_addr == data_addr


async def test_where_a_task_listens_is_remembered(desk: Desk) -> None:
    await desk.put(assignment())
    assert desk.journal.records["a"].data_addr == HERE


async def test_a_stray_process_is_stopped_killed_and_removed() -> None:
    async with open_desk(stray=FOUND) as desk:
        assert desk.executor.calls == ["signal-15 stray", "remove stray"]
    async with open_desk(gone=Found(Started(9, 1), Exit(0, 1.0))) as desk:
        assert desk.executor.calls == ["remove gone"]


async def test_left_overs_are_swept_but_not_what_is_held(desk: Desk) -> None:
    await desk.put(assignment())
    desk.executor.leftovers = ("a", "old")
    desk.executor.tell_inventory({"a": FOUND})
    await settle()
    assert desk.executor.swept == ["old"]


async def test_what_the_manager_knows_as_started_and_we_do_not_is_lost(desk: Desk) -> None:
    await desk.put(assignment(row_state=TaskState.RUNNING))
    assert desk.status().state is TaskState.FAILED
    assert desk.status().error.startswith("lost: this node has no record")
    assert desk.executor.calls == ["release a"]


async def test_a_stopped_task_without_a_record_is_not_held(desk: Desk) -> None:
    await desk.put(assignment(row_state=TaskState.FAILED))
    assert not desk.runner.statuses


async def test_a_task_host_that_comes_back_without_a_task_has_lost_it(desk: Desk) -> None:
    await desk.put(assignment())
    desk.executor.tell_inventory({})
    await settle()
    assert desk.status().error == "exit status lost: nothing on this node knows its process any more"


class FullJournal(MemoryJournal):
    """A journal whose disk can be full."""

    full: SwarmError | None = None

    def save(self, record: TaskRecord) -> None:
        if self.full is not None:
            raise self.full
        super().save(record)


async def test_a_full_disk_rejects_before_the_start_and_waits_after_the_end() -> None:
    journal = FullJournal()
    async with open_desk(journal=journal) as desk:
        await desk.put(assignment("ran"))
        journal.full = SwarmError(Code.RESOURCE_EXHAUSTED, "cannot write the task journal: no space left")
        await desk.put(assignment("late"))
        assert (desk.status("late").state, desk.status("late").error) == (TaskState.REJECTED, journal.full.message)
        desk.executor.exit("ran", 0)
        await settle()
        assert desk.status("ran").state is TaskState.COMPLETE
        assert "release ran" not in desk.executor.calls  # the exit status is in the task host only
        journal.full = None
        await desk.clock.advance(20.0)
        assert "release ran" in desk.executor.calls
        assert journal.records["ran"].status.state is TaskState.COMPLETE


async def test_a_full_disk_keeps_no_task_that_goes() -> None:
    journal = FullJournal()
    async with open_desk(journal=journal) as desk:
        await desk.put(assignment("ran"))
        journal.full = SwarmError(Code.RESOURCE_EXHAUSTED, "cannot write the task journal: no space left")
        desk.executor.exit("ran", 0)
        await settle()
        assert "release ran" not in desk.executor.calls
        desk.runner.apply(Changes(removed=("ran",)))
        await desk.clock.advance(20.0)
        assert desk.executor.calls[-1] == "release ran"
        await desk.acknowledge_all()
        assert desk.executor.calls[-1] == "remove ran"
        assert "ran" not in journal.records
