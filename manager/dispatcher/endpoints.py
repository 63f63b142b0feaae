"""The set of endpoints, derived from commits, and its changes as the data planes are told them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from manager.store.commit import Commit
from manager.store.tables import NODES, SERVICES, TASKS
from manager.store.view import View
from swarmpy.model.endpoints import ENCODER, Backend, EndpointsUpdate, ServiceEndpoint
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.states import EndpointMode
from swarmpy.model.task import Task

KEPT_UPDATES: Final = 256


def service_endpoint(service: Service) -> ServiceEndpoint:
    """Return how names and listeners see this service."""
    return ServiceEndpoint(
        service_id=service.id,
        name=service.name,
        vip_index=service.endpoint.vip_index,
        ports=service.endpoint.ports,
        stack=service.stack,
        dnsrr=service.spec.endpoint.mode is EndpointMode.DNSRR,
    )


def backend(task: Task, node: Node) -> Backend:
    """Return where this task may be reached."""
    return Backend(
        task_id=task.id,
        service_id=task.service_id,
        slot=task.slot,
        node_id=task.node_id,
        address=node.data_addr,
        ports=task.host_ports,
    )


@dataclass(frozen=True)
class Encoded:
    """One update as it goes to the data planes; it brings them from any revision >= `since` to `revision`."""

    since: int
    revision: int
    data: bytes


class EndpointSet:
    """All endpoints there are, and the changes not yet published.

    `revision` is that of the last commit that changed the set; a data plane that has applied it is up to date.
    """

    def __init__(self, view: View) -> None:
        self.revision = view.revision
        self._services = {s.id: service_endpoint(s) for s in view.all(SERVICES)}
        self._nodes = {n.id: n for n in view.all(NODES)}
        self._backends: dict[str, Backend] = {}
        for task in view.all(TASKS):
            found = self._backend_of(task)
            if found is not None:
                self._backends[task.id] = found
        self._pending_services: set[str] = set()
        self._pending_backends: set[str] = set()
        self._published: deque[Encoded] = deque(maxlen=KEPT_UPDATES)
        self._published_revision = view.revision
        self._complete: Encoded | None = None

    @property
    def has_pending(self) -> bool:
        return bool(self._pending_services or self._pending_backends)

    @property
    def published_revision(self) -> int:
        """The revision that every session can be brought to by now."""
        return self._published_revision

    def apply(self, commit: Commit, tasks_of_node: Iterable[Task] = ()) -> None:
        """Take in one commit. `tasks_of_node` are the tasks of nodes whose data address changed in it."""
        for node_change in commit.of(NODES):
            if node_change.after is not None:
                self._nodes[node_change.id] = node_change.after
            else:
                self._nodes.pop(node_change.id, None)
        for service_change in commit.of(SERVICES):
            endpoint = service_endpoint(service_change.after) if service_change.after is not None else None
            if endpoint != self._services.get(service_change.id):
                self._note_service(service_change.id, endpoint, commit.revision)
        for task_change in commit.of(TASKS):
            before, after = task_change.before, task_change.after
            if (before is not None and before.is_endpoint) or (after is not None and after.is_endpoint):
                self._note_backend(task_change.id, after, commit.revision)
        for task in tasks_of_node:
            self._note_backend(task.id, task, commit.revision)

    def publish(self) -> None:
        """Encode the pending changes as one update, for `since` to hand out."""
        if not self.has_pending:
            return
        services, backends = self._pending_services, self._pending_backends
        update = EndpointsUpdate(
            revision=self.revision,
            services=tuple(self._services[i] for i in sorted(services) if i in self._services),
            removed_services=tuple(sorted(i for i in services if i not in self._services)),
            backends=tuple(self._backends[i] for i in sorted(backends) if i in self._backends),
            removed_backends=tuple(sorted(i for i in backends if i not in self._backends)),
        )
        self._published.append(Encoded(self._published_revision, self.revision, ENCODER.encode(update)))
        self._published_revision = self.revision
        self._complete = None
        services.clear()
        backends.clear()

    def since(self, revision: int) -> list[Encoded]:
        """Return the updates that bring a data plane at `revision` to `published_revision`, in order.

        0 stands for a data plane of which nothing is known; it and one that is too far behind get a complete update.
        """
        if revision >= self._published_revision:
            return []
        if revision and self._published and self._published[0].since <= revision:
            return [update for update in self._published if update.revision > revision]
        if self._complete is None:
            self._complete = self._encode_complete()
        return [self._complete]

    def _encode_complete(self) -> Encoded:
        """Encode the whole set. Pending changes are in it as well: telling them again does no harm."""
        update = EndpointsUpdate(
            revision=self._published_revision,
            complete=True,
            services=tuple(self._services.values()),
            backends=tuple(self._backends.values()),
        )
        return Encoded(0, self._published_revision, ENCODER.encode(update))

    def _backend_of(self, task: Task) -> Backend | None:
        node = self._nodes.get(task.node_id)
        return backend(task, node) if node is not None and task.is_endpoint else None

    def _note_service(self, service_id: str, endpoint: ServiceEndpoint | None, revision: int) -> None:
        if endpoint is None:
            self._services.pop(service_id, None)
        else:
            self._services[service_id] = endpoint
        self._pending_services.add(service_id)
        self.revision = revision

    def _note_backend(self, task_id: str, task: Task | None, revision: int) -> None:
        found = self._backend_of(task) if task is not None else None
        if found == self._backends.get(task_id):
            return
        if found is None:
            self._backends.pop(task_id, None)
        else:
            self._backends[task_id] = found
        self._pending_backends.add(task_id)
        self.revision = revision
