"""Which rows are deleted, and which never are."""

from __future__ import annotations

import msgspec
import pytest

from manager.orchestrator.history import can_be_removed, expired, unused_versions
from swarmpy.model.node import Node
from swarmpy.model.service import Service, ServiceVersion, UpdateStatus
from swarmpy.model.states import NodeState, TaskState, UpdateState
from swarmpy.model.task import Task
from tests.support.cluster import node, service_spec

NODES: dict[str, Node] = {"up": node("up"), "down": node("down", state=NodeState.DOWN)}
SERVICE = Service(id="web", spec=service_spec(), spec_version=3)


def task(number: int, state: TaskState, desired: TaskState = TaskState.SHUTDOWN, where: str = "up") -> Task:
    return Task(
        id=f"t{number}",
        service_id="web",
        spec_version=1,
        slot=1,
        created_at=float(number),
        state=state,
        desired_state=desired,
        node_id=where,
    )


@pytest.mark.parametrize(
    ("state", "where", "expected"),
    [
        (TaskState.SHUTDOWN, "up", True),
        (TaskState.RUNNING, "up", False),
        (TaskState.RUNNING, "down", True),
        (TaskState.RUNNING, "removed", True),
        (TaskState.SHUTDOWN, "", True),
    ],
)
def test_a_removed_task_goes_once_nothing_can_be_heard_of_it(state: TaskState, where: str, expected: bool) -> None:
    assert can_be_removed(task(1, state, TaskState.REMOVE, where), NODES.get) is expected
    assert not can_be_removed(task(1, state, TaskState.SHUTDOWN, where), NODES.get)


def test_the_oldest_ended_tasks_beyond_the_limit_go() -> None:
    ended = [task(number, TaskState.FAILED) for number in range(1, 8)]
    tasks = [*ended, task(8, TaskState.RUNNING, TaskState.RUNNING)]
    assert [t.id for t in expired(tasks, SERVICE, 5, NODES.get)] == ["t1", "t2", "t3"]
    assert expired(tasks, SERVICE, 8, NODES.get) == []
    assert expired(tasks, SERVICE, -1, NODES.get) == []


def test_the_youngest_and_what_may_still_run_stay_whatever_the_limit() -> None:
    tasks = [
        task(1, TaskState.RUNNING, where="down"),
        task(2, TaskState.RUNNING, where="removed"),
        task(3, TaskState.RUNNING),
        task(4, TaskState.COMPLETE),
        task(5, TaskState.FAILED, TaskState.RUNNING),
    ]
    assert [t.id for t in expired(tasks, SERVICE, 0, NODES.get)] == ["t2", "t4"]


@pytest.mark.parametrize("state", [UpdateState.UPDATING, UpdateState.PAUSED])
def test_an_update_keeps_what_it_needs_to_see(state: UpdateState) -> None:
    tasks = [task(1, TaskState.SHUTDOWN), task(2, TaskState.RUNNING, TaskState.RUNNING)]
    updating = msgspec.structs.replace(SERVICE, update_status=UpdateStatus(state=state))
    assert expired(tasks, updating, 0, NODES.get) == []
    assert [t.id for t in expired(tasks, SERVICE, 0, NODES.get)] == ["t1"]


def version(number: int) -> ServiceVersion:
    return ServiceVersion(id=f"web.{number}", service_id="web", number=number, name="web", task=service_spec().task)


def test_versions_stay_for_tasks_for_the_present_and_for_a_rollback() -> None:
    versions = [version(number) for number in (4, 1, 2, 3)]
    service = msgspec.structs.replace(SERVICE, spec_version=4)
    assert [v.number for v in unused_versions(service, versions, {1})] == [2]
    assert [v.number for v in unused_versions(service, versions, set())] == [1, 2]
    assert [v.number for v in unused_versions(None, versions, {2})] == [1, 3, 4]
