"""What the names below `swarm.` mean, read from the endpoint table. Pure.

<service>             the VIP to askers on this machine, else its nodes' addresses; with dnsrr the tasks'
tasks.<service>       the addresses of all ready tasks
<slot>.<service>      the ready task in that slot; <task id>.<service> names one task, too
_<port>._tcp.<name>   SRV: where that port (by name or target number) of the name's tasks is
<short>.<stack>       the service `<stack>_<short>` of a stack, in place of <service> anywhere above
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from swarmpy.model.endpoints import Backend, ServiceEndpoint, Transport
from worker.dataplane.endpoints import Change, EndpointTable

APEX: Final = "swarm"
MAX_LABEL: Final = 63
_TRANSPORTS: Final = {"_tcp": Transport.TCP, "_udp": Transport.UDP}


@dataclass(frozen=True, slots=True)
class TaskPort:
    """Where one task's port is: the task's own name (labels without the apex), host port, node address."""

    target: tuple[str, ...]
    port: int
    address: str


@dataclass(frozen=True, slots=True)
class Name:
    """An existing name: its addresses, and the tasks that its SRV records point to.

    `tokens` are the (lower-cased) service names whose change may change the name; without any, what was
    found must not be kept. `peers` are all ready backends of the service, `backends` those of the name.
    """

    addresses: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    apex: bool = False
    service: str = ""
    peers: tuple[Backend, ...] = ()
    backends: tuple[Backend, ...] = ()
    target: int | None = None
    transport: Transport = Transport.TCP

    def task_ports(self) -> tuple[TaskPort, ...]:
        """Return one entry for each host port of each task, in the order of slots."""
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
    """Looks names up in `table`; `apply` must follow each of its changes.

    `vip_prefix` ("127.93", empty while there is none) renders VIPs; `server_address` is this server's own.
    """

    def __init__(self, table: EndpointTable, *, server_address: str) -> None:
        self._table = table
        self._server_address = server_address
        self._ids: dict[str, str] = {}
        self._known: dict[str, ServiceEndpoint] = {}
        self._stacks: Counter[str] = Counter()
        self.vip_prefix = ""

    def apply(self, change: Change) -> frozenset[str]:
        """Take over a change of the table; return the tokens of the names that it may have changed."""
        tokens = set()
        for service_id in (*change.removed, *change.changed):
            old = self._known.pop(service_id, None)
            if old is None:
                continue
            name = old.name.lower()
            tokens.add(name)
            self._stacks[old.stack.lower()] -= 1
            if self._ids.get(name) == service_id:
                del self._ids[name]
        for service_id in sorted(change.changed):
            new = self._known[service_id] = self._table.services[service_id]
            name = new.name.lower()
            tokens.add(name)
            self._stacks[new.stack.lower()] += 1
            self._ids[name] = service_id
        self._stacks = +self._stacks
        return frozenset(tokens)

    def find(self, labels: Sequence[str], *, local: bool) -> Name | None:
        """Return what a name holds; None if it does not exist.

        Args:
            labels: the name's lower-cased labels, without the apex's.
            local: whether the asker is on this machine, and so can reach a loopback VIP.
        """
        if not labels:
            return Name(addresses=(self._server_address,), apex=True)
        if labels[0] in _TRANSPORTS:
            # Names of ports are below it, so it exists (RFC 8020), but it holds nothing itself.
            return None if self._find_tasks(labels[1:], local=local) is None else Name()
        if labels[0].startswith("_") and len(labels) > 2 and labels[1] in _TRANSPORTS:
            return self._find_port(labels[0][1:], _TRANSPORTS[labels[1]], labels[2:], local=local)
        found = self._find_tasks(labels, local=local)
        if found is None and len(labels) == 1 and self._stacks[labels[0]]:
            return Name()  # a stack: names are below it
        return found

    def _find_port(self, port: str, transport: Transport, labels: Sequence[str], *, local: bool) -> Name | None:
        name = self._find_tasks(labels, local=local)
        endpoint = self._endpoint(name.service) if name else None
        if name is None or endpoint is None:
            return None
        for candidate in endpoint.ports:
            if candidate.transport is transport and port in (candidate.name.lower(), str(candidate.target)):
                return Name(
                    tokens=name.tokens,
                    service=name.service,
                    peers=name.peers,
                    backends=name.backends,
                    target=candidate.target,
                    transport=transport,
                )
        return None

    def _find_tasks(self, labels: Sequence[str], *, local: bool) -> Name | None:
        """Find a service, or some of its tasks, by one of its names."""
        match list(labels):
            case [name]:
                return self._service(name, local=local)
            case [part, name]:
                short = f"{name}_{part}"
                tokens = (name, short)
                found = self._part(part, name, tokens)
                return found or (
                    self._service(short, local=local, tokens=tokens) if self._in_stack(short, name) else None
                )
            case [part, short, stack]:
                name = f"{stack}_{short}"
                return self._part(part, name, (name,)) if self._in_stack(name, stack) else None
        return None

    def _endpoint(self, name: str) -> ServiceEndpoint | None:
        return self._known.get(self._ids.get(name, ""))

    def _in_stack(self, name: str, stack: str) -> bool:
        endpoint = self._endpoint(name)
        return endpoint is not None and endpoint.stack.lower() == stack

    def _service(self, name: str, *, local: bool, tokens: tuple[str, ...] = ()) -> Name | None:
        endpoint = self._endpoint(name)
        if endpoint is None:
            return None
        ready = self._table.ready(endpoint.service_id)
        if local and not endpoint.dnsrr and endpoint.vip_index and self.vip_prefix:
            addresses: tuple[str, ...] = (render_vip(self.vip_prefix, endpoint.vip_index),)
        else:
            addresses = _addresses(ready)
        return Name(addresses, tokens or (name,), service=name, peers=ready, backends=ready)

    def _part(self, part: str, name: str, tokens: tuple[str, ...]) -> Name | None:
        """Find `tasks`, a slot, or a task id of a service."""
        endpoint = self._endpoint(name)
        if endpoint is None:
            return None
        ready = self._table.ready(endpoint.service_id)
        if part == "tasks":
            chosen = ready
        else:
            chosen = tuple(b for b in ready if part == (str(b.slot) if b.slot else "") or part == b.task_id.lower())
            if not chosen:
                return None
        return Name(_addresses(chosen), tokens, service=name, peers=ready, backends=chosen)


def render_vip(prefix: str, index: int) -> str:
    """Return the loopback address of VIP `index` (1 to 65534) in a node's /16, such as "127.93"."""
    return f"{prefix}.{index >> 8}.{index & 255}"


def _addresses(backends: Iterable[Backend]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(b.address for b in backends))
