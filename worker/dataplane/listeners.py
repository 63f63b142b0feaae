"""Which ports the balancer must listen on, and bringing what is held to that.

`wanted_listeners` and `plan` decide; `Listeners` does it, one plan after the other, and tries ports again that
cannot be bound.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import PublishMode, ServiceEndpoint, ServicePort
from worker.dataplane.dns.zone import render_vip
from worker.dataplane.proxy.api import TRANSPORT_NAMES, ListenKey
from worker.dataplane.sockets import Port, SocketProvider

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 15.0
ABSENT_RETRY_S: Final = 1.0
"""How often a chosen address is looked for: it may move to this node when another one fails."""
log = structlog.get_logger()


class Listening(Protocol):
    """The part of the balancer that is needed here. A socket given to `listen` is the balancer's to close."""

    async def listen(self, key: ListenKey, sock: socket.socket, service_id: str, port: ServicePort) -> None: ...

    async def unlisten(self, key: ListenKey) -> None: ...


class Want(NamedTuple):
    """What a listener serves."""

    service_id: str
    port: ServicePort


Wants = Mapping[ListenKey, Want]


def wanted_listeners(
    services: Iterable[ServiceEndpoint], *, data_address: str, vip_prefix: str
) -> dict[ListenKey, Want]:
    """Return the listener for each port: published ones on their address, each target port on the VIP.

    The allocator gives no port to two services; should it come to that, the lower service id has it.
    """
    wanted: dict[ListenKey, Want] = {}
    for service in sorted(services, key=lambda s: s.service_id):
        for port in service.ports:
            transport = TRANSPORT_NAMES[port.transport]
            want = Want(service.service_id, port)
            if port.published and port.mode is PublishMode.INGRESS:
                wanted.setdefault(ListenKey(port.address or data_address, port.published, transport), want)
            if vip_prefix and service.vip_index and not service.dnsrr:
                wanted.setdefault(ListenKey(render_vip(vip_prefix, service.vip_index), port.target, transport), want)
    return wanted


class Plan(NamedTuple):
    """`stop` comes before `start`; a listener that serves something else now is in both. `free` is given up."""

    stop: tuple[ListenKey, ...]
    free: tuple[ListenKey, ...]
    start: tuple[ListenKey, ...]


def plan(held: Wants, wanted: Wants) -> Plan:
    """Return what turns the held listeners into the wanted ones."""
    stop = tuple(key for key, want in held.items() if wanted.get(key) != want)
    return Plan(
        stop=stop,
        free=tuple(key for key in stop if key not in wanted),
        start=tuple(key for key, want in wanted.items() if held.get(key) != want),
    )


class _Retry(NamedTuple):
    at_s: float
    delay_s: float


class Listeners:
    """Holds the balancer's listening sockets: `wanted` says which, `run` makes it so after each `changed`."""

    def __init__(
        self,
        *,
        clock: Clock,
        sockets: SocketProvider,
        balancer: Listening,
        wanted: Callable[[], Wants],
        on_problem: Callable[[Port, str], None],
        on_cleared: Callable[[Port], None],
    ) -> None:
        self._clock = clock
        self._sockets = sockets
        self._balancer = balancer
        self._on_problem = on_problem
        self._on_cleared = on_cleared
        self._wanted = wanted
        self._held: dict[ListenKey, Want] = {}
        self._retries: dict[ListenKey, _Retry] = {}
        self._to_free: list[ListenKey] = []
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Have what `wanted` returns then, soon; many changes may come to one step."""
        self._changed.set()

    @property
    def held(self) -> Wants:
        return self._held

    async def run(self) -> None:
        """Follow what is wanted until cancelled."""
        while True:
            self._changed.clear()
            await self._reconcile()
            await self._until_changed_or_due()

    async def stop(self) -> None:
        """Stop accepting everywhere. The provider keeps its copies, so clients wait for the next process."""
        for key in tuple(self._held):
            del self._held[key]
            await self._balancer.unlisten(key)

    async def _reconcile(self) -> None:
        wanted = self._wanted()
        steps = plan(self._held, wanted)
        for key in steps.stop:
            del self._held[key]
            await self._balancer.unlisten(key)
        self._to_free = [key for key in {*self._to_free, *steps.free} if key not in wanted]
        self._to_free = [key for key in self._to_free if not await self._freed(key)]
        for key in [key for key in self._retries if key not in wanted]:
            del self._retries[key]
            self._on_cleared(_port(key))
        for key in steps.start:
            retry = self._retries.get(key)
            if retry is None or retry.at_s <= self._clock.monotonic():
                await self._start(key, wanted[key])

    async def _start(self, key: ListenKey, want: Want) -> None:
        try:
            sock = await self._sockets.bind(_port(key))
        except SwarmError as error:
            self._fail(key, want, error)
            return
        await self._balancer.listen(key, sock, want.service_id, want.port)
        self._held[key] = want
        if self._retries.pop(key, None) is not None:
            self._on_cleared(_port(key))
            log.info("a port can be bound now", address=key.address, port=key.port, service=want.service_id)

    def _fail(self, key: ListenKey, want: Want, error: SwarmError) -> None:
        before = self._retries.get(key)
        absent = error.code is Code.UNAVAILABLE and key.address == want.port.address
        delay_s = FIRST_RETRY_S if before is None else min(LAST_RETRY_S, before.delay_s * 2)
        if absent:
            delay_s = ABSENT_RETRY_S
        self._retries[key] = _Retry(self._clock.monotonic() + delay_s, delay_s)
        if absent and before is None:
            log.info("a port waits for its address", service=want.service_id, what=error.message)
        elif before is None:
            log.warning("a port cannot be bound", service=want.service_id, error=error.message)
            self._on_problem(_port(key), error.message)

    async def _freed(self, key: ListenKey) -> bool:
        try:
            await self._sockets.unbind(_port(key))
        except SwarmError as error:
            log.warning("a port cannot be given back yet", address=key.address, port=key.port, error=error.message)
            return False
        return True

    async def _until_changed_or_due(self) -> None:
        if not self._retries and not self._to_free:
            await self._changed.wait()
            return
        now_s = self._clock.monotonic()
        due_s = min((retry.at_s for retry in self._retries.values()), default=now_s + LAST_RETRY_S)
        async with asyncio.TaskGroup() as waits:
            timer = waits.create_task(self._clock.sleep(max(0.0, due_s - now_s)))
            change = waits.create_task(self._changed.wait())
            await asyncio.wait((timer, change), return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            change.cancel()


def _port(key: ListenKey) -> Port:
    return Port(key.transport, key.address, key.port)
