"""Joins the tasks of a node to its networks and publishes their ports.

The machine is left as it is until the first task is to be joined: a node of process tasks has no links and no table.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from swarmpy.clock import Clock
from swarmpy.daemon.publishing import LED
from swarmpy.errors import SwarmError
from swarmpy.model import network
from swarmpy.model.endpoints import HostPort
from worker.assignments import Assignment
from worker.dataplane.protocol import TaskNamespace
from worker.network.attachment import Attachment
from worker.network.connections import connections
from worker.network.following import Following
from worker.network.link.forwarding import Neighbour
from worker.network.link.place import Place
from worker.network.opening import MachineThread
from worker.network.publishing import Place as Port
from worker.network.publishing import Publishing, Way
from worker.network.reach import Balance
from worker.network.records import WiringRecords
from worker.network.resolver import NO_RESOLVER, Resolver, read_resolver, task_resolver
from worker.network.wiring import Wiring, wire

if TYPE_CHECKING:
    from worker.network.link.joint import Joint
    from worker.network.machine import Machine

MACHINE_RESOLVER: Final = Path("/etc/resolv.conf")
_log = structlog.get_logger()


class Names(Protocol):
    """Serves names inside tasks (`worker.dataplane.names.TaskNames`)."""

    async def serve(self, namespace: TaskNamespace) -> str: ...
    def forget(self, task_id: str) -> None: ...
    def replace(self, namespaces: Iterable[TaskNamespace]) -> None: ...


class NodeNetworks:
    """The networks of one node. Calls wait until `run` has opened the machine's side; every call may be repeated.

    `following` is to be given the cluster's endpoints while the node is in one.
    """

    def __init__(
        self,
        place: Place,
        *,
        names: Names,
        clock: Clock,
        rng: random.Random,
        resolv_conf: Path = MACHINE_RESOLVER,
        leads_ports: bool = False,
    ) -> None:
        """
        Args:
            resolv_conf: the machine's, read anew for each task.
            leads_ports: whether the kernel is to balance published ports; `publishing` is then to be given the
                endpoints, too.
        """
        self._place = place
        self._clock, self._rng = clock, rng
        self._names = names
        self._resolv_conf = resolv_conf
        self._records = WiringRecords(place.wiring)
        self._leaving: set[str] = set()
        self._withdrawn: set[str] = set()
        self._thread = MachineThread(self._open, clock)
        self._led = place.state_dir / "run" / LED
        self.following = Following(str(place.data_address), self._records, clock)
        self.publishing = Publishing(str(place.data_address), clock) if leads_ports else None

    async def run(self) -> None:
        """Look after links and tables until cancelled; they outlive it."""
        if self._has_joined() or self.publishing is not None or self._led.exists():
            self._thread.want()
        self._names.replace(row for row in map(self._served, self._records.rows.values()) if row is not None)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._thread.run(self._opened))
            group.create_task(self.following.run(self))
            if self.publishing is not None:
                group.create_task(self.publishing.run(self))

    def _opened(self) -> None:
        self.following.repeat()
        if self.publishing is not None:
            self.publishing.repeat()

    async def attach(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Attachment:
        """Make the task's namespace with all its links, and publish its ports on the node.

        Raises:
            SwarmError: FAILED_PRECONDITION, a network that this node cannot join; UNAVAILABLE, not now.
        """
        container = assignment.version.task.container
        machine = await asyncio.to_thread(self._machine_resolver)
        if any(joined.target == network.HOST for joined in assignment.version.task.networks):
            options = container.dns_options or machine.options
            resolver = Resolver(container.dns or machine.servers, container.dns_search or machine.search, options)
            return Attachment("", str(self._place.data_address), resolver)
        wiring = wire(assignment)
        await self._thread.open()
        self._leaving.discard(assignment.id)
        self._records.keep(wiring)
        reach = self.following.reach(wiring)
        joint = await self._thread.submit(lambda machine: machine.attach(wiring, reach))
        if joint is None:
            return Attachment(str(self._place.namespace(assignment.id)), "")
        address = joint.address.ip
        await self._thread.submit(lambda machine: machine.publish(address, host_ports, assignment.bindings))
        served = self._served(wiring)
        assert served is not None, "who has a way out has a name server"
        await self._names.serve(served)
        return _attachment(wiring, joint, task_resolver(container, machine))

    async def detach(self, task_id: str) -> None:
        """Withdraw the task's ports and remove its namespace with its links; of an unknown task it is done already."""
        if task_id not in self._records.rows and not self._place.namespace(task_id).exists():
            return
        self._names.forget(task_id)
        if self._thread.is_wanted or self._has_joined():
            await self._thread.open()
            self._leaving.add(task_id)
            unused = self._unused_after(task_id)
            await self._thread.submit(lambda machine: machine.leave(task_id, unused))
        self._records.forget(task_id)
        self._leaving.discard(task_id)
        self._withdrawn.discard(task_id)

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        """Take back what tasks that are not held have left behind. Never raises."""
        if not self._thread.is_wanted and not self._has_joined():
            return
        try:
            for task_id in [t for t in self._records.rows if not is_held(t)]:
                await self.detach(task_id)
            await self._thread.open()
            await self._thread.submit(lambda machine: machine.sweep(is_held, self._records.networks))
        except SwarmError as error:
            _log.warning("left-over of a network", error=error.message)

    async def connections(self, task_ids: Iterable[str]) -> Mapping[str, int]:
        """Return how many connections others have to withdrawn tasks; who cannot be looked at is left out.

        Their ports are withdrawn with the first question: who has a connection keeps it, and nobody begins another one.
        """
        rows = {task_id: self._records.rows.get(task_id) for task_id in task_ids}
        wirings = [wiring for wiring in rows.values() if wiring is not None]
        withdrawn = [w.task_id for w in wirings if w.way_out and w.task_id not in self._withdrawn]
        if withdrawn:
            try:
                await self._thread.open()
                await self._thread.submit(lambda machine: machine.withdraw(withdrawn))
            except SwarmError as error:
                _log.warning("ports of withdrawn tasks are not withdrawn", tasks=withdrawn, error=error.message)
                return {}
            self._withdrawn.update(withdrawn)
        places = {wiring.task_id: self._place.namespace(wiring.task_id) for wiring in wirings}
        return {**dict.fromkeys(rows.keys() - places, 0), **await asyncio.to_thread(connections, places)}

    async def follow(
        self, neighbours: Mapping[str, tuple[Neighbour, ...]], balances: Iterable[Balance]
    ) -> frozenset[str]:
        """Change the tables as the endpoints have; return the tasks whose table could not be changed."""
        return await self._thread.submit(lambda machine: machine.follow(neighbours, balances))

    async def lead(self, ways: Mapping[Port, tuple[Port, ...]]) -> None:
        """Have the kernel balance these published ports, and no others."""
        self._led.touch()
        await self._thread.submit(lambda machine: machine.leading.lead(ways))

    async def connected(self, ways: Iterable[Way]) -> frozenset[Way]:
        """Return those of the ways by which there are connections."""
        asked = tuple(ways)
        return await self._thread.submit(lambda machine: machine.leading.connected(asked))

    async def tidy(self) -> bool:
        """Do a part of what may come a little later; return whether there is more of it."""
        try:
            return await self._thread.submit(lambda machine: machine.tidy())
        except SwarmError:
            return False  # it is not open: whoever opens it repeats everything

    def _open(self) -> Machine:
        """Open the machine's side, on its thread, and take over the tasks that are there."""
        # Loaded on first need: a worker whose tasks are on no networks starts sooner, and is smaller.
        from worker.network.machine import Machine

        machine = Machine(self._place, self._clock, self._rng)
        machine.adopt([*self._records.rows.values()])
        if self.publishing is None:
            machine.leading.end()  # a former worker may have led some, and been killed
        return machine

    def _unused_after(self, task_id: str) -> list[str]:
        """Return the networks on which a task is the last of this node, but for others that leave, too."""
        wiring = self._records.rows.get(task_id)
        return [n for n in wiring.networks if self._leaving.issuperset(self._records.on(n))] if wiring else []

    def _served(self, wiring: Wiring) -> TaskNamespace | None:
        """Return where names are to be served for a task; None for one that is on no network at all."""
        if not wiring.name_port:
            return None
        return TaskNamespace(
            task_id=wiring.task_id,
            netns=str(self._place.namespace(wiring.task_id)),
            servers=wiring.servers,
            forward=not wiring.enclosed,
            networks=wiring.networks,
            port=wiring.name_port,
        )

    def _has_joined(self) -> bool:
        """Whether tasks were joined in this boot of the machine."""
        return any(next(d.iterdir(), None) for d in (self._place.leases, self._place.pins) if d.is_dir())

    def _machine_resolver(self) -> Resolver:
        try:
            return read_resolver(self._resolv_conf.read_text("utf-8", "replace"))
        except OSError:
            return NO_RESOLVER


def _attachment(wiring: Wiring, joint: Joint, resolver: Resolver) -> Attachment:
    own = tuple(link.address for link in wiring.links) or (str(joint.address.ip),)
    return Attachment(str(joint.namespace), str(joint.address.ip), resolver, own)
