"""Which name servers a task is told of: its own wish, the node's, those of the machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from swarmpy.model.spec import ContainerSpec

_MOST_SERVERS: Final = 3
"""All that a C library asks."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


NO_RESOLVER: Final = Resolver()


def read_resolver(text: str) -> Resolver:
    """Return what the text of a resolv.conf says; what is not understood is passed over."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    for line in text.splitlines():
        match line.split():
            case ["nameserver", address, *_]:
                servers.append(address)
            case ["search" | "domain", *names]:
                search = tuple(names)
            case ["options", *words]:
                options = tuple(words)
    return Resolver(tuple(servers), search, options)


def reachable(servers: Sequence[str]) -> tuple[str, ...]:
    """Return the servers that can be reached from a network namespace of its own: none on the machine's loopback."""
    return tuple(server for server in servers if not _is_loopback(server))


def task_resolver(container: ContainerSpec, own: str, machine: Resolver) -> Resolver:
    """Return a task's resolv.conf.

    Args:
        own: the node's own name server, as tasks reach it, which knows the cluster's names; empty for none.
        machine: the machine's resolv.conf.
    """
    servers = container.dns or tuple(filter(None, (own, *reachable(machine.servers))))[:_MOST_SERVERS]
    return Resolver(servers, container.dns_search or machine.search, container.dns_options or machine.options)


def _is_loopback(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False
