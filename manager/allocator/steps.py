"""The transactions of the allocator: each gives rows what they lack, and says which it had no room left for.

The pools change with the transaction: one that fails ends leadership, and the next leader builds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from manager.allocator.networks import SINCE_EVER, Lack, NetworkPools, targets, wanted_vips
from manager.allocator.plan import Pools, allocate
from manager.allocator.subnets import allocated
from manager.allocator.waiting import Waiting
from manager.store.tables import CLUSTERS, NETWORKS, NODES, SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.transaction import Transaction
from manager.store.view import View
from swarmpy.clock import Clock
from swarmpy.model.cluster import DEFAULT_ADDR_POOL, ClusterSpec
from swarmpy.model.service import Service
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task

MAX_CHANGES: Final = 200

Step = Callable[[Transaction], list[str]]
"""Returns the ids of the rows that are still to be done."""


def is_allocated(service: Service) -> bool:
    """Whether the service has what its present spec asks for."""
    has = [vip.network_id for vip in service.endpoint.vips]
    return service.allocated_for == service.spec.endpoint and has == wanted_vips(service)


class Steps:
    """What is free in the cluster, and the transactions that give it out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.pools = Pools()
        self.addresses = NetworkPools()
        self.waiting = Waiting()

    def networks(self, network_ids: Sequence[str]) -> Step:
        """Give networks a subnet, a gateway and a number."""

        def change(tx: Transaction) -> list[str]:
            spec = next((cluster.spec for cluster in tx.all(CLUSTERS)), ClusterSpec())
            pools = spec.default_addr_pools or (DEFAULT_ADDR_POOL,)
            nodes = [address for node in tx.all(NODES) for address in (node.addr, node.data_addr)]
            for network_id in network_ids:
                network = tx.get(NETWORKS, network_id)
                if network is None or network.subnet:
                    continue
                taken = self.addresses.taken(list(tx.all(NETWORKS)), nodes)
                given = allocated(network, taken, pools, spec.default_addr_mask)
                if given != network:
                    tx.update(NETWORKS, given)
                if given.subnet:
                    self.addresses.add(given, SINCE_EVER)
            return []

        return change

    def services(self, service_ids: Sequence[str]) -> Step:
        """Give services their ports and virtual addresses."""

        def change(tx: Transaction) -> list[str]:
            budget = _Budget(tx, self.addresses)
            for service_id in service_ids:
                service = tx.get(SERVICES, service_id)
                if service is None or is_allocated(service):
                    continue
                wanted = wanted_vips(service)
                if not budget.has_room(service_id, wanted):
                    continue
                given = allocate(service, self.pools)
                vips = self.addresses.change(service.endpoint.vips, wanted, self._clock.monotonic())
                problem = given.problem
                if isinstance(vips, Lack):
                    self.waiting.add(vips.network_id, service_id, is_task=False)
                    problem = problem or _reason(tx, vips)
                    vips = service.endpoint.vips
                changed = msgspec.structs.replace(
                    service,
                    endpoint=msgspec.structs.replace(given.endpoint, vips=vips),
                    allocated_for=service.allocated_for if problem else service.spec.endpoint,
                    allocation_problem=problem,
                )
                if changed != service:
                    tx.update(SERVICES, changed)
                    budget.wrote(wanted)
            return budget.close()

        return change

    def tasks(self, task_ids: Sequence[str]) -> Step:
        """Give tasks their addresses and let them go on to be scheduled, once their service has what it needs."""

        def change(tx: Transaction) -> list[str]:
            budget = _Budget(tx, self.addresses)
            offers: dict[str, _Offer | None] = {}
            for task_id in task_ids:
                task = tx.get(TASKS, task_id)
                if task is None or task.state is not TaskState.NEW:
                    continue
                key = task.service_version_id
                offer = offers[key] if key in offers else offers.setdefault(key, _offer(tx, task))
                if offer is None or not budget.has_room(task_id, offer.networks):
                    continue
                lack = offer.problem
                if offer.is_open:
                    given = self.addresses.take(offer.networks, self._clock.monotonic()) if offer.networks else ()
                    if not isinstance(given, Lack):
                        ready = msgspec.structs.replace(
                            task, state=TaskState.PENDING, pending_reason="", networks=given
                        )
                        tx.update(TASKS, ready)
                        budget.wrote(offer.networks)
                        continue
                    self.waiting.add(given.network_id, task_id, is_task=True)
                    lack = _reason(tx, given)
                if task.pending_reason != lack:
                    tx.update(TASKS, msgspec.structs.replace(task, pending_reason=lack))
                    budget.wrote(())
            return budget.close()

        return change


@dataclass(frozen=True)
class _Offer:
    """What the tasks of a service version may have: the same for all of them."""

    is_open: bool
    problem: str
    networks: Sequence[str]


class _Budget:
    """Counts what a transaction has changed, the cursors of the networks that it touched among it."""

    def __init__(self, tx: Transaction, addresses: NetworkPools) -> None:
        self._tx = tx
        self._addresses = addresses
        self._written = 0
        self._touched: dict[str, None] = {}
        self._left: list[str] = []

    def has_room(self, row_id: str, network_ids: Sequence[str]) -> bool:
        """Tell whether one more row can be written; else it is left for the next transaction."""
        new = sum(network_id not in self._touched for network_id in network_ids) if network_ids else 0
        fits = self._written + len(self._touched) + new < MAX_CHANGES
        if not fits:
            self._left.append(row_id)
        return fits

    def wrote(self, network_ids: Sequence[str]) -> None:
        self._written += 1
        for network_id in network_ids:
            self._touched[network_id] = None

    def close(self) -> list[str]:
        """Store how far the networks' cursors have come; return the rows that are left."""
        for network_id in self._touched:
            network = self._tx.get(NETWORKS, network_id)
            if network is not None and network_id in self._addresses:
                cursor = self._addresses.cursor(network_id)
                if cursor != network.cursor:
                    self._tx.update(NETWORKS, msgspec.structs.replace(network, cursor=cursor))
        return self._left


def _offer(view: View, task: Task) -> _Offer | None:
    service = view.get(SERVICES, task.service_id)
    if service is None:
        return None
    version = view.get(SERVICE_VERSIONS, task.service_version_id)
    networks = targets(version.task.networks) if version is not None else ()
    return _Offer(is_allocated(service), service.allocation_problem, networks)


def _reason(view: View, lack: Lack) -> str:
    """Return why an address lacks; where a network has no subnet, that is why."""
    network = view.get(NETWORKS, lack.network_id)
    return f"network {network.name}: {network.problem}" if network is not None and network.problem else lack.reason
