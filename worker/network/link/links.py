"""All links of a node: its tasks' namespaces, their ways out, their networks. For one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from worker.network.link import messages, names, namespace, sysctl
from worker.network.link.fabric import Fabric, Segment
from worker.network.link.forwarding import Difference, Neighbour
from worker.network.link.gateway import Gateway, WaysOut
from worker.network.link.joint import Joint
from worker.network.link.place import Place
from worker.network.link.pool import POOLS
from worker.network.link.rtnl import Rtnl

_LOOPBACK: Final = 1

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed: tasks' namespaces, and links in the host's namespace and in the fabric."""

    namespaces: tuple[str, ...]
    links: tuple[str, ...]


class Links:
    """Every call leaves things as it says, whatever they were; so each may be repeated after an interruption."""

    def __init__(
        self,
        place: Place,
        *,
        clock: Callable[[], float],
        pools: Sequence[IPv4Network] = POOLS,
        avoid: Iterable[IPv4Network] = (),
    ) -> None:
        """Open the host's side: the namespace in which the calling thread is.

        Args:
            clock: seconds since boot.
            pools: where the subnet of the node's tasks may be.
            avoid: subnets that are in use elsewhere, such as the cluster's networks.

        Raises:
            SwarmError: the kernel has no rtnetlink.
        """
        self._place = place
        self._host = Rtnl()
        self._ways_out = WaysOut(self._host, place, clock=clock, pools=pools, avoid=avoid)
        self._fabric = Fabric(self._host, place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets; every link stays."""
        self._fabric.close()
        self._host.close()

    # -- namespaces ---------------------------------------------------------------------------------------------

    def make_namespace(self, task_id: str, settings: Mapping[str, str] | None = None) -> Path:
        """Give a task a network namespace with nothing but a loopback, and return where it is pinned.

        Args:
            settings: sysctls below `net.` that the task is to have.

        Raises:
            SwarmError: INVALID_ARGUMENT, a sysctl is none of a namespace, or cannot have that value.
        """
        wanted = dict(settings or {})
        sysctl.check(wanted)
        path = self._place.namespace(task_id)
        namespace.pin(path)
        namespace.open_in(path, lambda: _set_up(wanted))
        return path

    def remove_namespace(self, task_id: str) -> None:
        """Let go of a task's namespace and addresses; its links go with it. Of a task that has none, it is done."""
        namespace.unpin(self._place.namespace(task_id))
        self._ways_out.leave(task_id)

    # -- ways out -----------------------------------------------------------------------------------------------

    def gateway(self) -> Gateway:
        """Return the host's side of its tasks' ways out, which is made when it is asked for first."""
        return self._ways_out.gateway()

    def join_gateway(self, task_id: str, inner: str = "eth0", *, default_route: bool = True) -> Joint:
        """Give a task a way out: the interface `inner`, and the default route through it."""
        return self._ways_out.join(task_id, inner, default_route=default_route)

    # -- networks -----------------------------------------------------------------------------------------------

    def ensure_network(self, segment: Segment) -> int:
        """Have a network on this node, and return its MTU here. Tasks may join it from now on."""
        return self._fabric.ensure(segment)

    def remove_network(self, network_id: str) -> None:
        """Remove a network from this node, with all tasks' links to it."""
        self._fabric.remove(network_id)

    def join_network(self, task_id: str, network_id: str, address: IPv4Interface, inner: str) -> Joint:
        """Give a task, running or not, the interface `inner` on a network."""
        return self._fabric.join(task_id, network_id, address, inner)

    def leave_network(self, task_id: str, network_id: str) -> None:
        """Take a task's interface on a network away."""
        self._fabric.leave(task_id, network_id)

    def set_neighbours(self, network_id: str, neighbours: Iterable[Neighbour]) -> Difference:
        """Make `neighbours` all that a network's tasks reach on other nodes; those on this one may be among them."""
        return self._fabric.set_neighbours(network_id, neighbours)

    # -- what is left over --------------------------------------------------------------------------------------

    def sweep(self, tasks: Collection[str], networks: Collection[str]) -> Swept:
        """Remove what belongs to this node and to none of `tasks` and `networks`, as a killed worker leaves it."""
        pins = namespace.pinned(self._place.pins) - {names.FABRIC} - set(tasks)
        for name in sorted(pins):
            namespace.unpin(self._place.pins / name)
        links = self._fabric.sweep(tasks, networks) + self._ways_out.sweep(frozenset(tasks))
        if pins or links:
            log.info("swept", namespaces=len(pins), links=len(links))
        return Swept(tuple(sorted(pins)), tuple(links))

    def clear(self) -> None:
        """Remove everything of this node from the machine, as it leaves its cluster for good."""
        self.sweep((), ())
        self._fabric.clear()
        self._ways_out.clear()


def _set_up(settings: Mapping[str, str]) -> None:
    sysctl.write(sysctl.TASK_DEFAULTS, missing_ok=True)
    sysctl.write(settings)
    with Rtnl() as here:
        here.run(messages.set_link(_LOOPBACK, "bring the loopback up", up=True))
