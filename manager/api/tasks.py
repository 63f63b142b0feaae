"""Use cases of tasks: they are read only; what a user wants of them is said in the service's spec."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from manager.api.paging import MAX_LOOKED_AT, Rows, has_prefix, limit_of, read_page
from manager.api.resolve import find_task
from manager.store.store import Store
from manager.store.tables import SERVICE_VERSIONS, TASKS
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.model.service import ServiceVersion
from swarmpy.model.task import Task


class Tasks:
    """What a user may do with tasks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, ref: str) -> tuple[Task, ServiceVersion | None]:
        """Return a task and what it is made from, without the credentials of its registry."""
        view = self._store.view()
        task = find_task(view, ref)
        version = view.get(SERVICE_VERSIONS, task.service_version_id)
        return task, msgspec.structs.replace(version, pull_auth=None) if version is not None else None

    def list(self, wanted: pb.TaskFilter, page: pb.Page) -> Rows[Task]:
        """Return one page of the tasks that pass the filter; one of service or node is served from an index."""
        ids, services, nodes = tuple(wanted.ids), set(wanted.service_ids), set(wanted.node_ids)
        states, slots = set(wanted.desired_states), set(wanted.slots)

        def is_wanted(task: Task) -> bool:
            return (
                has_prefix(task.id, ids)
                and (not services or task.service_id in services)
                and (not nodes or task.node_id in nodes)
                and (not states or int(task.desired_state) in states)
                and (not slots or task.slot in slots)
            )

        view = self._store.view()
        for index, keys in (("service_id", services), ("node_id", nodes)):
            # An index is read whole for every page: of very many tasks, the table itself costs less.
            if keys and sum(view.count(TASKS, index, key) for key in keys) <= MAX_LOOKED_AT:
                tasks = (t for key in keys for t in view.find(TASKS, index, key))
                return _indexed(tasks, page, is_wanted, view.revision)
        return read_page(view, TASKS, page, is_wanted)


def _indexed(tasks: Iterable[Task], page: pb.Page, is_wanted: Callable[[Task], bool], revision: int) -> Rows[Task]:
    limit = limit_of(page)
    rows = sorted((t for t in tasks if t.id > page.token and is_wanted(t)), key=lambda t: t.id)
    more = len(rows) > limit
    return Rows(rows[:limit], rows[limit - 1].id if more else "", revision)
