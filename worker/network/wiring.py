"""Which links a task gets, and what they are called in it. Pure."""

from __future__ import annotations

from typing import Final

from swarmpy.errors import precondition
from swarmpy.model import network
from swarmpy.model.base import Model
from swarmpy.model.network import NetworkRow
from worker.assignments import Assignment

DNS_PORT: Final = 53
ELSEWHERE: Final = 34953
"""Where the name server of a task listens that has port 53 for itself."""


class Link(Model, frozen=True):
    """A task's link to a network of the cluster: its address there, and the interface's name in the task."""

    row: NetworkRow
    address: str
    inner: str


class Wiring(Model, frozen=True):
    """All links of one task with a network namespace of its own.

    `way_out` is the interface that leads to the node and, through it, out; empty for none. With `enclosed` the task may
    be reached by it, but begins no connection there: all of its networks are internal. `servers` are the user's name
    servers; `name_port` is the port of its own at 127.0.0.11, 0 if it has none.
    """

    task_id: str
    links: tuple[Link, ...] = ()
    way_out: str = ""
    enclosed: bool = False
    servers: tuple[str, ...] = ()
    name_port: int = 0

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(link.row.id for link in self.links)


def wire(assignment: Assignment) -> Wiring:
    """Return the links of a task that has a namespace: its networks in the order of its spec, then the way out.

    Raises:
        SwarmError: FAILED_PRECONDITION, it was given no address on a network that its spec names.
    """
    targets = [joined.target for joined in assignment.version.task.networks]
    if network.NONE in targets:
        return Wiring(task_id=assignment.id)
    given = {one.row.id: one for one in assignment.networks}
    links: list[Link] = []
    for target in targets:
        if target in network.PREDEFINED:
            continue
        if target not in given:
            raise precondition(
                f"the task was given no address on the network {target}; a container of a single node can join only"
                f" {' and '.join(network.PREDEFINED)}, and a cluster's managers have to know networks"
            )
        one = given[target]
        links.append(Link(row=one.row, address=one.address, inner=f"eth{len(links)}"))
    enclosed = bool(links) and network.BRIDGE not in targets and all(link.row.internal for link in links)
    serves_names = any(port.target == DNS_PORT for port in assignment.version.ports)
    return Wiring(
        task_id=assignment.id,
        links=tuple(links),
        way_out=f"eth{len(links)}",
        enclosed=enclosed,
        servers=assignment.version.task.container.dns,
        name_port=ELSEWHERE if serves_names else DNS_PORT,
    )
