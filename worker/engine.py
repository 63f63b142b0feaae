"""What runs tasks on this node, whether or not it is in a cluster: it lives as long as the worker."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from swarmpy.clock import Clock
from swarmpy.daemon.cgroups import RECORD as CGROUPS_RECORD
from swarmpy.daemon.publishing import NFTABLES, RECORD
from swarmpy.errors import SwarmError
from swarmpy.files import write_atomic
from swarmpy.model.node import Capability, NodeDescription
from swarmpy.model.states import Runtime
from worker.alarms import Alarms
from worker.containerd.runtime import read_runtime
from worker.dataplane.names import TaskNames
from worker.endpoints import KernelTables
from worker.executor.cgroups import hierarchies, mounts
from worker.executor.directories import TaskDirectories
from worker.executor.host import HostLink
from worker.executor.limits import Cgroups
from worker.executor.node import NodeFacts
from worker.executor.ports import PortPool, ephemeral_range
from worker.executor.process import ProcessExecutor
from worker.executor.protocol import Executor
from worker.host import Place
from worker.logs.store import LogStore
from worker.network.link.ability import why_unsupported
from worker.resources import find_out
from worker.task.draining import nobody_is_connected
from worker.task.journal import FileJournal
from worker.task.runner import TaskRunner
from worker.taskhost.client import TaskExit, TaskHostClient
from worker.taskhost.client import socket_path as task_host_socket

if TYPE_CHECKING:
    from worker.containers.desk import Desk
    from worker.executor.container.assembly import Containers
    from worker.network.networks import NodeNetworks

log = structlog.get_logger(__name__)


class Engine:
    """The task runner of a node with its executors, logs and ports."""

    def __init__(self, place: Place, clock: Clock, rng: random.Random, node_id: Callable[[], str]) -> None:
        """
        Args:
            node_id: returns what the cluster calls this node; empty outside of one.
        """
        self._place = place
        self._clock = clock
        self._rng = rng
        self._node_id = node_id
        self._name_server: Callable[[], str] = _no_name_server
        self.alarms = Alarms(clock)
        self.logs = LogStore(place.state_dir / "tasks", clock)
        self.cgroups = _cgroups(place, clock)
        self.key = node_key(place.state_dir)
        self._runtime = read_runtime(place.state_dir)
        no_network = why_unsupported()
        no_containers = self._runtime.missing or no_network
        found = find_out(self.cgroups.missing, containers=no_containers, networks=no_network)
        self.machine = replace(found, hostname=place.hostname)
        self.names = TaskNames(place.state_dir / "run" / "dataplane.sock", clock=clock, rng=rng)
        self._driver = read_publish_driver(place.state_dir)
        if no_network and self._driver == NFTABLES:
            log.warning("published_ports_are_left_to_the_balancer", reason=no_network)
        self.networks = None if no_network else self._make_networks()
        self.containers: Containers | None = None
        self.ports = PortPool(
            place.data_addr,
            clock=clock,
            rng=rng,
            ephemeral=ephemeral_range(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()),
        )
        self.runner = TaskRunner(
            executors=self._executors(),
            journal=FileJournal(place.state_dir / "worker" / "tasks"),
            alarms=self.alarms,
            clock=clock,
            rng=rng,
            boot_id=place.boot_id,
            data_addr=place.data_addr,
            connections=self.networks.connections if self.networks is not None else nobody_is_connected,
        )
        self.desk = self._make_desk()

    async def describe(self) -> NodeDescription:
        """Return what the node says of itself."""
        description = self.machine.describe()
        return description if self.desk is None else await self.desk.containers.described(description)

    def _make_desk(self) -> Desk | None:
        """Return the containers of this node's users; None where it runs none."""
        if self.containers is None:
            return None
        from worker.containers.assembly import make_desk

        place = self._place
        return make_desk(
            self.containers,
            state_dir=place.state_dir,
            boot_id=place.boot_id,
            runner=self.runner,
            alarms=self.alarms,
            logs=self.logs,
            clock=self._clock,
            rng=self._rng,
        )

    async def run(self) -> None:
        """Run tasks until cancelled; they go on when the worker goes."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.alarms.run())
                group.create_task(self.runner.run())
                if self.networks is not None:
                    group.create_task(self.names.run())
                    group.create_task(self.networks.run())
                if self.desk is not None:
                    group.create_task(self.desk.keeper.run())
        finally:
            if self.containers is not None:
                await self.containers.close()
            self.logs.close()
            self.ports.close()
            self.cgroups.close()

    @property
    def kernel_tables(self) -> tuple[KernelTables, ...]:
        """What in the kernel follows the cluster's endpoints."""
        if self.networks is None:
            return ()
        return tuple(t for t in (self.networks.following, self.networks.publishing) if t is not None)

    @contextmanager
    def naming(self, name_server: Callable[[], str]) -> Iterator[None]:
        """Have new tasks told of a name server, `host:port` or empty, as long as the context lasts."""
        self._name_server = name_server
        try:
            yield
        finally:
            self._name_server = _no_name_server

    def _executors(self) -> dict[Runtime, Executor]:
        """Return what runs which kind of task here; why containers are missing is in `machine.missing`."""
        executors: dict[Runtime, Executor] = {Runtime.PROCESS: self._process_executor()}
        if self._runtime.socket is not None and self.networks is not None:
            from worker.executor.container.assembly import Containers

            self.containers = Containers(
                state_dir=self._place.state_dir,
                socket=self._runtime.socket,
                driver=self._runtime.driver,
                networks=self.networks,
                logs=self.logs,
                ports=self.ports,
                cgroups=self.cgroups,
                node=self._facts,
                clock=self._clock,
                rng=self._rng,
            )
            executors[Runtime.CONTAINER] = self.containers.executor
        else:
            log.info("no_containers", reason=self.machine.missing.get(Capability.CONTAINER, ""))
        return executors

    def _make_networks(self) -> NodeNetworks:
        from worker.network.link.place import Place as NetworkPlace
        from worker.network.networks import NodeNetworks

        place = NetworkPlace(self._place.state_dir, self.key, IPv4Address(self._place.data_addr))
        return NodeNetworks(
            place, names=self.names, clock=self._clock, rng=self._rng, leads_ports=self._driver == NFTABLES
        )

    def _process_executor(self) -> ProcessExecutor:
        return ProcessExecutor(
            link=HostLink(self._connect_task_host, self._clock, self._rng),
            directories=TaskDirectories(self._place.state_dir / "tasks"),
            logs=self.logs,
            ports=self.ports,
            cgroups=self.cgroups,
            node=self._facts,
            may_switch=self.machine.may_switch_user,
            networks=self.networks,
        )

    def _facts(self) -> NodeFacts:
        machine = self.machine
        return NodeFacts(
            self._node_id(), machine.hostname, machine.platform, self._place.data_addr, self._name_server()
        )

    async def _connect_task_host(self, on_exit: Callable[[TaskExit], None]) -> TaskHostClient:
        return await TaskHostClient.connect(task_host_socket(self._place.state_dir), on_exit)


def node_key(state_dir: Path) -> str:
    """Return what tells this node's groups, links and tables from those of other nodes on the machine."""
    return hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:12]


def read_publish_driver(state_dir: Path) -> str:
    """Return who balances published ports on this node, as swarmpyd was told."""
    try:
        return (state_dir / "run" / RECORD).read_text().strip()
    except OSError:
        return ""


def _no_name_server() -> str:
    """What `name_server` returns until the node has a data plane that answers."""
    return ""


def _cgroups(place: Place, clock: Clock) -> Cgroups:
    """Return this node's control groups; its key tells them from those of other nodes on the machine.

    Where they are is noted for swarmpyd, which outlives us when the node stops with its tasks.
    """
    mountinfo = Path("/proc/self/mountinfo").read_text()
    mounted = hierarchies(mountinfo, lambda mount: (mount / "cgroup.controllers").read_text())
    made = Cgroups(mounted, node_key(place.state_dir), clock, others=mounts(mountinfo))
    record = "".join(f"{directory}\n" for directory in made.directories)
    try:
        write_atomic(place.state_dir / "run" / CGROUPS_RECORD, record.encode())
    except SwarmError as error:
        log.warning("cgroups_not_noted", reason=error.message)  # a full disk: empty groups may be left at the end
    return made
