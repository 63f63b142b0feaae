"""The balancer of one data plane: its listeners, services and connections, driven by endpoint updates."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Final

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import Backend, ServiceEndpoint, ServicePort, Transport
from worker.dataplane.proxy.api import CounterRow, Limits, ListenKey
from worker.dataplane.proxy.connection import Connection, Shared
from worker.dataplane.proxy.deadlines import Deadlines
from worker.dataplane.proxy.listener import Listener
from worker.dataplane.proxy.pool import BusySet, Pool, Service
from worker.dataplane.proxy.reactor import Reactor
from worker.dataplane.proxy.udp import Relay, relay

_SWEEP_S: Final = 0.1
_LOOKS_AT_FLOWS: Final = 8


class Balancer:
    """Carries connections from listeners to ready backends; single-threaded, on `loop`.

    Args:
        loop: the running event loop.
        clock: monotonic time for deadlines.
        limits: bounds; None for the defaults of `Limits`.
        on_busy_changed: called soon after `busy()` changed; several changes may come as one call.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        limits: Limits | None = None,
        on_busy_changed: Callable[[], None],
    ) -> None:
        limits = limits if limits is not None else Limits()
        self._shared = Shared(
            loop=loop,
            clock=clock,
            limits=limits,
            reactor=Reactor(loop, limits.high_water_bytes),
            connecting=Deadlines(limits.connect_timeout_s),
            held=Deadlines(limits.hold_s),
            lingering=Deadlines(limits.linger_s),
            connections=set(),
            parting=Deadlines(limits.answer_s),
        )
        self._on_busy_changed = on_busy_changed
        self._busy = BusySet(self._announce_busy)
        self._busy_announced = False
        self._shared.flowless.set()
        self._listeners: dict[ListenKey, Listener | Relay] = {}
        self._services: dict[str, Service] = {}
        self._service_of: dict[str, str] = {}
        self._ending: set[Service] = set()
        self._retry_at_s = 0.0
        self._idle_at_s = 0.0
        self._seen_bytes: dict[Connection, int] = {}
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)

    # -- endpoints

    def apply(
        self,
        services: Mapping[str, ServiceEndpoint],
        backends: Mapping[str, tuple[Backend, ...]],
        withdrawn: Collection[str],
    ) -> None:
        """Bring an endpoints update into force.

        Args:
            services: the services that changed, by id; a port's new protocol holds for new connections.
            backends: the whole ready list of each service that changed, by service id, ordered by slot.
            withdrawn: task ids that this update withdrew; none of them gets another connection.
        """
        for service_id, ready in backends.items():
            self._set_backends(self._service(service_id), ready)
        for task_id in withdrawn:
            service = self._services.get(self._service_of.get(task_id, ""))
            if service is not None and service.service_id not in backends:
                self._set_backends(service, tuple(b for b in service.backends if b.task_id != task_id))
        for listener in self._listeners.values() if services else ():
            changed = services.get(listener.pool.service.service_id)
            if changed is not None:
                listener.update(changed)

    def remove_service(self, service_id: str) -> None:
        """Withdraw all backends of a service and turn away who waits; `unlisten` closes its listeners."""
        service = self._services.get(service_id)
        if service is None:
            return
        self._set_backends(service, ())
        for pool in service.pools.values():
            pool.turn_away()
        self._forget_if_unused(service)

    def busy(self) -> frozenset[str]:
        """Return the withdrawn tasks that still have connections (HTTP: requests in flight)."""
        return self._busy.task_ids()

    def _service(self, service_id: str) -> Service:
        service = self._services.get(service_id)
        if service is None:
            service = self._services[service_id] = Service(service_id)
        return service

    def _set_backends(self, service: Service, backends: tuple[Backend, ...]) -> None:
        for old in service.backends:
            self._service_of.pop(old.task_id, None)
        service.backends = backends
        for new in backends:
            self._service_of[new.task_id] = service.service_id
        for pool in service.pools.values():
            pool.set_backends(backends)

    def _forget_if_unused(self, service: Service) -> None:
        """Drop what has neither listener nor connection; ask again later while connections go on."""
        used = {id(listener.pool) for listener in self._listeners.values()}
        for at, pool in list(service.pools.items()):
            if id(pool) in used:
                continue
            if pool.active:
                self._ending.add(service)
            else:
                del service.pools[at]
        if not service.pools and not service.backends:
            self._services.pop(service.service_id, None)

    # -- listeners

    async def listen(self, key: ListenKey, sock: socket.socket, service_id: str, port: ServicePort) -> None:
        """Serve `port` of a service on a bound (TCP: listening) socket, which is the balancer's from now on.

        Raises:
            SwarmError: ALREADY_EXISTS, `key` is being listened on; the socket stays the caller's.
        """
        if key in self._listeners:
            raise SwarmError(
                Code.ALREADY_EXISTS,
                f"{key.address}:{key.port} is already listened on; close the old listener with unlisten first",
            )
        service = self._service(service_id)
        at = (port.target, port.transport)
        pool = service.pools.get(at)
        if pool is None:
            pool = service.pools[at] = Pool(service, port.target, self._busy, port.transport)
            pool.set_backends(service.backends)
        kind = relay if port.transport is Transport.UDP else Listener
        self._listeners[key] = kind(self._shared, key, sock, pool, port)

    async def unlisten(self, key: ListenKey) -> None:
        """Stop accepting at `key` and close its socket; connections go on. Unknown keys are ignored."""
        listener = self._listeners.pop(key, None)
        if listener is not None:
            listener.close()
            self._forget_if_unused(listener.pool.service)

    def counters(self) -> list[CounterRow]:
        """Return a row for each target port listened on, followed by rows of its backends."""
        pools = itertools.chain.from_iterable(service.pools.values() for service in self._services.values())
        return list(itertools.chain.from_iterable(pool.rows() for pool in pools))

    async def drain(self) -> None:
        """Tell HTTP clients to go, with the answers to their next requests; all is served as before meanwhile.

        Ends when those that are here now have gone, at the latest after `limits.farewell_s`. `close` comes next.
        """
        shared = self._shared
        shared.draining = True
        told = {connection for connection in shared.connections if connection.can_be_told()}
        await self._await_end(told, shared.limits.farewell_s)

    async def close(self) -> None:
        """Stop accepting, let connections end for up to `limits.drain_s`, then cut the rest."""
        shared = self._shared
        for key in list(self._listeners):
            await self.unlisten(key)
        shared.draining = shared.closing = True
        for connection in list(shared.connections):
            connection.on_closing()
        async with asyncio.TaskGroup() as ends:
            ends.create_task(self._await_end(set(shared.connections), shared.limits.drain_s))
            ends.create_task(self._await_answers())
        for connection in list(shared.connections):
            connection.abort()
        for flow in list(shared.flows):
            flow.close()
        self._sweeper.cancel()
        shared.reactor.shut_down()

    async def _await_end(self, connections: set[Connection], most_s: float) -> None:
        shared = self._shared
        shared.leaving = connections
        shared.left.clear()
        if connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(most_s):
                    await shared.left.wait()

    async def _await_answers(self) -> None:
        """Let UDP clients have the answers to what they have asked."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._shared.limits.answer_s):
                await self._shared.flowless.wait()

    # -- time

    def _announce_busy(self) -> None:
        if not self._busy_announced:
            self._busy_announced = True
            self._shared.loop.call_soon(self._tell_busy)

    def _tell_busy(self) -> None:
        self._busy_announced = False
        self._on_busy_changed()

    def _sweep(self) -> None:
        shared = self._shared
        now_s = shared.clock.monotonic()
        for connection in shared.connecting.expired(now_s):
            connection.on_connect_failed()
        for connection in shared.held.expired(now_s):
            connection.on_hold_expired()
        for connection in shared.lingering.expired(now_s):
            connection.close()
        for flow in shared.parting.expired(now_s):
            flow.close()
        self._forget_silent_flows(now_s)
        if now_s >= self._retry_at_s:
            self._retry_at_s = now_s + shared.limits.rest_s
            for pool in dict.fromkeys(connection.pool for connection in shared.held):
                pool.retry()
            ending, self._ending = self._ending, set()
            for service in ending:
                self._forget_if_unused(service)
        if shared.limits.idle_timeout_s is not None and now_s >= self._idle_at_s:
            self._cut_idle(now_s, shared.limits.idle_timeout_s)
        self._sweeper = shared.loop.call_later(_SWEEP_S, self._sweep)

    def _forget_silent_flows(self, now_s: float) -> None:
        """Look at some of each service's UDP clients, and close those that have been silent for long."""
        for service in self._services.values():
            for _ in range(_LOOKS_AT_FLOWS if len(service.flows) else 0):
                silent = service.flows.idle(now_s, self._shared.limits.flow_idle_s)
                if silent is not None:
                    silent.close()

    def _cut_idle(self, now_s: float, timeout_s: float) -> None:
        """Cut the connections whose byte counts have not moved since the last look, one time-out ago."""
        self._idle_at_s = now_s + timeout_s
        seen, self._seen_bytes = self._seen_bytes, {}
        for connection in list(self._shared.connections):
            total_bytes = connection.total_bytes()
            if seen.get(connection) == total_bytes:
                connection.close()
            else:
                self._seen_bytes[connection] = total_bytes
