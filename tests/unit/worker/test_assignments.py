from __future__ import annotations

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.network import NetworkAddress, NetworkRow
from swarmpy.model.states import TaskState
from tests.support.dispatcher import service_version
from worker.assignments import AssignedRow, Assignment, Batch, Changes, Known, OnNetwork, diff, resolve

VERSION = service_version(name="web")


def row(task_id: str, desired: TaskState = TaskState.RUNNING, withdrawn_at: int = 0) -> AssignedRow:
    return AssignedRow(task_id, VERSION.service_id, 1, 1, desired, withdrawn_at=withdrawn_at)


def changes(held: dict[str, Assignment], batch: Batch) -> Changes:
    tasks, _ = resolve(batch, Known({VERSION.id: VERSION}))
    return diff(held, batch, tasks)


def held(*rows: AssignedRow) -> dict[str, Assignment]:
    tasks, _ = resolve(Batch(tasks=rows), Known({VERSION.id: VERSION}))
    return {t.id: t for t in tasks}


def test_an_incremental_batch_changes_only_what_it_names() -> None:
    before = held(row("a"), row("b"))
    found = changes(before, Batch(tasks=(row("c"),), removed_tasks=("b", "unknown")))
    assert [t.id for t in found.put] == ["c"]
    assert found.removed == ("b",)


def test_a_complete_batch_removes_what_it_does_not_name() -> None:
    batch = Batch(complete=True, tasks=(row("a"),), versions=(VERSION,))
    assert changes(held(row("a"), row("b")), batch) == Changes((), ("b",))


def test_a_task_is_put_only_when_something_changed() -> None:
    before = held(row("a"))
    assert changes(before, Batch(tasks=(row("a"),))) == Changes()
    (stopped,) = changes(before, Batch(tasks=(row("a", TaskState.SHUTDOWN, 7),))).put
    assert (stopped.desired_state, stopped.withdrawn_at, stopped.must_stop) == (TaskState.SHUTDOWN, 7, True)


def test_a_desired_state_never_moves_back() -> None:
    before = held(row("a", TaskState.SHUTDOWN, 7))
    assert changes(before, Batch(tasks=(row("a", TaskState.RUNNING),))) == Changes()


def test_the_revision_of_a_withdrawal_is_the_first_one() -> None:
    before = held(row("a", TaskState.SHUTDOWN, 7))
    assert changes(before, Batch(tasks=(row("a", TaskState.SHUTDOWN, 9),))) == Changes()
    (removed,) = changes(before, Batch(tasks=(row("a", TaskState.REMOVE, 9),))).put
    assert removed.withdrawn_at == 7


def test_a_jobs_desired_complete_lets_it_run() -> None:
    (task,) = held(row("a", TaskState.COMPLETE)).values()
    assert not task.must_stop


def test_a_version_is_remembered_until_it_is_removed() -> None:
    second = service_version(name="web", number=2)
    _, known = resolve(Batch(versions=(second,)), Known({VERSION.id: VERSION}))
    assert set(known.versions) == {VERSION.id, second.id}
    _, known = resolve(Batch(removed_versions=(VERSION.id,)), known)
    assert set(known.versions) == {second.id}
    _, known = resolve(Batch(complete=True, versions=(VERSION,)), known)
    assert set(known.versions) == {VERSION.id}


def test_a_task_without_its_version_asks_for_a_complete_set() -> None:
    with pytest.raises(SwarmError, match=r"task a without its service version service-web\.1") as caught:
        resolve(Batch(tasks=(row("a"),)), Known())
    assert caught.value.code is Code.CORRUPT


def test_a_task_comes_with_the_networks_that_it_is_on() -> None:
    network = NetworkRow(id="n1", name="front", subnet="10.0.1.0/24", vni=5000)
    task = AssignedRow("a", VERSION.service_id, 1, 1, TaskState.RUNNING, networks=(NetworkAddress("n1", "10.0.1.9"),))
    batch = Batch(tasks=(task,), networks=(network,), removed_networks=("n1",))
    (found,), known = resolve(batch, Known({VERSION.id: VERSION}))
    assert found.networks == (OnNetwork(network, "10.0.1.9"),)
    assert known.networks == {}, "forgotten only after the tasks of the same batch"
    with pytest.raises(SwarmError, match="task a without its network n1"):
        resolve(Batch(tasks=(task,)), known)
