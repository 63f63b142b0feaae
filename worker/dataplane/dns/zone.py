"""Which names there are: services, stacks, and names on networks, read from the endpoint table. Pure.

What a name means depends on who asks (`view`, `scope`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from swarmpy.model.endpoints import Backend, ServiceEndpoint, Transport
from worker.dataplane.dns.shares import Shares
from worker.dataplane.endpoints import Change, EndpointTable

APEX: Final = "swarm"
MAX_LABEL: Final = 63


@dataclass(frozen=True, slots=True)
class TaskPort:
    """Where one task's port is: the task's own name (labels without the apex), its port, the address of both."""

    target: tuple[str, ...]
    port: int
    address: str


@dataclass(frozen=True, slots=True)
class Name:
    """An existing name: its addresses, and the tasks that its SRV records point to.

    `tokens` are the (lower-cased) names whose change may change this one; without any, what was found must not
    be kept. `peers` are all ready backends of the service, `backends` those of the name. `pointer` are the labels
    that an address stands for.
    """

    addresses: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    apex: bool = False
    service: str = ""
    peers: tuple[Backend, ...] = ()
    backends: tuple[Backend, ...] = ()
    target: int | None = None
    transport: Transport = Transport.TCP
    pointer: tuple[str, ...] = ()

    def task_ports(self) -> tuple[TaskPort, ...]:
        """Return one entry for each port of each task, in the order of slots."""
        if len(self.service) > MAX_LABEL:
            return ()  # reached by a stack's short name, but no record can hold the long one
        crowd = Counter(b.slot for b in self.peers)
        # A slot names its task only while it holds one: in a start-first update it holds two, and the
        # tasks of a global service all have slot 0.
        labels = ((b, str(b.slot) if b.slot and crowd[b.slot] == 1 else b.task_id) for b in self.backends)
        return tuple(
            TaskPort((label.lower(), self.service), port.port, backend.address)
            for backend, label in labels
            for port in backend.ports
            if port.transport is self.transport and self.target in (None, port.target)
        )


class Zone:
    """Services by name in `table`; `apply` must follow each of its changes.

    `vip_prefix` ("127.93", empty while there is none) renders VIPs; `server_address` is this server's own. `node_id`
    is this node's, empty while it is not known.
    """

    def __init__(self, table: EndpointTable, *, server_address: str) -> None:
        self.table = table
        self.server_address = server_address
        self.shares = Shares()
        self.vip_prefix = ""
        self.node_id = ""
        self._ids: dict[str, str] = {}
        self._known: dict[str, ServiceEndpoint] = {}
        self._stacks: Counter[str] = Counter()

    def apply(self, change: Change) -> frozenset[str]:
        """Take over a change of the table; return the tokens of the names that it may have changed."""
        tokens = set()
        for service_id in change.moves.services & self._known.keys():
            tokens |= _tokens(self._known[service_id])
        for service_id in (*change.removed, *change.changed):
            old = self._known.pop(service_id, None)
            if old is None:
                continue
            tokens |= _tokens(old)
            self.shares.remove(old)
            self._stacks[old.stack.lower()] -= 1
            name = old.name.lower()
            if self._ids.get(name) == service_id:
                del self._ids[name]
        for service_id in sorted(change.changed):
            new = self._known[service_id] = self.table.services[service_id]
            tokens |= _tokens(new)
            self.shares.add(new)
            self._stacks[new.stack.lower()] += 1
            self._ids[new.name.lower()] = service_id
        self._stacks = +self._stacks
        return frozenset(tokens)

    def endpoint(self, name: str) -> ServiceEndpoint | None:
        """Return the service of a lower-cased name."""
        return self._known.get(self._ids.get(name, ""))

    def service(self, service_id: str) -> ServiceEndpoint | None:
        return self._known.get(service_id)

    def is_stack(self, name: str) -> bool:
        """Tell whether a lower-cased name is that of a stack with services."""
        return bool(self._stacks[name])

    def is_network(self, name: str) -> bool:
        """Tell whether a lower-cased name is that of a network."""
        return any(network.name.lower() == name for network in self.table.neighbours.networks.values())

    def in_stack(self, name: str, stack: str) -> bool:
        """Tell whether there is a service `name` that belongs to `stack`; both lower-cased."""
        endpoint = self.endpoint(name)
        return endpoint is not None and endpoint.stack.lower() == stack


def _tokens(endpoint: ServiceEndpoint) -> set[str]:
    aliases = (alias.lower() for network in endpoint.networks for alias in network.aliases)
    return {endpoint.name.lower(), *aliases}


def render_vip(prefix: str, index: int) -> str:
    """Return the loopback address of VIP `index` (1 to 65534) in a node's /16, such as "127.93"."""
    return f"{prefix}.{index >> 8}.{index & 255}"
