"""Tasks that a user started on the node, beside those of the cluster: unseen by it, and able to run again."""

from __future__ import annotations

import msgspec

from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from tests.support.clock import settle
from tests.unit.worker.task.test_runner import Desk, assignment, open_desk
from worker.assignments import Assignment, Changes


def local(task_id: str = "a", *, run: int = 1, desired: TaskState = TaskState.RUNNING) -> Assignment:
    return msgspec.structs.replace(assignment(task_id), local=True, run=run, desired_state=desired)


def listen(desk: Desk) -> list[tuple[str, TaskState]]:
    heard: list[tuple[str, TaskState]] = []

    def hear(task_id: str, status: TaskStatus) -> None:
        heard.append((task_id, status.state))

    desk.runner.on_local = hear
    return heard


async def test_the_cluster_hears_nothing_of_it() -> None:
    async with open_desk() as desk:
        heard = listen(desk)
        await desk.put(local("a"), assignment("b"))
        assert heard[-1] == ("a", TaskState.RUNNING)
        assert set(desk.runner.assignments) == set(desk.runner.statuses) == {"b"}
        assert set(desk.runner.local_statuses) == {"a"}
        batch = desk.runner.reports.take()
        assert batch is not None
        assert set(batch[1]) == {"b"}


async def test_it_runs_again_after_it_has_stopped() -> None:
    async with open_desk() as desk:
        heard = listen(desk)
        await desk.put(local(run=1))
        assert not desk.runner.may_run_again("a")
        desk.executor.exit("a", 3)
        await settle()
        assert heard[-1] == ("a", TaskState.FAILED)
        assert desk.runner.may_run_again("a")
        await desk.put(local(run=2))
        assert [state for _, state in heard if state >= TaskState.RUNNING] == [
            TaskState.RUNNING,
            TaskState.FAILED,
            TaskState.RUNNING,
        ]


async def test_a_removed_one_is_gone_without_anybody_acknowledging_it() -> None:
    async with open_desk() as desk:
        await desk.put(local())
        desk.executor.exit("a", 0)
        await settle()
        desk.runner.apply(Changes(removed=("a",)))
        await settle()
        assert desk.runner.local_statuses == {}
        assert desk.journal.records == {}
        assert desk.runner.may_run_again("a")


async def test_another_worker_knows_a_stopped_one_and_can_remove_it() -> None:
    async with open_desk() as desk:
        await desk.put(local())
        desk.executor.exit("a", 0)
        await settle()
        journal = desk.journal
    async with open_desk(journal=journal) as desk:
        assert desk.runner.local_statuses["a"].state is TaskState.COMPLETE
        assert desk.runner.reports.take() is None
        desk.runner.apply(Changes(removed=("a",)))
        await settle()
        assert desk.journal.records == {}
