"""What a worker is while its node is in a cluster: tasks, session, data plane, renewal."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import grpc.aio
import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge

from swarmpy.addresses import METRICS_PORT_WORKER, Address, metrics_host
from swarmpy.clock import Clock
from swarmpy.daemon.cgroups import RECORD as CGROUPS_RECORD
from swarmpy.errors import SwarmError
from swarmpy.files import write_atomic
from swarmpy.metrics import measure_loop_lag, serve_metrics
from swarmpy.model.node import NodeDescription
from swarmpy.model.states import NodeRole, Runtime
from swarmpy.rpc.dial import manager_channel
from swarmpy.security.identity import Identity
from worker.alarms import Alarms
from worker.assignments import Changes
from worker.dataplane.client import DataPlaneClient
from worker.endpoints import EndpointsLink
from worker.errand import Errands
from worker.executor.cgroups import hierarchies
from worker.executor.directories import TaskDirectories
from worker.executor.host import HostLink
from worker.executor.limits import Cgroups
from worker.executor.node import NodeFacts
from worker.executor.ports import PortPool, ephemeral_range
from worker.executor.process import ProcessExecutor
from worker.host import Place
from worker.logs.store import LogStore
from worker.metrics import DataPlaneMetrics, WorkerMetrics
from worker.renewal import Renewal
from worker.resources import find_out
from worker.session import Session
from worker.standing import Standing, StandingWatch
from worker.task.journal import FileJournal
from worker.task.runner import TaskRunner
from worker.taskhost.client import TaskExit, TaskHostClient
from worker.taskhost.client import socket_path as task_host_socket

log = structlog.get_logger(__name__)

DATA_PLANE_SOCKET = "dataplane.sock"
EMPTYING_DEADLINE_S = 60.0
EMPTYING_LOOK_S = 0.05
GOODBYE_S = 2.0
"""How long a node that leaves tries to tell its manager so before it stops its tasks all the same."""


class Member:
    """The parts of a worker, put together for one identity. Used once: leaving and joining makes a new one."""

    def __init__(
        self,
        place: Place,
        identity: Identity,
        clock: Clock,
        rng: random.Random,
        on_identity: Callable[[Identity], None],
        on_renewed: Callable[[Identity, Identity], Awaitable[None]],
        standing: StandingWatch,
    ) -> None:
        """
        Args:
            on_identity: keeps a changed identity: a renewed certificate, another list of managers.
            on_renewed: called after that for a renewed certificate, with the identity before and the one after.
            standing: told what the cluster says of this node.
        """
        self._place = place
        self._clock = clock
        self._on_identity = on_identity
        self._on_renewed = on_renewed
        self._standing = standing
        self._leaving = False
        self._role = identity.role
        self.identity = identity
        self.alarms = Alarms(clock)
        self.logs = LogStore(place.state_dir / "tasks", clock)
        self.cgroups = _cgroups(place, clock)
        self.machine = replace(find_out(self.cgroups.missing), hostname=place.hostname)
        self.endpoints = EndpointsLink(self._connect_data_plane, clock, rng)
        self.ports = PortPool(
            place.data_addr,
            clock=clock,
            rng=rng,
            ephemeral=ephemeral_range(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()),
        )
        self.runner = TaskRunner(
            executors={Runtime.PROCESS: self._process_executor(rng)},
            journal=FileJournal(place.state_dir / "worker" / "tasks"),
            alarms=self.alarms,
            clock=clock,
            rng=rng,
            boot_id=place.boot_id,
        )
        self.session = self._make_session(rng)
        self._renewal = Renewal(
            clock,
            rng,
            lambda: self.identity,
            Errands(place).renewal,
            self._keep_renewed,
            lambda: self.identity.role is not self._role,
        )

    def _make_session(self, rng: random.Random) -> Session:
        return Session(
            runner=self.runner,
            endpoints=self.endpoints,
            logs=self.logs,
            alarms=self.alarms,
            clock=self._clock,
            rng=rng,
            describe=self.describe,
            addr=self._place.addr,
            data_addr=self._place.data_addr,
            boot_id=self._place.boot_id,
            managers=self.identity.managers,
            on_managers=self._keep_managers,
            manager_addr=lambda: self.identity.advertise_addr if self._role is NodeRole.MANAGER else "",
            feature_level=self._place.feature_level,
            on_standing=self._take_standing,
        )

    def _process_executor(self, rng: random.Random) -> ProcessExecutor:
        return ProcessExecutor(
            link=HostLink(self._connect_task_host, self._clock, rng),
            directories=TaskDirectories(self._place.state_dir / "tasks"),
            logs=self.logs,
            ports=self.ports,
            cgroups=self.cgroups,
            node=self._facts,
            may_switch=self.machine.may_switch_user,
        )

    async def run(self) -> None:
        """Be a member until cancelled; the tasks go on when the worker goes."""
        registry = CollectorRegistry()
        registry.register(WorkerMetrics(self.runner, self.session, self.logs, self.endpoints))
        plane = DataPlaneMetrics(self.endpoints)
        registry.register(plane)
        lag = Gauge("swarmpy_worker_loop_lag_seconds", "Lateness of the event loop's timers.", registry=registry)
        address = Address(metrics_host(self._place.addr), METRICS_PORT_WORKER)
        try:
            async with serve_metrics(registry, address, plane.refresh), asyncio.TaskGroup() as group:
                group.create_task(self.alarms.run())
                group.create_task(self.endpoints.run())
                group.create_task(self.runner.run())
                group.create_task(self.session.run(self))
                group.create_task(self._renewal.run())
                group.create_task(self._standing.run())
                group.create_task(measure_loop_lag(lag))
        finally:
            self.logs.close()
            self.ports.close()
            self.cgroups.close()

    def dial(self, address: str) -> grpc.aio.Channel:
        """Return a channel to the manager at `address`, with the present certificate."""
        return manager_channel(self.identity, address)

    def describe(self) -> NodeDescription:
        """Return what the node says of itself: one that leaves can run nothing any more."""
        description = self.machine.describe()
        return msgspec.structs.replace(description, capabilities=()) if self._leaving else description

    async def empty(self) -> None:
        """Stop all tasks and forget them: the node leaves its cluster.

        Raises:
            TimeoutError: a task is still there after a minute.
        """
        await self._take_no_more()
        async with asyncio.timeout(EMPTYING_DEADLINE_S):
            while self.runner.assignments or any(self.runner.is_live(t) for t in self.runner.statuses):
                self.runner.apply(Changes(removed=tuple(self.runner.assignments)))
                await self._clock.sleep(EMPTYING_LOOK_S)
        self.session.leave()
        await self._wait_for_goodbye(lambda: not self.session.connected_to)

    async def _take_no_more(self) -> None:
        """Have the manager know that this node takes no tasks, or it would replace each stopped one right here."""
        self._leaving = True
        before = self.session.sessions
        self.session.restart("the node leaves the cluster")
        await self._wait_for_goodbye(lambda: self.session.sessions > before)

    async def _wait_for_goodbye(self, is_said: Callable[[], bool]) -> None:
        until_s = self._clock.monotonic() + GOODBYE_S
        while not is_said() and self._clock.monotonic() < until_s:
            await self._clock.sleep(EMPTYING_LOOK_S)

    def _facts(self) -> NodeFacts:
        hello = self.endpoints.hello
        dns = f"{hello.dns_address}:{hello.dns_port}" if hello is not None and hello.dns_port else ""
        machine = self.machine
        return NodeFacts(self.identity.node_id, machine.hostname, machine.platform, self._place.data_addr, dns)

    def _keep_managers(self, managers: Sequence[str]) -> None:
        self._keep_identity(msgspec.structs.replace(self.identity, managers=tuple(managers)))

    def _take_standing(self, standing: Standing) -> None:
        """Have a certificate that says what the cluster says of this node, and a manager that is the member it is."""
        self._role = standing.role
        self._standing.tell(standing)
        self._renewal.look()

    async def _keep_renewed(self, identity: Identity) -> None:
        before = self.identity
        self._keep_identity(identity)
        await self._on_renewed(before, identity)

    def _keep_identity(self, identity: Identity) -> None:
        self.identity = identity
        self._on_identity(identity)

    async def _connect_task_host(self, on_exit: Callable[[TaskExit], None]) -> TaskHostClient:
        return await TaskHostClient.connect(task_host_socket(self._place.state_dir), on_exit)

    async def _connect_data_plane(self) -> DataPlaneClient:
        return await connect_data_plane(self._place, self.identity.node_id, self.identity.cluster_id)


async def connect_data_plane(place: Place, node_id: str, cluster_id: str) -> DataPlaneClient:
    """Return a connection to this node's data plane. Another cluster's id makes it forget what it serves."""
    path = place.state_dir / "run" / DATA_PLANE_SOCKET
    return await DataPlaneClient.connect(path, node_id=node_id, cluster_id=cluster_id)


def _cgroups(place: Place, clock: Clock) -> Cgroups:
    """Return this node's control groups; its key tells them from those of other nodes on the machine.

    Where they are is noted for swarmpyd, which outlives us when the node stops with its tasks.
    """
    key = hashlib.sha256(str(place.state_dir.resolve()).encode()).hexdigest()[:12]
    mounted = hierarchies(
        Path("/proc/self/mountinfo").read_text(), lambda mount: (mount / "cgroup.controllers").read_text()
    )
    made = Cgroups(mounted, key, clock)
    record = "".join(f"{directory}\n" for directory in made.directories)
    try:
        write_atomic(place.state_dir / "run" / CGROUPS_RECORD, record.encode())
    except SwarmError as error:
        log.warning("cgroups_not_noted", reason=error.message)  # a full disk: empty groups may be left at the end
    return made
