"""Has the kernel balance published ports, in place of the data plane: `swarmpyd --publish-driver nftables`.

The balancer listens on all of them all the same. So what the kernel cannot do falls to it by itself: ports by UDP, HTTP
or with the PROXY protocol, those without a ready task, for which connections wait there, and all ports while the
kernel's table is not in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Final, Protocol

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import AppProtocol, EndpointsUpdate, PublishMode, ServicePort, Transport
from worker.dataplane.endpoints import EndpointTable
from worker.dataplane.proxy.pool import backend_address

AGAIN_S: Final = 1.0
LOOK_S: Final = 0.1
LONGEST_LOOK_S: Final = 2.0
WATCHED_S: Final = 600.0
"""How long a withdrawn task's connections are looked after: some drain timeout, and never those of a lost machine."""
_log = structlog.get_logger()

Place = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True, order=True, slots=True)
class Way:
    """One backend of a published port: where clients connect, where the task is reached, and which task it is."""

    entry: Place
    target: Place
    task_id: str


class Kernel(Protocol):
    """Who changes the kernel's table."""

    async def lead(self, ways: Mapping[Place, tuple[Place, ...]]) -> None:
        """Make these the published ports, with the backends of each."""

    async def connected(self, ways: Iterable[Way]) -> frozenset[Way]:
        """Return those of the ways by which there are connections."""


class Publishing:
    """What the cluster's endpoints are to the kernel's published ports of this node.

    `applied` is the endpoints' revision up to which the table follows, and `busy` the withdrawn tasks to which
    connections are led still.
    """

    def __init__(self, data_address: str, clock: Clock) -> None:
        self._data_address = data_address
        self._clock = clock
        self._wake = asyncio.Event()
        self._watched: dict[Way, float] = {}
        self._in_force: frozenset[Way] = frozenset()
        self._is_fresh = True
        self._problem = ""
        self.reset(_nobody_waits)

    def reset(self, on_applied: Callable[[], None]) -> None:
        """Begin anew, as in another cluster: what is in force stays until the first complete update.

        Args:
            on_applied: called whenever `applied` or `busy` has changed, but for calls of `take`.
        """
        self._on_applied = on_applied
        self._table = EndpointTable()
        self._is_known = False
        self.applied = 0
        self.busy: frozenset[str] = frozenset()

    def take(self, update: EndpointsUpdate) -> None:
        """Take over an update; `applied` follows."""
        self._table.apply(update)
        self._is_known = self._is_known or update.complete
        self._wake.set()

    def repeat(self) -> None:
        """Set everything anew: the table has been opened again, and may be another worker's."""
        self._is_fresh = True
        self._wake.set()

    async def run(self, kernel: Kernel) -> None:
        """Follow until cancelled."""
        while True:
            await self._until_due()
            self._wake.clear()
            if self._is_known and not await self._round(kernel):
                self._wake.set()
                await self._clock.sleep(AGAIN_S)

    async def _until_due(self) -> None:
        """Return when there is something new, or when it is time to look at connections."""
        if not self._watched:
            await self._wake.wait()
            return
        age_s = self._clock.monotonic() - max(self._watched.values())
        async with asyncio.TaskGroup() as waits:
            timer = waits.create_task(self._clock.sleep(min(LONGEST_LOOK_S, max(LOOK_S, age_s / 20))))
            change = waits.create_task(self._wake.wait())
            await asyncio.wait((timer, change), return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            change.cancel()

    async def _round(self, kernel: Kernel) -> bool:
        """Bring the table to what is known now, and look who is connected to what it leads to no more."""
        table, revision = self._table, self._table.revision
        wanted = ways(table, self._data_address)
        try:
            if wanted != self._in_force or self._is_fresh:
                await kernel.lead(grouped(wanted))
                self._is_fresh = False
                now_s = self._clock.monotonic()
                self._watched.update(dict.fromkeys(self._in_force - wanted, now_s))
                self._in_force = wanted
            for way in wanted:
                self._watched.pop(way, None)
            connected = await kernel.connected(self._watched) if self._watched else frozenset[Way]()
        except SwarmError as error:
            if error.message != self._problem:
                _log.warning("published ports are left to the balancer", why=error.message)
            self._problem = error.message
            self._is_fresh = True
            if not self._in_force:  # nothing is led, so nothing is to be withdrawn
                self._tell(revision, frozenset())
            return False
        self._problem = ""
        earliest_s = self._clock.monotonic() - WATCHED_S
        self._watched = {way: at_s for way, at_s in self._watched.items() if way in connected and at_s > earliest_s}
        if table is self._table:
            self._tell(revision, frozenset(way.task_id for way in self._watched))
        return True

    def _tell(self, revision: int, busy: frozenset[str]) -> None:
        if (revision, busy) != (self.applied, self.busy):
            self.applied, self.busy = revision, busy
            self._on_applied()


def ways(table: EndpointTable, data_address: str) -> frozenset[Way]:
    """Return what the kernel can lead: plain TCP ports of mode ingress, to each ready task."""
    found = set()
    for service in table.services.values():
        for port in service.ports:
            if not _is_plain(port):
                continue
            entry = (port.address or data_address, port.published)
            for backend in table.ready(service.service_id):
                target = backend_address(backend, port.target)
                if target is not None and _is_ipv4(entry[0]) and _is_ipv4(target[0]):
                    found.add(Way(entry, target, backend.task_id))
    return frozenset(found)


def grouped(found: Iterable[Way]) -> dict[Place, tuple[Place, ...]]:
    """Return the backends of each published port."""
    ports: dict[Place, tuple[Place, ...]] = {}
    for way in sorted(found):
        ports[way.entry] = (*ports.get(way.entry, ()), way.target)
    return ports


def _is_plain(port: ServicePort) -> bool:
    return (
        bool(port.published)
        and port.mode is PublishMode.INGRESS
        and port.transport is Transport.TCP
        and port.app_protocol is AppProtocol.TCP
        and not port.proxy_protocol
    )


def _is_ipv4(address: str) -> bool:
    try:
        IPv4Address(address)
    except AddressValueError:
        return False
    return True


def _nobody_waits() -> None:
    """What is called until a membership listens."""
