"""The data plane itself: one endpoint table, and the DNS, balancer, listeners and store that follow it.

Single-threaded: an update is in force everywhere when `apply` returns, but for listeners, which follow at once.
"""

from __future__ import annotations

import asyncio
import random
import resource
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import Backend, EndpointsUpdate, ServiceEndpoint
from worker.dataplane import store, vip
from worker.dataplane.dns.forward import PORT, Forwarder
from worker.dataplane.dns.resolvers import Resolvers
from worker.dataplane.dns.server import DnsServer
from worker.dataplane.dns.tasks import Namespaces, TaskServers
from worker.dataplane.dns.zone import Zone
from worker.dataplane.endpoints import EndpointTable
from worker.dataplane.lag import LagMeter
from worker.dataplane.listeners import Listeners, Listening, Wants, wanted_listeners
from worker.dataplane.protocol import (
    Applied,
    Configure,
    Counters,
    Hello,
    PortCleared,
    PortProblem,
    TaskGone,
    TaskNamespace,
    Tasks,
    ToWorker,
)
from worker.dataplane.proxy.api import CounterRow
from worker.dataplane.sockets import Port, SocketProvider

CLAIM_RETRY_S: Final = 5.0
log = structlog.get_logger()


class Balancing(Listening, Protocol):
    """What the data plane asks of the balancer (`worker.dataplane.proxy`)."""

    def apply(
        self,
        services: Mapping[str, ServiceEndpoint],
        backends: Mapping[str, tuple[Backend, ...]],
        withdrawn: Collection[str],
    ) -> None: ...

    def remove_service(self, service_id: str) -> None: ...

    def busy(self) -> frozenset[str]: ...

    def counters(self) -> list[CounterRow]: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...


class DataPlane:
    """What a node serves. `run` is its life; `on_message` hears what a worker is to be told.

    Args:
        folder: where the last endpoints are kept.
        dns_ports: ports to try for DNS, in this order.
        rng: draws what must not be predictable.
        resolv_conf: names the machine's name servers.
        on_message: called with each message for the worker as it comes up; it is only to be queued there.
    """

    def __init__(
        self,
        *,
        folder: Path,
        data_address: str,
        dns_ports: tuple[int, ...],
        clock: Clock,
        sockets: SocketProvider,
        balancer: Balancing,
        namespaces: Namespaces,
        rng: random.Random,
        resolv_conf: Path,
        on_message: Callable[[ToWorker], None],
    ) -> None:
        self._path = folder / "endpoints.msgpack"
        self._data_address = data_address
        self._clock = clock
        self._sockets = sockets
        self._balancer = balancer
        self._tell = on_message
        self._store = store.EndpointStore(self._path, clock=clock, take=self._saved)
        self._table = EndpointTable()
        self._zone = Zone(self._table, server_address=data_address)
        self._dns = DnsServer(
            self._zone,
            clock=clock,
            sockets=sockets,
            address=data_address,
            ports=dns_ports,
            on_bound=self._say_hello,
            on_problem=self._problem,
            on_cleared=self._cleared,
        )
        self._forwarder = Forwarder(clock=clock, rng=rng)
        self._tasks = TaskServers(
            self._zone,
            clock=clock,
            forwarder=self._forwarder,
            resolvers=Resolvers(resolv_conf, clock=clock, is_own=self._is_own_name_server),
            namespaces=namespaces,
            on_served=on_message,
            on_lost=self._store.changed,
        )
        self._listeners = Listeners(
            clock=clock,
            sockets=sockets,
            balancer=balancer,
            wanted=self._wanted,
            on_problem=self._problem,
            on_cleared=self._cleared,
        )
        self._lag = LagMeter(clock)
        self._problems: dict[Port, PortProblem] = {}
        self._node_id = ""
        self._cluster_id = ""
        self._kept_prefix = ""
        self._known = asyncio.Event()

    def restore(self) -> None:
        """Take over what the last data plane saved, if anything."""
        saved = store.load(self._path)
        self._cluster_id = saved.cluster_id
        self._kept_prefix = saved.vip_prefix
        self._update(saved.endpoints)
        self._set_node(saved.node_id)
        self._tasks.serve(saved.tasks)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._claim_vips())
            parts.create_task(self._listeners.run())
            parts.create_task(self._dns.run())
            parts.create_task(self._forwarder.run())
            parts.create_task(self._tasks.run())
            parts.create_task(self._store.run())
            parts.create_task(self._lag.run())
            parts.create_task(self._sockets.watch())

    async def close(self) -> None:
        """Tell HTTP clients to go, stop accepting, let connections end for a while, save.

        DNS answers until they have ended. Ports accept while clients are told: each wait before the next process
        would be one for new connections, too.
        """
        try:
            await self._sockets.keep()
            await self._balancer.drain()
            await self._listeners.stop()
            await self._balancer.close()
            await self._store.flush()
        finally:
            await self._tasks.close()
            await self._dns.close()

    def configure(self, message: Configure) -> None:
        """Take note of whose data plane this is; another cluster's endpoints are forgotten."""
        if message.cluster_id != self._cluster_id:
            if self._cluster_id:
                log.warning("another cluster: the endpoints of the last one are dropped", was=self._cluster_id)
            self._cluster_id = message.cluster_id
            self._update(EndpointsUpdate(revision=0, complete=True))
            self._store.changed()
        if message.node_id != self._node_id:
            self._store.changed()
        self._set_node(message.node_id)

    def apply(self, update: EndpointsUpdate) -> None:
        """Bring everything to `update`; an older one than what is known changes nothing."""
        if self._update(update):
            self._store.changed()

    def name(self, message: TaskNamespace | Tasks | TaskGone) -> None:
        """Serve names in tasks' namespaces, or no longer; each that is to be served is answered."""
        match message:
            case TaskNamespace():
                self._tasks.serve((message,))
            case Tasks(tasks=tasks):
                self._tasks.replace(tasks)
            case TaskGone(task_id=task_id):
                self._tasks.forget(task_id)
        self._store.changed()

    def hello(self) -> Hello:
        return Hello(
            dns_address=self._data_address,
            dns_port=self._dns.port,
            vip_prefix=self._zone.vip_prefix,
            cluster_id=self._cluster_id,
            revision=self._table.revision,
        )

    def applied(self) -> Applied:
        return Applied(revision=self._table.revision, busy=tuple(sorted(self._balancer.busy())))

    def problems(self) -> tuple[PortProblem, ...]:
        return tuple(self._problems.values())

    def counters(self) -> Counters:
        """Return the counters; the greatest loop lag starts again."""
        names = Counter(self._dns.counters())
        names.update(self._tasks.counters())
        return Counters(
            dns=dict(names),
            balancer=tuple(self._balancer.counters()),
            loop_lag_max_s=self._lag.take_max_s(),
            loop_lag_total_s=self._lag.total_s,
            rss_bytes=resident_bytes(),
        )

    def _update(self, update: EndpointsUpdate) -> bool:
        change = self._table.apply(update)
        if change is None:
            log.warning("an old update is ignored", revision=update.revision, applied=self._table.revision)
            return False
        if change:
            tokens = self._zone.apply(change)
            self._dns.drop(tokens)
            self._tasks.changed(tokens, change.moves.tasks, networks=change.moves.networks)
        if change.serving:
            self._balancer.apply(
                {s: self._table.services[s] for s in change.changed},
                {s: self._table.ready(s) for s in change.changed},
                change.withdrawn,
            )
            for service_id in change.removed:
                self._balancer.remove_service(service_id)
            if change.redefined or change.removed:
                self._listeners.changed()
        return True

    def _wanted(self) -> Wants:
        return wanted_listeners(
            self._table.services.values(),
            data_address=self._data_address,
            vip_prefix=self._zone.vip_prefix,
        )

    def _saved(self) -> store.Saved:
        return store.Saved(
            endpoints=self._table.snapshot(),
            node_id=self._node_id,
            cluster_id=self._cluster_id,
            vip_prefix=self._zone.vip_prefix or self._kept_prefix,
            tasks=self._tasks.wanted,
        )

    def _set_node(self, node_id: str) -> None:
        self._node_id = node_id
        if node_id != self._zone.node_id:
            self._zone.node_id = node_id
            self._tasks.clear()
        if node_id:
            self._known.set()

    async def _claim_vips(self) -> None:
        """Claim a /16 once the node's id is known, and hold it until cancelled."""
        await self._known.wait()
        place = Port("tcp", f"127.x.{vip.PROBE_HOST}", vip.PROBE_PORT)
        while (claim := await self._claim(place)) is None:
            await self._clock.sleep(CLAIM_RETRY_S)
        self._cleared(place)
        with claim.sock:
            self._zone.vip_prefix = claim.prefix
            self._dns.clear()
            self._listeners.changed()
            self._store.changed()
            self._say_hello()
            await asyncio.get_running_loop().create_future()  # never done: held until cancelled

    async def _claim(self, place: Port) -> vip.Claim | None:
        message = "every loopback /16 for VIPs is taken; until one is free, names answer with node addresses"
        try:
            claim = await vip.claim(self._sockets, self._node_id, self._kept_prefix)
        except SwarmError as error:
            claim, message = None, error.message
        if claim is None and place not in self._problems:
            log.error("no VIPs yet", error=message)
            self._problem(place, message)
        return claim

    def _is_own_name_server(self, address: str) -> bool:
        return address == self._data_address and self._dns.port == PORT

    def _say_hello(self) -> None:
        self._tell(self.hello())
        for problem in self.problems():
            self._tell(problem)

    def _problem(self, port: Port, message: str) -> None:
        problem = PortProblem(transport=port.transport, address=port.address, port=port.port, message=message)
        self._problems[port] = problem
        self._tell(problem)

    def _cleared(self, port: Port) -> None:
        if self._problems.pop(port, None) is not None:
            self._tell(PortCleared(transport=port.transport, address=port.address, port=port.port))


def resident_bytes() -> int:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
