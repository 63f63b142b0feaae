"""Waiting for a service: changes as they come decide, never the passing of time alone."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from swarmpy.client import Client
from swarmpy.client.convergence import Convergence, Progress, state_word
from swarmpy.client.results import Change
from swarmpy.client.waiting import converge, tasks_gone
from swarmpy.errors import SwarmError
from swarmpy.model.service import Service, ServiceVersion, UpdateStatus
from swarmpy.model.spec import ContainerSpec, Placement, ServiceMode, ServiceSpec, TaskSpec
from swarmpy.model.states import Runtime, TaskState, UpdateState
from swarmpy.model.task import Task
from tests.support.control import NOW, FakeCluster

TEMPLATE = TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(args=("sleep", "1")))


def make_service(replicas: int = 2, **fields: object) -> Service:
    spec = ServiceSpec(name="web", task=TEMPLATE, mode=ServiceMode(replicas=replicas))
    return msgspec.structs.replace(Service(id="s", spec=spec, version=5, updated_at=NOW), **fields)


def make_task(slot: int, state: TaskState = TaskState.RUNNING, **fields: object) -> Task:
    task = Task(id=f"t{slot}", service_id="s", spec_version=1, slot=slot, version=6, state=state, ready=True)
    return msgspec.structs.replace(task, **fields)


def progress_of(service: Service, *tasks: Task, rollback: bool = False) -> Progress:
    state = Convergence(service, rollback=rollback)
    state.reset(service, tasks)
    return state.progress()


def test_every_slot_must_run_and_be_ready() -> None:
    assert not progress_of(make_service()).converged
    assert not progress_of(make_service(), make_task(1)).converged
    assert progress_of(make_service(), make_task(1), make_task(2)).converged
    unready = make_task(2, ready=False, not_ready_reason="GET /healthz answered 503")
    half = progress_of(make_service(), make_task(1), unready)
    assert (half.done, half.converged, half.slots[1].reason) == (1, False, "GET /healthz answered 503")


def test_a_slot_too_many_is_not_converged_until_it_is_told_to_stop() -> None:
    tasks = [make_task(1), make_task(2), make_task(3)]
    assert not progress_of(make_service(), *tasks).converged
    leaving = make_task(3, desired_state=TaskState.REMOVE)
    assert progress_of(make_service(), make_task(1), make_task(2), leaving).converged


def test_reasons_come_from_waiting_failing_and_trying_again() -> None:
    waiting = make_task(1, TaskState.PENDING, ready=False, pending_reason="no suitable node")
    assert progress_of(make_service(1), waiting).slots[0].reason == "no suitable node"
    failed = make_task(1, TaskState.FAILED, ready=False, desired_state=TaskState.SHUTDOWN, error="exit status 3")
    assert progress_of(make_service(1), failed).slots[0].reason == "exit status 3"
    again = make_task(1, TaskState.STARTING, id="next", ready=False, created_at=NOW + 1)
    assert state_word(progress_of(make_service(1), failed, again).slots[0]) == "trying again: exit status 3"
    assert progress_of(make_service(1, allocation_problem="no port is free")).note == "no port is free"


def test_tasks_of_an_older_template_are_to_be_replaced_unless_only_their_placement_differs() -> None:
    service = make_service(1, spec_version=2)
    old = progress_of(service, make_task(1))
    assert (old.converged, old.slots[0].reason) == (False, "to be replaced")
    for template, stays in (
        (msgspec.structs.replace(TEMPLATE, placement=Placement(constraints=("node.role==worker",))), True),
        (msgspec.structs.replace(TEMPLATE, force_update=1), False),
    ):
        state = Convergence(service)
        state.reset(service, [make_task(1)])
        assert set(state.unknown_versions()) == {1}
        state.learn(ServiceVersion(id="s.1", service_id="s", number=1, name="web", task=template))
        assert state.progress().converged is stays


def test_an_update_that_pauses_or_rolls_back_is_a_failure_of_this_update_only() -> None:
    paused = UpdateStatus(state=UpdateState.PAUSED, started_at=NOW, message="update paused due to t1")
    state = Convergence(make_service(1))
    state.apply([Change(object=make_service(1, version=6, update_status=paused))])
    assert state.progress().failure == "service web: update paused due to t1"
    assert progress_of(make_service(1, update_status=paused)).failure == "", "it was so before the update"
    earlier = msgspec.structs.replace(paused, started_at=NOW - 60)
    state.apply([Change(object=make_service(1, version=7, update_status=earlier))])
    assert state.progress().failure == ""
    back = UpdateStatus(state=UpdateState.ROLLBACK_COMPLETED, started_at=NOW, message="t1 failed")
    for rollback, failure in ((False, "service web was rolled back: t1 failed"), (True, "")):
        state = Convergence(make_service(1), rollback=rollback)
        state.apply([Change(object=make_service(1, version=8, update_status=back))])
        assert state.progress().failure == failure


def test_what_is_older_or_of_others_changes_nothing() -> None:
    state = Convergence(make_service(1))
    state.reset(make_service(1), [make_task(1)])
    other = make_task(1, TaskState.FAILED, id="x", service_id="other")
    state.apply([Change(object=make_service(9, version=4)), Change(object=make_task(1, TaskState.NEW, version=2))])
    state.apply([Change(object=other)])
    assert state.progress().converged
    state.apply([Change(object=make_task(1), removed=True)])
    assert not state.progress().converged
    state.apply([Change(object=make_service(1), removed=True)])
    assert state.progress().failure == "service web was removed"


def by_hand(cluster: FakeCluster, service: Service) -> None:
    """Leave the tasks to the test."""


async def test_converge_follows_the_tasks(client: Client, cluster: FakeCluster) -> None:
    cluster.settle = by_hand
    service = (await client.services.create(make_service().spec)).service
    seen: list[tuple[int, bool]] = []

    def show(progress: Progress) -> None:
        seen.append((progress.done, progress.converged))
        if len(progress.slots) < progress.wanted:
            cluster.run_task(cluster.services[service.id], len(progress.slots) + 1)

    await converge(client, service, monitor_s=0.0, show=show)
    assert seen[0] == (0, False)
    assert seen[-1] == (2, True)


async def test_converge_starts_over_when_the_watch_is_compacted(client: Client, cluster: FakeCluster) -> None:
    service = (await client.services.create(make_service().spec)).service
    cluster.refused_watches = 2
    shown: list[Progress] = []
    async with asyncio.timeout(10):
        await converge(client, service, monitor_s=0.05, show=shown.append)
    assert sum(method == "Watch" for method, _ in cluster.calls) == 3
    assert shown[-1].converged


async def test_converge_ends_early_once_the_manager_has_watched_the_update(
    client: Client, cluster: FakeCluster
) -> None:
    service = (await client.services.create(make_service().spec)).service

    def show(progress: Progress) -> None:
        if progress.converged and not progress.verified:
            stored = cluster.services[service.id]
            done = UpdateStatus(state=UpdateState.COMPLETED, started_at=stored.updated_at, completed_at=NOW)
            cluster.put(msgspec.structs.replace(stored, update_status=done))

    async with asyncio.timeout(10):
        await converge(client, service, monitor_s=3600.0, show=show)


async def test_converge_raises_what_ended_the_update(client: Client, cluster: FakeCluster) -> None:
    cluster.settle = by_hand
    service = (await client.services.create(make_service().spec)).service

    def remove(progress: Progress) -> None:
        if not progress.failure:
            cluster.remove("web")

    with pytest.raises(SwarmError, match="service web was removed"):
        await converge(client, service, monitor_s=0.0, show=remove)


async def test_tasks_gone_waits_for_the_last_one(client: Client, cluster: FakeCluster) -> None:
    service = (await client.services.create(make_service(3).spec)).service
    tasks = list(cluster.tasks.values())
    left: list[int] = []

    def show(count: int) -> None:
        left.append(count)
        if count:
            cluster.put(tasks[count - 1], removed=True)

    async with asyncio.timeout(10):
        await tasks_gone(client, [service.id], show=show)
        await tasks_gone(client, [service.id])
        await tasks_gone(client, [])
    assert left == [3, 2, 1, 0]
