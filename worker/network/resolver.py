"""Which name servers a task is told of: its own wish, the node's, those of the machine. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarmpy.model.spec import ContainerSpec
from worker.dataplane.protocol import TASK_NAME_SERVER

_NDOTS: Final = "ndots:"


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


def task_resolver(container: ContainerSpec, machine: Resolver) -> Resolver:
    """Return the resolv.conf of a task with a network namespace of its own.

    Its one name server is in that namespace: it knows the cluster's names, and asks those of the user about others.

    Args:
        machine: the machine's resolv.conf.
    """
    options = container.dns_options or machine.options
    if not any(option.startswith(_NDOTS) for option in container.dns_options):
        # Names of the cluster are asked for as they are, before any search domain is appended.
        options = (*(option for option in options if not option.startswith(_NDOTS)), f"{_NDOTS}0")
    return Resolver((TASK_NAME_SERVER,), container.dns_search or machine.search, options)
