"""Brings the kernel's tables of this node to what the endpoints say, and knows how far they have come.

The first of several updates is acted on at once; those that come while that is done are then done together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Final, Protocol

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import EndpointsUpdate
from worker.network.link.forwarding import Neighbour
from worker.network.reach import Balance, Reach
from worker.network.records import WiringRecords
from worker.network.view import NetworkView
from worker.network.wiring import Wiring

AGAIN_S: Final = 1.0
_log = structlog.get_logger()


class Kernel(Protocol):
    """Who changes the tables, in the order in which it is asked."""

    async def follow(
        self, neighbours: Mapping[str, tuple[Neighbour, ...]], balances: Iterable[Balance]
    ) -> frozenset[str]:
        """Make the changes; return the tasks whose table could not be changed."""

    async def tidy(self) -> bool:
        """Do a part of what may come a little later; return whether there is more of it."""


class Following:
    """What the cluster's endpoints are to the tasks of this node that are on networks.

    `applied` is the endpoints' revision up to which the tables follow; without such tasks there is nothing to do.
    Who is connected by networks is asked for by the runner itself, so nobody is `busy` here.
    """

    busy: frozenset[str] = frozenset()

    def __init__(self, data_address: str, records: WiringRecords, clock: Clock) -> None:
        self._data_address = data_address
        self._records = records
        self._clock = clock
        self._wake = asyncio.Event()
        self._on_applied: Callable[[], None] = _nobody_waits
        self.reset(_nobody_waits)

    def reset(self, on_applied: Callable[[], None]) -> None:
        """Begin anew, as in another cluster: what is in force stays until the first complete update.

        Args:
            on_applied: called whenever `applied` has changed, but for calls of `take`.
        """
        self._on_applied = on_applied
        self._view = NetworkView(self._data_address)
        self._whole = set(self._records.rows)
        self._every_neighbour = True
        self.applied = 0

    def take(self, update: EndpointsUpdate) -> None:
        """Take over an update; `applied` follows, at once if no task of this node is on a network."""
        self._view.take(update)
        if not self._records.networks():
            self._view.take_dirt()
            self.applied = self._view.revision
        else:
            self._wake.set()

    def reach(self, wiring: Wiring) -> Reach | None:
        """Return what a task finds on its networks as of now; None, and it is told later, if that is not known yet."""
        if not self._view.is_known:
            self._whole.add(wiring.task_id)
            return None
        neighbours = {network_id: self._view.neighbours(network_id) for network_id in wiring.networks}
        return Reach(neighbours, self._view.vips(wiring.networks))

    def repeat(self) -> None:
        """Set everything anew: the tables have been opened again."""
        self._whole |= self._records.rows.keys()
        self._every_neighbour = True
        self._wake.set()

    async def run(self, kernel: Kernel) -> None:
        """Follow until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._view.is_known:
                continue
            if not await self._round(kernel):
                self._wake.set()
                await self._clock.sleep(AGAIN_S)
            elif self._records.networks():
                # What is new comes before what may come later; but a part of that follows each round.
                while await kernel.tidy() and not self._wake.is_set():
                    pass

    async def _round(self, kernel: Kernel) -> bool:
        """Bring the tables to what is known now; return whether that was done for all tasks."""
        view = self._view
        revision = view.revision
        dirt = view.take_dirt()
        whole, self._whole = self._whole, set()
        neighbours: dict[str, tuple[Neighbour, ...]] = {}
        if dirt.neighbours or self._every_neighbour:
            neighbours = {network_id: view.neighbours(network_id) for network_id in self._records.networks()}
            self._every_neighbour = False
        balances = self._balances(dirt.vips, whole)
        try:
            failed = await kernel.follow(neighbours, balances) if neighbours or balances else frozenset[str]()
        except SwarmError as error:
            _log.warning("the node's networks do not follow the endpoints", error=error.message)
            self._whole |= self._records.rows.keys()
            self._every_neighbour = True
            return False
        self._whole |= failed
        if view is self._view and not failed and revision != self.applied:
            self.applied = revision
            self._on_applied()
        return not failed

    def _balances(self, dirty: Mapping[str, set[IPv4Address]], whole: set[str]) -> list[Balance]:
        """Return what is to change in each task: all of its VIPs, or those that changed on its networks."""
        found = []
        for wiring in self._records.rows.values():
            if not wiring.links:
                continue
            if wiring.task_id in whole:
                found.append(Balance(wiring.task_id, self._view.vips(wiring.networks), whole=True))
                continue
            pairs = [(n, address) for n in wiring.networks for address in dirty.get(n, ())]
            if pairs:
                vips = [(address, self._view.vip(n, address)) for n, address in pairs]
                found.append(
                    Balance(
                        wiring.task_id,
                        tuple(vip for _, vip in vips if vip is not None),
                        tuple(address for address, vip in vips if vip is None),
                    )
                )
        return found


def _nobody_waits() -> None:
    """What is called until a membership listens."""
