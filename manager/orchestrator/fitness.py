"""Whether a node still suits the tasks that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from swarmpy.model.constraints import matches, parse
from swarmpy.model.node import Node
from swarmpy.model.spec import NO_RESOURCES, Placement, Resources, TaskSpec
from swarmpy.model.task import Task


def placement_problem(placement: Placement, node: Node) -> str | None:
    """Say in words why a node does not fit a placement's constraints or platforms; None if it does."""
    for text in placement.constraints:
        if not matches(parse(text), node):
            return f"node {node.name} no longer meets the constraint {text}"
    have = node.description.platform
    wanted = {platform.casefold() for platform in placement.platforms}
    if wanted and wanted.isdisjoint({have.os, f"{have.os}/{have.arch}"}):
        return f"node {node.name} is not of the platform {' or '.join(sorted(wanted))}"
    return None


def misfits(
    node: Node,
    tasks: Iterable[Task],
    *,
    template: Callable[[Task], TaskSpec | None],
    placements: Callable[[Task], Sequence[Placement]],
) -> list[tuple[Task, str]]:
    """Return the wanted tasks that may not stay on a node, with the reason.

    Args:
        node: the node as it is now.
        tasks: the tasks on it.
        template: gives a task's template, None if it is not known.
        placements: gives the placements that must fit a task's node.
    """
    found: list[tuple[Task, str]] = []
    fitting: list[tuple[Task, TaskSpec]] = []
    for task in sorted(tasks, key=lambda task: (task.created_at, task.id)):
        if not task.is_wanted:
            continue
        problems = (placement_problem(placement, node) for placement in placements(task))
        problem = next((each for each in problems if each is not None), None)
        if problem is not None:
            found.append((task, problem))
        elif (spec := template(task)) is not None:
            fitting.append((task, spec))
    return found + _over_capacity(node, fitting)


def _over_capacity(node: Node, fitting: Sequence[tuple[Task, TaskSpec]]) -> list[tuple[Task, str]]:
    """Return the youngest tasks, those for which a node that has shrunk has no room any more."""
    capacity = node.description.resources
    if capacity == NO_RESOURCES:
        return []  # The node has not said what it has.
    left = {"cpu": capacity.nano_cpus, "memory": capacity.memory_bytes, **_generic(capacity)}
    found = []
    for task, spec in fitting:
        wanted = _amounts(spec.reservations)
        short = next((kind for kind, amount in wanted.items() if amount > left.get(kind, 0)), None)
        if short is not None:
            found.append((task, f"node {node.name} no longer has enough {short}"))
            continue
        for kind, amount in wanted.items():
            left[kind] -= amount
    return found


def _amounts(resources: Resources) -> dict[str, int]:
    amounts = {"cpu": resources.nano_cpus, "memory": resources.memory_bytes, **_generic(resources)}
    return {kind: amount for kind, amount in amounts.items() if amount > 0}


def _generic(resources: Resources) -> dict[str, int]:
    return {f"generic resource {kind}": amount for kind, amount in resources.generic.items()}
