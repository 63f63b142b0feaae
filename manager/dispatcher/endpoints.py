"""The set of endpoints, derived from commits, and its changes as the data planes are told them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from manager.dispatcher.told import Told
from manager.store.commit import Commit
from manager.store.tables import NETWORKS, NODES, SERVICES, TASKS
from manager.store.view import View
from swarmpy.model.endpoints import (
    ENCODER,
    Backend,
    EndpointsUpdate,
    Neighbour,
    ServiceEndpoint,
    ServiceNetwork,
)
from swarmpy.model.network import PREDEFINED, network_row
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.states import EndpointMode
from swarmpy.model.task import Task

KEPT_UPDATES: Final = 256


def service_endpoint(service: Service) -> ServiceEndpoint:
    """Return how names and listeners see this service."""
    vips = {vip.network_id: vip.address for vip in service.endpoint.vips}
    return ServiceEndpoint(
        service_id=service.id,
        name=service.name,
        vip_index=service.endpoint.vip_index,
        ports=service.endpoint.ports,
        stack=service.stack,
        dnsrr=service.spec.endpoint.mode is EndpointMode.DNSRR,
        networks=tuple(
            ServiceNetwork(network_id=one.target, vip=vips.get(one.target, ""), aliases=one.aliases)
            for one in service.spec.task.networks
            if one.target not in PREDEFINED
        ),
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


def neighbour(task: Task, node: Node) -> Neighbour:
    """Return where this task is on its networks."""
    return Neighbour(
        task_id=task.id,
        service_id=task.service_id,
        slot=task.slot,
        node_id=task.node_id,
        node_addr=node.data_addr,
        addresses=task.networks,
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
        self._nodes = {n.id: n for n in view.all(NODES)}
        self._services = Told({s.id: service_endpoint(s) for s in view.all(SERVICES)})
        self._networks = Told({n.id: network_row(n) for n in view.all(NETWORKS) if n.subnet})
        backends: dict[str, Backend] = {}
        neighbours: dict[str, Neighbour] = {}
        for task in view.all(TASKS):
            if (found := self._backend_of(task)) is not None:
                backends[task.id] = found
            if task.networks and (beside := self._neighbour_of(task)) is not None:
                neighbours[task.id] = beside
        self._backends, self._neighbours = Told(backends), Told(neighbours)
        self._published: deque[Encoded] = deque(maxlen=KEPT_UPDATES)
        self._published_revision = view.revision
        self._complete: Encoded | None = None

    @property
    def has_pending(self) -> bool:
        return any(told.has_pending for told in (self._services, self._backends, self._networks, self._neighbours))

    @property
    def published_revision(self) -> int:
        """The revision that every session can be brought to by now."""
        return self._published_revision

    def apply(self, commit: Commit, tasks_of_node: Iterable[Task] = ()) -> None:
        """Take in one commit. `tasks_of_node` are the tasks of nodes whose data address changed in it."""
        changed = False
        for node_change in commit.of(NODES):
            if node_change.after is not None:
                self._nodes[node_change.id] = node_change.after
            else:
                self._nodes.pop(node_change.id, None)
        for network_change in commit.of(NETWORKS):
            network = network_change.after
            row = network_row(network) if network is not None and network.subnet else None
            changed |= self._networks.note(network_change.id, row)
        for service_change in commit.of(SERVICES):
            endpoint = service_endpoint(service_change.after) if service_change.after is not None else None
            changed |= self._services.note(service_change.id, endpoint)
        for task_change in commit.of(TASKS):
            before, after = task_change.before, task_change.after
            if (before is not None and before.is_endpoint) or (after is not None and after.is_endpoint):
                changed |= self._backends.note(task_change.id, self._backend_of(after))
            if (before is not None and before.networks) or (after is not None and after.networks):
                changed |= self._neighbours.note(task_change.id, self._neighbour_of(after))
        for task in tasks_of_node:
            changed |= self._backends.note(task.id, self._backend_of(task))
            changed |= self._neighbours.note(task.id, self._neighbour_of(task))
        if changed:
            self.revision = commit.revision

    def publish(self) -> None:
        """Encode the pending changes as one update, for `since` to hand out."""
        if not self.has_pending:
            return
        services, removed_services = self._services.take()
        backends, removed_backends = self._backends.take()
        networks, removed_networks = self._networks.take()
        neighbours, removed_neighbours = self._neighbours.take()
        update = EndpointsUpdate(
            revision=self.revision,
            services=services,
            removed_services=removed_services,
            backends=backends,
            removed_backends=removed_backends,
            networks=networks,
            removed_networks=removed_networks,
            neighbours=neighbours,
            removed_neighbours=removed_neighbours,
        )
        self._published.append(Encoded(self._published_revision, self.revision, ENCODER.encode(update)))
        self._published_revision = self.revision
        self._complete = None

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
            services=tuple(self._services.rows),
            backends=tuple(self._backends.rows),
            networks=tuple(self._networks.rows),
            neighbours=tuple(self._neighbours.rows),
        )
        return Encoded(0, self._published_revision, ENCODER.encode(update))

    def _backend_of(self, task: Task | None) -> Backend | None:
        if task is None or not task.is_endpoint:
            return None
        node = self._nodes.get(task.node_id)
        return backend(task, node) if node is not None else None

    def _neighbour_of(self, task: Task | None) -> Neighbour | None:
        """Return a task as its neighbours see it, from its assignment on: they must know it before it runs."""
        if task is None or not task.networks or not task.occupies_node:
            return None
        node = self._nodes.get(task.node_id)
        return neighbour(task, node) if node is not None else None
