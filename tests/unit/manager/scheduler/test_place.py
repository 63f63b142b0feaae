"""Placing, as a story that a person can read, and its laws."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from manager.scheduler.filters import Demand
from manager.scheduler.fleet import FAILURES_TO_AVOID, Fleet, need_of
from manager.scheduler.place import place
from swarmpy.model.node import Capability, Node, NodeDescription, NodeSpec, Platform
from swarmpy.model.service import ServiceVersion, version_id
from swarmpy.model.spec import Placement, Resources, TaskSpec
from swarmpy.model.states import Availability, NodeState, Runtime, TaskState
from swarmpy.model.task import Task
from tests.support.scenario import check_scenario

STORIES = Path(__file__).parents[3] / "testdata" / "scheduler"


def make_node(
    name: str,
    *,
    cpus: float = 4,
    labels: dict[str, str] | None = None,
    state: NodeState = NodeState.READY,
    availability: Availability = Availability.ACTIVE,
    capabilities: tuple[str, ...] = (Capability.PROCESS,),
) -> Node:
    description = NodeDescription(
        hostname=name,
        platform=Platform(os="linux", arch="x86_64"),
        resources=Resources(nano_cpus=int(cpus * 1e9), memory_bytes=2**33),
        capabilities=capabilities,
    )
    spec = NodeSpec(labels=labels or {}, availability=availability)
    return Node(id=name, spec=spec, description=description, state=state)


def make_version(
    service: str = "web",
    *,
    cpus: float = 0,
    constraints: tuple[str, ...] = (),
    cap: int = 0,
    limit_memory: int = 0,
    platforms: tuple[str, ...] = (),
) -> ServiceVersion:
    task = TaskSpec(
        runtime=Runtime.PROCESS,
        reservations=Resources(nano_cpus=int(cpus * 1e9)),
        limits=Resources(memory_bytes=limit_memory),
        placement=Placement(constraints=constraints, max_replicas=cap, platforms=platforms),
    )
    return ServiceVersion(id=version_id(service, 1), service_id=service, number=1, name=service, task=task)


class Story:
    """The commands of a story: `node NAME key=value...`, `schedule SERVICE key=value...`, `fails SERVICE NODE`."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.placed = 0

    def run(self, commands: list[str]) -> list[str]:
        return [line for command in commands for line in self.execute(command.split()).splitlines()]

    def execute(self, words: list[str]) -> str:
        command, name, *rest = words
        given = dict(word.split("=", 1) for word in rest)
        if command == "node":
            self.fleet.set_node(
                make_node(
                    name,
                    cpus=float(given.get("cpus", "4")),
                    labels={"zone": given["zone"]} if "zone" in given else {},
                    state=NodeState[given.get("state", "ready").upper()],
                    availability=Availability[given.get("availability", "active").upper()],
                    capabilities=tuple(given.get("capabilities", "process").split(",")),
                )
            )
            return "ok"
        if command == "fails":
            for _ in range(FAILURES_TO_AVOID):
                failed = Task(
                    id="f", service_id=name, spec_version=1, slot=1, node_id=given["on"], state=TaskState.FAILED
                )
                self.fleet.note_failure(failed, failed.status_at)
            return "ok"
        return self.schedule(name, given)

    def schedule(self, service: str, given: dict[str, str]) -> str:
        version = make_version(
            service,
            cpus=float(given.get("cpus", "0")),
            constraints=(f"node.labels.zone=={given['zone']}",) if "zone" in given else (),
            cap=int(given.get("cap", "0")),
            limit_memory=int(given.get("limit_memory", "0")),
            platforms=(given["platform"],) if "platform" in given else (),
        )
        demand = Demand.of(version)
        count = int(given["replicas"])
        tasks = [f"{service}.{self.placed + i + 1}" for i in range(count)]
        self.placed += count
        placement = place(demand, tasks, self.fleet.nodes, 0.0)
        for task_id, node_id in placement.nodes.items():
            self.fleet.place(task_id, node_id, demand.need)
        lines = [f"{task_id} -> {node_id}" for task_id, node_id in placement.nodes.items()]
        return "\n".join(lines + [f"{t} -> pending: {placement.reason}" for t in placement.waiting])


def test_stories() -> None:
    for path in sorted(STORIES.glob("*.txt")):
        check_scenario(path, Story().run)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 30))
def test_tasks_are_spread_as_evenly_as_they_can_be(present: list[int], count: int) -> None:
    """Where nodes already hold some tasks, no move of a new task would make the spread more even."""
    fleet, demand = Fleet(), Demand.of(make_version())
    for index, held in enumerate(present):
        fleet.set_node(make_node(f"n{index}"))
        for number in range(held):
            fleet.place(f"old{index}.{number}", f"n{index}", need_of(make_version()))
    placement = place(demand, [f"t{i}" for i in range(count)], fleet.nodes, 0.0)
    assert len(placement.nodes) == count
    totals = Counter({f"n{i}": held for i, held in enumerate(present)})
    totals.update(placement.nodes.values())
    receivers = set(placement.nodes.values())
    assert all(totals[r] - 1 <= min(totals.values()) for r in receivers)


@given(st.lists(st.floats(0, 4), min_size=1, max_size=5), st.floats(0.1, 2), st.integers(1, 20))
def test_no_node_is_given_more_than_it_has(cpus: list[float], each: float, count: int) -> None:
    fleet, demand = Fleet(), Demand.of(make_version(cpus=each))
    for index, have in enumerate(cpus):
        fleet.set_node(make_node(f"n{index}", cpus=have))
    placement = place(demand, [f"t{i}" for i in range(count)], fleet.nodes, 0.0)
    for task_id, node_id in placement.nodes.items():
        fleet.place(task_id, node_id, demand.need)
    assert all(info.nano_cpus >= 0 for info in fleet.nodes.values())
    room = sum(int(have * 1e9) // demand.need.reservations.nano_cpus for have in cpus)
    assert len(placement.nodes) == min(count, room)
    assert bool(placement.waiting) == bool(placement.reason)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.booleans()), max_size=30))
def test_what_is_released_is_free_again(steps: list[tuple[str, str, bool]]) -> None:
    fleet, need = Fleet(), need_of(make_version(cpus=1))
    fleet.set_node(make_node("x"))
    fleet.set_node(make_node("y"))
    where: dict[str, str] = {}
    for task_id, node_id, places in steps:
        if places:
            fleet.place(task_id, node_id, need)
            where[task_id] = node_id
        else:
            assert fleet.release(task_id) == (where.pop(task_id, None) is not None)
    for node_id, info in fleet.nodes.items():
        assert info.tasks == sum(1 for at in where.values() if at == node_id)
        assert info.nano_cpus == 4 * 10**9 - info.tasks * 10**9
