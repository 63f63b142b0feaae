"""Joins the tasks of a node to its networks and publishes their ports.

The machine is left as it is until the first task is to be joined: a node of process tasks has no links and no table.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, not_supported
from swarmpy.model import network
from swarmpy.model.endpoints import HostPort
from worker.assignments import Assignment
from worker.network.attachment import Attachment
from worker.network.link.joint import Place
from worker.network.machine import Machine
from worker.network.resolver import NO_RESOLVER, Resolver, read_resolver, task_resolver

LOOK_S: Final = 1.0
FORWARDING_LOOKS: Final = 10
_TRY_AGAIN_S: Final = 5.0
_OPEN_WITHIN_S: Final = 10.0
_log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")


class NodeNetworks:
    """The networks of one node. Calls wait until `run` has opened the machine's side; every call may be repeated."""

    def __init__(
        self,
        place: Place,
        *,
        clock: Clock,
        name_server: Callable[[], str],
        resolv_conf: Path = Path("/etc/resolv.conf"),
    ) -> None:
        """
        Args:
            name_server: returns `address:port` of the node's name server, empty while there is none.
            resolv_conf: the machine's, read anew for each task.
        """
        self._place = place
        self._clock = clock
        self._name_server = name_server
        self._resolv_conf = resolv_conf
        self._wanted = asyncio.Event()
        self._opened = asyncio.Event()
        self._machine: Machine | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._problem = ""

    async def run(self) -> None:
        """Open the machine's side once it is needed, and look after it until cancelled; links and tables outlive it."""
        if self._has_joined():
            self._wanted.set()
        await self._wanted.wait()
        while True:
            try:
                await self._session()
            except SwarmError as error:
                if error.message != self._problem:
                    _log.warning("the node's networks are not open", error=error.message)
                self._problem = error.message
            await self._clock.sleep(_TRY_AGAIN_S)

    async def attach(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Attachment:
        """Make the task's namespace with all its links, and publish its ports on the node's data address.

        Raises:
            SwarmError: NOT_SUPPORTED, a network that this node cannot join; UNAVAILABLE, not now.
        """
        targets = {attachment.target for attachment in assignment.version.task.networks}
        container = assignment.version.task.container
        machine = await asyncio.to_thread(self._machine_resolver)
        if network.HOST in targets:
            options = container.dns_options or machine.options
            resolver = Resolver(container.dns or machine.servers, container.dns_search or machine.search, options)
            return Attachment("", str(self._place.data_address), resolver)
        if unknown := sorted(targets.difference(network.PREDEFINED)):
            raise not_supported(f"a task on the network {unknown[0]}")
        if network.NONE in targets:
            pin = await self._call(_make_namespace, assignment.id)
            return Attachment(str(pin), "")
        joint = await self._call(Machine.join_gateway, assignment.id)
        await self._call(Machine.publish, joint.address.ip, host_ports, assignment.bindings)
        resolver = task_resolver(container, str(joint.gateway or ""), machine)
        return Attachment(str(joint.namespace), str(joint.address.ip), resolver)

    async def detach(self, task_id: str) -> None:
        """Withdraw the task's ports and remove its namespace with its links; of an unknown task it is done already."""
        if self._wanted.is_set() or self._has_joined():
            await self._call(Machine.leave, task_id)

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        """Take back what tasks that are not held have left behind. Never raises."""
        if not self._wanted.is_set() and not self._has_joined():
            return
        try:
            await self._call(Machine.sweep, is_held)
        except SwarmError as error:
            _log.warning("left-over of a network", error=error.message)

    async def _session(self) -> None:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="networks") as thread:
            opening = thread.submit(Machine, self._place, self._clock)
            try:
                self._machine = await asyncio.wrap_future(opening)
                self._thread, self._problem = thread, ""
                self._opened.set()
                await self._look_after()
            finally:
                self._opened.clear()
                self._machine = self._thread = None
                thread.submit(_close, opening)

    async def _look_after(self) -> None:
        looks = 0
        served = None
        while True:
            server = self._name_server()
            if server != served:
                await self._call(Machine.serve_names, server)
                served = server
            looks += 1
            if looks % FORWARDING_LOOKS == 0:
                await self._call(Machine.keep_forwarding)
            await self._clock.sleep(LOOK_S)

    async def _call(self, method: Callable[Concatenate[Machine, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method on the machine's thread, once that is open; calls are done in order."""
        self._wanted.set()
        try:
            async with asyncio.timeout(_OPEN_WITHIN_S):
                await self._opened.wait()
        except TimeoutError as error:
            sentence = self._problem or "the node's networks are not open yet"
            raise SwarmError(Code.UNAVAILABLE, sentence) from error
        assert self._machine is not None, "it is open"
        call = functools.partial(method, self._machine, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _has_joined(self) -> bool:
        """Whether tasks were joined in this boot of the machine."""
        return any(next(d.iterdir(), None) for d in (self._place.leases, self._place.pins) if d.is_dir())

    def _machine_resolver(self) -> Resolver:
        try:
            return read_resolver(self._resolv_conf.read_text("utf-8", "replace"))
        except OSError:
            return NO_RESOLVER


def _close(opening: Future[Machine]) -> None:
    """Close what was opened, also for a caller that did not wait for it."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _make_namespace(machine: Machine, task_id: str) -> Path:
    return machine.links.make_namespace(task_id)
