"""Laws of the orchestrator: it converges, it takes no more out of service than allowed, any leader can go on."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.orchestrator.restart import MAX_BACKOFF_S, backoff_s
from manager.store.tables import NODES, TASKS
from swarmpy.model.spec import RestartPolicy, TaskSpec, UpdateConfig
from swarmpy.model.states import Availability, FailureAction, NodeState, TaskState, UpdateOrder, UpdateState
from swarmpy.model.task import Task
from tests.support.cluster import Does, node, service_spec
from tests.support.planning import Planning

NODE_NAMES = ("a", "b", "c")


def cluster(**options: object) -> Planning:
    planning = Planning(**options)  # type: ignore[arg-type]  # passed on as they are
    for name in NODE_NAMES:
        planning.tables.create(NODES, node(name))
    return planning


def set_node(
    planning: Planning, name: str, state: NodeState = NodeState.READY, availability: Availability = Availability.ACTIVE
) -> None:
    row = planning.tables.get(NODES, name)
    assert row is not None
    spec = msgspec.structs.replace(row.spec, availability=availability)
    planning.tables.update(NODES, msgspec.structs.replace(row, state=state, spec=spec))


def serving_slots(planning: Planning) -> set[int]:
    return {task.slot for task in planning.tasks() if task.is_endpoint}


def assert_at_rest(planning: Planning) -> None:
    """Exactly one task of the present version serves in each of `replicas` slots, and nothing else runs."""
    service = planning.service()
    alive = [task for task in planning.tasks() if not task.state.is_stopped]
    assert len({task.slot for task in alive}) == len(alive)
    assert len(alive) == service.spec.mode.replicas
    assert all(task.is_endpoint for task in alive)
    assert {task.spec_version for task in alive} <= {service.spec_version}


@given(st.integers(0, 40), st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=25))
def test_backoff_grows_to_its_bound_and_is_the_same_when_asked_again(in_a_row: int, task_id: str) -> None:
    delay_s = backoff_s(in_a_row, task_id)
    assert delay_s == backoff_s(in_a_row, task_id)
    assert 0 <= delay_s <= MAX_BACKOFF_S
    assert (delay_s == 0) == (in_a_row == 0)
    assert in_a_row < 6 or delay_s >= MAX_BACKOFF_S / 2


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_whatever_happens_a_service_ends_with_its_replicas_and_nothing_else(data: st.DataObject) -> None:
    order = data.draw(st.sampled_from(UpdateOrder))
    parallelism = data.draw(st.integers(0, 3))
    update = UpdateConfig(order=order, parallelism=parallelism, failure_action=FailureAction.CONTINUE)
    planning = cluster()
    spec = service_spec(replicas=data.draw(st.integers(0, 6)), update=update)
    planning.create(spec)
    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(["plan", "step", "kill", "node", "scale", "image", "time", "lead"])):
            case "plan":
                planning.plan(transactions=data.draw(st.sampled_from([0, 1, None])))
            case "step":
                ids = [task.id for task in planning.tasks()]
                planning.step(data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else None)
            case "kill":
                alive = [t for t in planning.tasks() if t.node_id and not t.state.is_stopped]
                if alive:
                    victim = data.draw(st.sampled_from(alive))
                    state = data.draw(st.sampled_from([TaskState.FAILED, TaskState.COMPLETE]))
                    planning.tables.update(TASKS, planning.workers.ended(victim, state))
            case "node":
                set_node(
                    planning,
                    data.draw(st.sampled_from(NODE_NAMES)),
                    data.draw(st.sampled_from([NodeState.READY, NodeState.DOWN])),
                    data.draw(st.sampled_from(Availability)),
                )
            case "scale":
                spec = msgspec.structs.replace(
                    spec, mode=msgspec.structs.replace(spec.mode, replicas=data.draw(st.integers(0, 6)))
                )
                planning.update(spec)
            case "image":
                image = data.draw(st.sampled_from(["app:1", "app:2", "app:3"]))
                container = msgspec.structs.replace(spec.task.container, image=image)
                spec = msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, container=container))
                planning.update(spec)
            case "time":
                planning.now += data.draw(st.floats(0.1, 90))
            case "lead":
                planning = planning.fork()
    for name in NODE_NAMES:
        set_node(planning, name)
    planning.settle()
    service = planning.service()
    alive = [task for task in planning.tasks() if not task.state.is_stopped]
    assert len(alive) == len(serving_slots(planning)) == service.spec.mode.replicas
    assert all(task.is_endpoint for task in alive)
    wanted = service.spec.task.container.image
    images = {v.number: v.task.container.image for v in planning.versions()}
    assert {images[task.spec_version] for task in alive} <= {wanted}
    assert service.update_status.state not in (UpdateState.UPDATING, UpdateState.PAUSED)


@settings(max_examples=60, deadline=None)
@given(
    replicas=st.integers(1, 8),
    parallelism=st.integers(1, 4),
    order=st.sampled_from(UpdateOrder),
    delay_s=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 2**32),
)
def test_an_update_takes_no_more_out_of_service_than_its_parallelism(
    replicas: int, parallelism: int, order: UpdateOrder, delay_s: float, seed: int
) -> None:
    rng = random.Random(seed)
    planning = cluster()
    update = UpdateConfig(parallelism=parallelism, order=order, delay_s=delay_s)
    planning.create(service_spec(replicas=replicas, update=update))
    planning.settle()
    planning.update(service_spec(replicas=replicas, update=update, image="app:2"))
    allowed = 0 if order is UpdateOrder.START_FIRST else parallelism
    for _ in range(3000):
        if rng.random() < 0.1:
            planning = planning.fork()
        planning.plan()
        assert replicas - len(serving_slots(planning)) <= allowed
        per_slot = Counter(task.slot for task in planning.tasks() if task.is_wanted)
        assert sum(per_slot.values()) <= replicas + (parallelism if order is UpdateOrder.START_FIRST else 0)
        planning.step({task.id for task in planning.tasks() if rng.random() < 0.5})
        assert replicas - len(serving_slots(planning)) <= allowed
        planning.now += rng.random()
        if planning.service().update_status.state is UpdateState.COMPLETED:
            break
    planning.settle()
    assert_at_rest(planning)


@pytest.mark.parametrize("order", list(UpdateOrder))
@pytest.mark.parametrize("parallelism", [1, 2, 0])
def test_an_update_that_is_taken_over_at_any_point_ends_the_same(order: UpdateOrder, parallelism: int) -> None:
    update = UpdateConfig(order=order, parallelism=parallelism, delay_s=1.0)
    planning = cluster()
    planning.create(service_spec(replicas=4, update=update))
    planning.settle()
    planning.update(service_spec(replicas=4, update=update, image="app:2"))
    prefixes = 0
    while planning.service().update_status.state is not UpdateState.COMPLETED:
        for lost_writing in (None, 0):
            twin = planning.fork()
            twin.plan(transactions=lost_writing)
            successor = twin.fork()
            successor.settle()
            assert_at_rest(successor)
            assert successor.service().update_status.state is UpdateState.COMPLETED
            assert successor.service().update_status.message == "update completed"
        prefixes += 1
        if not (planning.plan() or planning.step()):
            planning.now += 0.5
    assert prefixes > 20


@settings(max_examples=60, deadline=None)
@given(
    replicas=st.integers(1, 6),
    parallelism=st.integers(0, 3),
    order=st.sampled_from(UpdateOrder),
    broken=st.sets(st.integers(1, 6)),
    ratio=st.sampled_from([0.0, 0.3, 0.6]),
    seed=st.integers(0, 2**32),
)
def test_a_broken_update_pauses_for_the_same_reason_under_any_leader(
    replicas: int, parallelism: int, order: UpdateOrder, broken: set[int], ratio: float, seed: int
) -> None:
    def script(task: Task) -> Does:
        return Does.FAIL if task.spec_version == 2 and task.slot in broken else Does.SERVE

    rng = random.Random(seed)
    update = UpdateConfig(parallelism=parallelism, order=order, max_failure_ratio=ratio)
    once = TaskSpec(restart=RestartPolicy(delay_s=300.0))
    planning = cluster(script=script)
    planning.create(service_spec(replicas=replicas, update=update, task=once))
    planning.settle()
    planning.update(service_spec(replicas=replicas, update=update, image="app:2", task=once))
    for _ in range(3000):
        if rng.random() < 0.1:
            planning = planning.fork()
        moved = bool(planning.plan()) + planning.step({t.id for t in planning.tasks() if rng.random() < 0.7})
        planning.now += 0.0 if moved else 0.2
        status = planning.service().update_status
        if status.state in (UpdateState.PAUSED, UpdateState.COMPLETED):
            break
    failing = {slot for slot in broken if slot <= replicas}
    assert status.state is (UpdateState.PAUSED if len(failing) / replicas > ratio else UpdateState.COMPLETED)
    if status.state is UpdateState.PAUSED:
        assert "due to failure or early termination of task" in status.message
        if order is UpdateOrder.START_FIRST:
            assert len(serving_slots(planning)) == replicas
