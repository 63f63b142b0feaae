"""Which rows have had their time: removed tasks, old tasks of a slot, and templates that nobody refers to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from swarmpy.model.node import Node
from swarmpy.model.service import Service, ServiceVersion
from swarmpy.model.states import NodeState, TaskState, UpdateState
from swarmpy.model.task import Task

_UPDATE_MEMORY: Final = 2
"""Tasks of a slot that an update needs to see: its latest, and the one before."""

NodeOf = Callable[[str], Node | None]


def is_gone(task: Task, node_of: NodeOf) -> bool:
    """Tell whether nobody will ever hear of the task again: it has stopped, or its node was removed."""
    return task.state.is_stopped or not task.node_id or node_of(task.node_id) is None


def can_be_removed(task: Task, node_of: NodeOf) -> bool:
    """Tell whether a task that is to be removed may go now.

    On a node that is DOWN it may still run. Its row may go nevertheless: when the node comes back, it learns all
    that it is to run, and stops what is not among that.
    """
    if task.desired_state is not TaskState.REMOVE:
        return False
    if is_gone(task, node_of):
        return True
    node = node_of(task.node_id)
    return node is None or node.state is NodeState.DOWN


def expired(tasks: Sequence[Task], service: Service, limit: int, node_of: NodeOf) -> list[Task]:
    """Return what a slot has too much of, oldest first.

    Args:
        tasks: all tasks of one slot, oldest first.
        service: their service.
        limit: how many tasks of a slot are kept, the running one counted; below 0: all.
        node_of: gives a node by its id.
    """
    removed = [task for task in tasks if can_be_removed(task, node_of)]
    if limit < 0:
        return removed
    if service.update_status.state in (UpdateState.UPDATING, UpdateState.PAUSED):
        limit = max(limit, _UPDATE_MEMORY)
    rest = [task for task in tasks if task.desired_state is not TaskState.REMOVE]
    # The youngest says what became of the slot, and whether it is to be restarted: it always stays.
    old = [task for task in rest[:-1] if not task.is_wanted and is_gone(task, node_of)]
    return removed + old[: max(0, len(rest) - limit)]


def unused_versions(
    service: Service | None, versions: Iterable[ServiceVersion], in_use: Collection[int]
) -> list[ServiceVersion]:
    """Return the templates that no task has and no rollback needs, oldest first.

    Args:
        service: the service, None if it was removed.
        versions: its templates.
        in_use: numbers of the templates that its tasks have.
    """
    ordered = sorted(versions, key=lambda version: version.number)
    kept = set(in_use)
    if service is not None:
        older = [version.number for version in ordered if version.number < service.spec_version]
        kept.update(older[-1:])
        kept.update(v.number for v in ordered if v.number >= service.spec_version)
    return [version for version in ordered if version.number not in kept]
