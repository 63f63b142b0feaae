"""Which changes call for a look, and which do not."""

from __future__ import annotations

import msgspec
import pytest

from manager.orchestrator.backlog import WHOLE, Backlog, Timers, matters_to_tasks
from manager.store.commit import Change
from manager.store.tables import SERVICES, TASKS
from swarmpy.model.service import Endpoint, Service, UpdateStatus
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.states import Availability, NodeState, TaskState, UpdateState
from swarmpy.model.task import Task
from tests.support.cluster import node, service_spec

RUNNING = Task(id="t1", service_id="web", spec_version=1, slot=3, state=TaskState.RUNNING, node_id="a")
SERVICE = Service(id="web", spec=service_spec(), updated_at=10.0)


def with_task(before: Task | None, after: Task | None, backlog: Backlog | None = None) -> Backlog:
    backlog = Backlog() if backlog is None else backlog
    backlog.task_changed(Change(TASKS, before, after))
    return backlog


def changed(task: Task, **fields: object) -> Task:
    return msgspec.structs.replace(task, **fields)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, changed(RUNNING, state=TaskState.NEW)),
        (changed(RUNNING, state=TaskState.NEW), changed(RUNNING, state=TaskState.PENDING)),
        (changed(RUNNING, state=TaskState.STARTING), RUNNING),
        (RUNNING, changed(RUNNING, ready=True)),
        (RUNNING, changed(RUNNING, desired_state=TaskState.REMOVE)),
        (changed(RUNNING, desired_state=TaskState.SHUTDOWN), changed(RUNNING, state=TaskState.SHUTDOWN)),
        (changed(RUNNING, state=TaskState.FAILED), None),
    ],
)
def test_ordinary_progress_calls_for_nothing(before: Task | None, after: Task | None) -> None:
    assert not with_task(before, after)


@pytest.mark.parametrize(
    "after",
    [changed(RUNNING, state=TaskState.FAILED), changed(RUNNING, desired_state=TaskState.SHUTDOWN, desired_reason="x")],
)
def test_a_task_that_leaves_its_slot_calls_for_a_look_at_that_slot(after: Task) -> None:
    backlog = with_task(RUNNING, after)
    assert backlog.take() == ("web", {3})
    assert not backlog


def test_progress_counts_where_a_hand_over_waits_or_an_update_is_under_way() -> None:
    waiting = Backlog()
    waiting.wait(("web", 3), True, None)
    assert with_task(RUNNING, changed(RUNNING, ready=True), waiting).take() == ("web", {3})
    waiting.wait(("web", 3), False, None)
    assert not with_task(RUNNING, changed(RUNNING, ready=True), waiting)
    rolling = Backlog()
    rolling.rolling.add("web")
    assert with_task(None, RUNNING, rolling).take() == ("web", {3})
    rolling.forget("web")
    assert not with_task(None, RUNNING, rolling)


@pytest.mark.parametrize(
    ("after", "whole"),
    [
        (None, True),
        (msgspec.structs.replace(SERVICE, spec=ServiceSpec(name="web")), True),
        (msgspec.structs.replace(SERVICE, updated_at=11.0), True),
        (msgspec.structs.replace(SERVICE, endpoint=Endpoint(vip_index=1), version=9), False),
        (msgspec.structs.replace(SERVICE, update_status=UpdateStatus(state=UpdateState.UPDATING)), False),
    ],
)
def test_only_what_the_user_changes_calls_for_a_look_at_a_whole_service(after: Service | None, whole: bool) -> None:
    backlog = Backlog()
    backlog.slots["web"].add(1)
    backlog.service_changed(Change(SERVICES, SERVICE, after))
    assert backlog.take() == (("web", None) if whole else ("web", {1}))
    assert not backlog


def test_nodes_matter_when_they_come_go_or_change_availability() -> None:
    up = node("a")
    drained = msgspec.structs.replace(up, spec=msgspec.structs.replace(up.spec, availability=Availability.DRAIN))
    unknown = msgspec.structs.replace(up, state=NodeState.UNKNOWN)
    down = msgspec.structs.replace(up, state=NodeState.DOWN)
    assert matters_to_tasks(up, down)
    assert matters_to_tasks(down, unknown)
    assert matters_to_tasks(up, None)
    assert matters_to_tasks(up, drained)
    assert not matters_to_tasks(unknown, up)
    assert not matters_to_tasks(None, up)
    assert not matters_to_tasks(up, msgspec.structs.replace(up, message="beat"))


def test_timers_fire_once_in_order_and_the_last_setting_counts() -> None:
    timers = Timers()
    timers.set(("a", 1), 30.0)
    timers.set(("b", WHOLE), 20.0)
    timers.set(("a", 1), 10.0)
    timers.set(("c", 1), 5.0)
    timers.set(("c", 1), None)
    assert timers.next() == 10.0
    assert timers.due(9.9) == []
    assert timers.due(25.0) == [("a", 1), ("b", WHOLE)]
    assert timers.next() is None
    assert timers.due(100.0) == []
