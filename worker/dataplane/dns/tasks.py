"""The name servers inside tasks' network namespaces: which there are, and bringing what is open to that.

The worker says which namespaces there are (`serve`, `forget`, `replace`); `run` opens sockets in them, and lets go of
those that are gone, said or not. Tasks on the same networks share the kept answers.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from worker.dataplane.dns.answers import TCP_BYTES, UDP_BYTES, Responder
from worker.dataplane.dns.forward import Forwarder, Upstream
from worker.dataplane.dns.resolvers import Resolvers
from worker.dataplane.dns.scope import Scope, view_of
from worker.dataplane.dns.task import Responders, TaskServer
from worker.dataplane.dns.zone import Zone
from worker.dataplane.protocol import TASK_NAME_SERVER, TaskNamespace, TaskServed
from worker.dataplane.sockets import Port, bind_socket

LOOK_S: Final = 2.0
CACHE_BYTES: Final = 8 << 20
"""What kept answers may take for all tasks together; each scope has the same share of it."""
T = TypeVar("T")
log = structlog.get_logger()


class Namespaces(Protocol):
    """How network namespaces are looked at and entered (`worker.dataplane.namespaces`)."""

    def identity(self, path: Path) -> int | None:
        """Return what tells the namespace pinned at `path` from all others; None if none is."""

    def open_in(self, path: Path, make: Callable[[], T]) -> T:
        """Return what `make` makes in the namespace pinned at `path`."""


@dataclass(slots=True)
class _Open:
    """A task's name server, and what it was opened for."""

    namespace: TaskNamespace
    identity: int
    scope: Scope
    server: TaskServer


class TaskServers:
    """Keeps name servers in the namespaces of this node's tasks.

    Args:
        zone: what names mean; told of each change before `changed` is called here.
        on_served: called when names are served in a task's namespace, and with why they are not.
        on_lost: called when a namespace is found to be gone.
    """

    def __init__(
        self,
        zone: Zone,
        *,
        clock: Clock,
        forwarder: Forwarder,
        resolvers: Resolvers,
        namespaces: Namespaces,
        on_served: Callable[[TaskServed], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._zone = zone
        self._clock = clock
        self._forwarder = forwarder
        self._resolvers = resolvers
        self._namespaces = namespaces
        self._on_served = on_served
        self._on_lost = on_lost
        self._wanted: dict[str, TaskNamespace] = {}
        self._open: dict[str, _Open] = {}
        self._scopes: dict[Scope, Responders] = {}
        self._failing: dict[str, str] = {}
        self._counted: Counter[str] = Counter()
        self._changed = asyncio.Event()

    @property
    def wanted(self) -> tuple[TaskNamespace, ...]:
        """The namespaces in which names are to be served."""
        return tuple(self._wanted.values())

    def serve(self, namespaces: Iterable[TaskNamespace]) -> None:
        """Serve names in these, too; each is answered with a `TaskServed`."""
        for namespace in namespaces:
            self._wanted[namespace.task_id] = namespace
            there = self._open.get(namespace.task_id)
            if there is not None and there.namespace == namespace:
                self._on_served(TaskServed(task_id=namespace.task_id))
        self._changed.set()

    def forget(self, task_id: str) -> None:
        if self._wanted.pop(task_id, None) is not None:
            self._changed.set()

    def replace(self, namespaces: Iterable[TaskNamespace]) -> None:
        """Serve names in these and no others."""
        self._wanted.clear()
        self.serve(namespaces)

    def changed(self, tokens: Iterable[str], tasks: Iterable[str], *, networks: bool) -> None:
        """Follow the zone: the names behind `tokens`, these tasks' networks, or networks themselves have changed."""
        tokens = tuple(tokens)
        for responders in self._scopes.values():
            for responder in responders:
                if networks:
                    responder.clear()
                else:
                    responder.drop(tokens)
        for there in [self._open[t] for t in tasks if t in self._open]:
            self._rescope(there)

    def clear(self) -> None:
        """Forget every kept answer."""
        self.changed((), (), networks=True)

    def counters(self) -> Counter[str]:
        """Return queries by result, of scopes that are no more, too."""
        total = self._counted.copy()
        for responders in self._scopes.values():
            for responder in responders:
                total.update(responder.counters())
        return total

    async def run(self) -> None:
        """Follow what is wanted until cancelled."""
        while True:
            self._changed.clear()
            await self._reconcile()
            await self._changed_or(LOOK_S)
            for there in self._open.values():
                there.server.expire()

    async def close(self) -> None:
        """Close every socket; what is wanted stays known."""
        for task_id in tuple(self._open):
            await self._shut(task_id)

    async def _changed_or(self, delay_s: float) -> None:
        async with asyncio.TaskGroup() as waits:
            timer = waits.create_task(self._clock.sleep(delay_s))
            change = waits.create_task(self._changed.wait())
            await asyncio.wait((timer, change), return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            change.cancel()

    async def _reconcile(self) -> None:
        identities = {t: self._namespaces.identity(Path(n.netns)) for t, n in self._wanted.items()}
        for task_id, there in tuple(self._open.items()):
            wanted = self._wanted.get(task_id)
            if wanted != there.namespace or identities.get(task_id) != there.identity:
                await self._shut(task_id)
        for task_id, identity in identities.items():
            namespace = self._wanted.get(task_id)
            if namespace is None:
                continue  # forgotten meanwhile
            if identity is None:
                log.info("a task's network namespace is gone", task=task_id, path=namespace.netns)
                self._lost(namespace)
            elif task_id not in self._open:
                await self._start(namespace, identity)
        self._failing = {t: problem for t, problem in self._failing.items() if t in self._wanted}

    def _lost(self, namespace: TaskNamespace) -> None:
        del self._wanted[namespace.task_id]
        self._on_served(TaskServed(task_id=namespace.task_id, problem=f"no namespace is pinned at {namespace.netns}"))
        self._on_lost()

    async def _start(self, namespace: TaskNamespace, identity: int) -> None:
        """Open a task's name server; one that cannot be opened is tried again with the next look."""
        task_id = namespace.task_id
        try:
            await self._bind(namespace, identity)
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return  # gone since the look: the next one sees it
            if self._failing.get(task_id) != error.message:
                log.warning("names are not served inside a task", task=task_id, error=error.message)
            self._failing[task_id] = error.message
            self._on_served(TaskServed(task_id=task_id, problem=error.message))
            return
        self._failing.pop(task_id, None)
        self._on_served(TaskServed(task_id=task_id))

    async def _bind(self, namespace: TaskNamespace, identity: int) -> None:
        path, port = Path(namespace.netns), namespace.port
        udp, tcp = self._namespaces.open_in(path, lambda: _bound(port))
        scope = self._scope(namespace)
        server = TaskServer(
            udp,
            responders=self._responders(scope),
            forwarder=self._forwarder,
            upstream=lambda: self._upstream(namespace),
            clock=self._clock,
        )
        self._open[namespace.task_id] = _Open(namespace, identity, scope, server)
        await server.start(tcp)

    async def _shut(self, task_id: str) -> None:
        there = self._open.pop(task_id)
        self._leave(there.scope)
        await there.server.close()

    def _upstream(self, namespace: TaskNamespace) -> Upstream | None:
        if not namespace.forward:
            return None
        if not namespace.servers:
            return Upstream(self._resolvers.servers(), lambda make: make(), namespace.task_id)
        path = Path(namespace.netns)
        return Upstream(namespace.servers, lambda make: self._namespaces.open_in(path, make), namespace.task_id)

    def _scope(self, namespace: TaskNamespace) -> Scope:
        row = self._zone.table.neighbours.rows.get(namespace.task_id)
        known = [place.network_id for place in row.addresses] if row else []
        return frozenset((*namespace.networks, *known))

    def _rescope(self, there: _Open) -> None:
        scope = self._scope(there.namespace)
        if scope != there.scope:
            before, there.scope = there.scope, scope
            there.server.answer_with(self._responders(scope))
            self._leave(before)

    def _responders(self, scope: Scope) -> Responders:
        found = self._scopes.get(scope)
        if found is None:
            view = view_of(self._zone, scope)
            found = Responders(
                Responder(view, max_bytes=UDP_BYTES, cache_bytes=0, recursive=True),
                Responder(view, max_bytes=TCP_BYTES, cache_bytes=0, recursive=True),
            )
            self._scopes[scope] = found
            self._share_caches()
        return found

    def _leave(self, scope: Scope) -> None:
        """Drop what is kept for a scope that no task has any more."""
        if all(there.scope != scope for there in self._open.values()):
            for responder in self._scopes.pop(scope):
                self._counted.update(responder.counters())
            self._share_caches()

    def _share_caches(self) -> None:
        share_bytes = CACHE_BYTES // max(1, len(self._scopes))
        for responders in self._scopes.values():
            responders.udp.limit_cache(share_bytes * 7 // 8)
            responders.tcp.limit_cache(share_bytes // 8)


def _bound(port: int) -> tuple[socket.socket, socket.socket]:
    """Return the two sockets of a task's name server, made in the namespace of the calling thread."""
    udp = bind_socket(Port("udp", TASK_NAME_SERVER, port))
    try:
        return udp, bind_socket(Port("tcp", TASK_NAME_SERVER, port))
    except BaseException:
        udp.close()
        raise
