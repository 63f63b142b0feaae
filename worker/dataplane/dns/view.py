"""What names mean to one kind of asker: the grammar of names, and what services hold for askers on no network. Pure.

<service>             the VIP to askers on this machine, else its nodes' addresses; with dnsrr the tasks'
tasks.<service>       the addresses of all ready tasks
<slot>.<service>      the ready task in that slot; <task id>.<service> names one task, too
_<port>._tcp.<name>   SRV: where that port (by name or target number) of the name's tasks is
<short>.<stack>       the service `<stack>_<short>` of a stack, in place of <service> anywhere above
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from swarmpy.model.endpoints import Backend, Transport
from worker.dataplane.dns.zone import APEX, Name, Zone, render_vip

_TRANSPORTS: Final = {"_tcp": Transport.TCP, "_udp": Transport.UDP}
_TASK_ID_LETTERS: Final = 25

Labels = Sequence[str]


class Absence(enum.Enum):
    """Why a name holds nothing: it does not exist, is nobody's business here, or is a matter of the outside."""

    NO_SUCH_NAME = enum.auto()
    NOT_OURS = enum.auto()
    OUTSIDE = enum.auto()


class View(ABC):
    """The names of `zone` as one kind of asker sees them."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone

    @abstractmethod
    def find(self, labels: Labels) -> Name | Absence:
        """Return what a name holds, or why nothing; `labels` are lower-cased, without the root."""

    @abstractmethod
    def service(self, name: str, tokens: tuple[str, ...]) -> Name | None:
        """Return what the name of a service holds; None if there is none that the asker may know."""

    @abstractmethod
    def part(self, part: str, name: str, tokens: tuple[str, ...]) -> Name | None:
        """Return what `tasks`, a slot or a task id of a service holds."""

    def below(self, labels: Labels) -> Name | None:
        """Return what a name below `swarm.` holds, given without that label."""
        if not labels:
            return Name(addresses=(self.zone.server_address,), apex=True)
        found = self.bare(labels)
        if found is None and len(labels) == 1 and self.zone.is_stack(labels[0]):
            return Name()  # a stack: names are below it
        return found

    def bare(self, labels: Labels) -> Name | None:
        """Return what the name of a service, of its tasks or of their ports holds."""
        if not labels:
            return None
        if labels[0] in _TRANSPORTS:
            # Names of ports are below it, so it exists (RFC 8020), but it holds nothing itself.
            return None if self.tasks(labels[1:]) is None else Name()
        if labels[0].startswith("_") and len(labels) > 2 and labels[1] in _TRANSPORTS:
            return self._port(labels[0][1:], _TRANSPORTS[labels[1]], labels[2:])
        return self.tasks(labels)

    def _port(self, port: str, transport: Transport, labels: Labels) -> Name | None:
        name = self.tasks(labels)
        endpoint = self.zone.endpoint(name.service) if name else None
        if name is None or endpoint is None:
            return None
        for candidate in endpoint.ports:
            if candidate.transport is transport and port in (candidate.name.lower(), str(candidate.target)):
                return replace(name, addresses=(), target=candidate.target, transport=transport)
        return None

    def tasks(self, labels: Labels) -> Name | None:
        """Return what a service, or some of its tasks, holds, by one of its names."""
        match list(labels):
            case [name]:
                return self.service(name, (name,))
            case [part, name]:
                short = f"{name}_{part}"
                tokens = (name, short)
                found = self.part(part, name, tokens)
                return found or (self.service(short, tokens) if self.zone.in_stack(short, name) else None)
            case [part, short, stack]:
                name = f"{stack}_{short}"
                return self.part(part, name, (name,)) if self.zone.in_stack(name, stack) else None
        return None

    def is_ours(self, labels: Labels) -> bool:
        """Tell whether a name has the form of a service's, or of its tasks', whoever may know it: it stays here."""
        if labels[:1] and labels[0] in _TRANSPORTS:
            return self.is_ours(labels[1:])
        match list(labels):
            case [port, transport, *rest] if port.startswith("_") and transport in _TRANSPORTS:
                return self.is_ours(rest)
            case [name]:
                return self.zone.endpoint(name) is not None
            case [part, name]:
                named = self.zone.endpoint(name) is not None
                if (named and is_part(part)) or self.zone.in_stack(f"{name}_{part}", name):
                    return True
                return self.zone.endpoint(part) is not None and self.zone.is_network(name)
            case [part, short, stack] if is_part(part):
                return self.zone.in_stack(f"{stack}_{short}", stack)
            case [name, _, task_id, *_] if is_task_id(task_id):
                return self.zone.endpoint(name) is not None
        return False


class NodeView(View):
    """What askers on no network see: VIPs of this node's loopback if they are on this machine, else nodes."""

    def __init__(self, zone: Zone, *, local: bool) -> None:
        super().__init__(zone)
        self._local = local

    def find(self, labels: Labels) -> Name | Absence:
        if labels[-1:] != (APEX,):
            return Absence.NOT_OURS
        return self.below(labels[:-1]) or Absence.NO_SUCH_NAME

    def service(self, name: str, tokens: tuple[str, ...]) -> Name | None:
        endpoint = self.zone.endpoint(name)
        if endpoint is None:
            return None
        ready = self.zone.table.ready(endpoint.service_id)
        if self._local and not endpoint.dnsrr and endpoint.vip_index and self.zone.vip_prefix:
            addresses: tuple[str, ...] = (render_vip(self.zone.vip_prefix, endpoint.vip_index),)
        else:
            addresses = addresses_of(ready)
        return Name(addresses, tokens, service=name, peers=ready, backends=ready)

    def part(self, part: str, name: str, tokens: tuple[str, ...]) -> Name | None:
        endpoint = self.zone.endpoint(name)
        if endpoint is None:
            return None
        ready = self.zone.table.ready(endpoint.service_id)
        chosen = chosen_by(part, ready)
        if chosen is None:
            return None
        return Name(addresses_of(chosen), tokens, service=name, peers=ready, backends=chosen)


def chosen_by(part: str, ready: tuple[Backend, ...]) -> tuple[Backend, ...] | None:
    """Return which of a service's tasks `tasks`, a slot, or a task id means; None for none."""
    if part == "tasks":
        return ready
    return tuple(b for b in ready if part == (str(b.slot) if b.slot else "") or part == b.task_id.lower()) or None


def addresses_of(backends: Iterable[Backend]) -> tuple[str, ...]:
    """Return each address once, in the order of the backends."""
    return tuple(dict.fromkeys(b.address for b in backends))


def is_part(label: str) -> bool:
    """Tell whether a label before a service's name means some of its tasks, were they there."""
    return label == "tasks" or label.isdecimal() or is_task_id(label)


def is_task_id(label: str) -> bool:
    """Tell whether a label has the form of a task's id."""
    return len(label) == _TASK_ID_LETTERS and label.isascii() and label.isalnum()
