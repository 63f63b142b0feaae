"""The control loop that stops tasks which no longer fit their node: its labels, role or resources have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from manager.orchestrator.fitness import misfits
from manager.store.commit import Commit
from manager.store.store import Store
from manager.store.tables import NODES, SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.transaction import Transaction
from manager.store.view import View
from manager.store.watch import CompactedError, Watch
from swarmpy.model.node import Node
from swarmpy.model.spec import Placement, TaskSpec
from swarmpy.model.states import NodeState, TaskState, UpdateState
from swarmpy.model.task import Task

_BATCH: Final = 200


class Enforcer:
    """Sets desired SHUTDOWN, with the reason; the orchestrator fills the slot. Drained nodes are not its business."""

    def __init__(self, store: Store, *, logger: structlog.typing.FilteringBoundLogger | None = None) -> None:
        self._store = store
        self._log = logger or structlog.get_logger()
        self._nodes: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled. Raises what the store raises when this manager loses its leadership."""
        while True:
            try:
                with self._store.watch(NODES) as watch:
                    await self._follow(watch)
            except CompactedError as error:
                self._log.info("enforcer_starts_over", revision=error.revision)

    async def _follow(self, watch: Watch) -> None:
        self._nodes = {node.id for node in self._store.view().all(NODES)}
        while True:
            while self._nodes:
                await self._check(self._nodes.pop())
                await asyncio.sleep(0)
            self._absorb([await watch.next(), *watch.drain()])

    def _absorb(self, commits: Iterable[Commit]) -> None:
        for commit in commits:
            for change in commit.of(NODES):
                before, after = change.before, change.after
                if after is not None and (before is None or _traits(before) != _traits(after)):
                    self._nodes.add(after.id)

    async def _check(self, node_id: str) -> None:
        view = self._store.view()
        node = view.get(NODES, node_id)
        if node is None or node.state is NodeState.DOWN:
            return
        found = misfits(
            node,
            view.find(TASKS, "node_id", node_id),
            template=partial(_template, view),
            placements=partial(_placements, view),
        )
        for start in range(0, len(found), _BATCH):
            stopped = await self._store.update(partial(_stop, node, found[start : start + _BATCH]))
            for task_id, reason in stopped:
                self._log.info("task_no_longer_fits", task=task_id, node=node_id, reason=reason)


def _stop(node: Node, found: Sequence[tuple[Task, str]], tx: Transaction) -> list[tuple[str, str]]:
    """Stop those of the tasks that are still wanted, unless the node has changed again."""
    now = tx.get(NODES, node.id)
    if now is None or _traits(now) != _traits(node):
        return []
    stopped = []
    for task, reason in found:
        row = tx.get(TASKS, task.id)
        if row is not None and row.is_wanted and row.node_id == node.id:
            tx.update(TASKS, msgspec.structs.replace(row, desired_state=TaskState.SHUTDOWN, desired_reason=reason))
            stopped.append((row.id, reason))
    return stopped


def _traits(node: Node) -> object:
    """Return what of a node constraints and reservations are about."""
    return node.spec.labels, node.spec.role, node.spec.name, node.addr, node.data_addr, node.description, node.state


def _template(view: View, task: Task) -> TaskSpec | None:
    version = view.get(SERVICE_VERSIONS, task.service_version_id)
    return None if version is None else version.task


def _placements(view: View, task: Task) -> list[Placement]:
    """Return the task's own placement, and the service's present one where no update is to bring it about yet."""
    placements = []
    template = _template(view, task)
    if template is not None:
        placements.append(template.placement)
    service = view.get(SERVICES, task.service_id)
    if service is not None and task.spec_version != service.spec_version:
        status = service.update_status
        under_way = status.state in (UpdateState.UPDATING, UpdateState.PAUSED)
        if not (under_way and status.started_at == service.updated_at):
            placements.append(service.spec.task.placement)
    return placements
