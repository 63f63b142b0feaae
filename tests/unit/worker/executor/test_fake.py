from __future__ import annotations

import asyncio
import random

from swarmpy.model.states import Runtime, TaskState
from tests.support.clock import FakeClock, settle
from tests.unit.worker.task.test_runner import assignment
from worker.alarms import Alarms
from worker.assignments import Changes
from worker.executor.fake import FakeExecutor
from worker.task.journal import MemoryJournal
from worker.task.runner import TaskRunner


async def test_simulated_tasks_run_at_once_and_cost_no_asyncio_task() -> None:
    clock = FakeClock()
    executor = FakeExecutor(clock.now)
    runner = TaskRunner(
        executors={Runtime.PROCESS: executor},
        journal=MemoryJournal(),
        alarms=Alarms(clock),
        clock=clock,
        rng=random.Random(1),
        boot_id="boot",
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(runner.run())
        await settle()
        before = len(asyncio.all_tasks())
        runner.apply(Changes(put=tuple(assignment(f"t{n}", ports=(80,)) for n in range(50))))
        await settle()
        assert all(s.state is TaskState.RUNNING and s.ready for s in runner.statuses.values())
        assert len({s.host_ports for s in runner.statuses.values()}) == 50
        assert len(asyncio.all_tasks()) == before
        executor.exit("t0", 3)
        executor.exit("t0", 4)
        runner.apply(Changes(removed=("t1",)))
        await settle()
        assert (runner.statuses["t0"].state, runner.statuses["t0"].exit_code) == (TaskState.FAILED, 3)
        assert (runner.statuses["t1"].state, runner.statuses["t1"].exit_code) == (TaskState.SHUTDOWN, -15)
        assert len(executor.running) == 48
        running.cancel()
