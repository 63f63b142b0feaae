"""What a worker is while its node is in a cluster: tasks, session, data plane, renewal."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import grpc.aio
import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge

from swarmpy.addresses import METRICS_PORT_WORKER, Address, metrics_host
from swarmpy.clock import Clock
from swarmpy.metrics import measure_loop_lag, serve_metrics
from swarmpy.model.node import NodeDescription
from swarmpy.model.states import NodeRole
from swarmpy.rpc.dial import manager_channel
from swarmpy.security.identity import Identity
from worker.assignments import Changes
from worker.dataplane.client import DataPlaneClient
from worker.endpoints import EndpointsLink
from worker.engine import Engine
from worker.errand import Errands
from worker.host import Place
from worker.metrics import DataPlaneMetrics, WorkerMetrics
from worker.renewal import Renewal
from worker.session import Session
from worker.standing import Standing, StandingWatch

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
        engine: Engine,
        on_identity: Callable[[Identity], None],
        on_renewed: Callable[[Identity, Identity], Awaitable[None]],
        standing: StandingWatch,
    ) -> None:
        """
        Args:
            engine: runs the tasks; it was there before and stays when the node leaves the cluster.
            on_identity: keeps a changed identity: a renewed certificate, another list of managers.
            on_renewed: called after that for a renewed certificate, with the identity before and the one after.
            standing: told what the cluster says of this node.
        """
        self._place = place
        self._clock = clock
        self._engine = engine
        self._on_identity = on_identity
        self._on_renewed = on_renewed
        self._standing = standing
        self._leaving = False
        self._role = identity.role
        self.identity = identity
        self.machine = engine.machine
        self.runner = engine.runner
        self.endpoints = EndpointsLink(self._connect_data_plane, clock, rng, engine.kernel_tables)
        self.session = self._make_session(rng, engine)
        self._renewal = Renewal(
            clock,
            rng,
            lambda: self.identity,
            Errands(place).renewal,
            self._keep_renewed,
            lambda: self.identity.role is not self._role,
        )

    def _make_session(self, rng: random.Random, engine: Engine) -> Session:
        return Session(
            runner=self.runner,
            endpoints=self.endpoints,
            logs=engine.logs,
            alarms=engine.alarms,
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

    async def run(self) -> None:
        """Be a member until cancelled; the tasks go on when the worker goes."""
        registry = CollectorRegistry()
        registry.register(WorkerMetrics(self.runner, self.session, self._engine.logs, self.endpoints))
        plane = DataPlaneMetrics(self.endpoints)
        registry.register(plane)
        lag = Gauge("swarmpy_worker_loop_lag_seconds", "Lateness of the event loop's timers.", registry=registry)
        address = Address(metrics_host(self._place.addr), METRICS_PORT_WORKER)
        self.runner.drain(0, ())  # revisions of another cluster mean nothing in this one
        with self._engine.naming(self._name_server):
            async with serve_metrics(registry, address, plane.refresh), asyncio.TaskGroup() as group:
                group.create_task(self.endpoints.run())
                group.create_task(self.session.run(self))
                group.create_task(self._renewal.run())
                group.create_task(self._standing.run())
                group.create_task(measure_loop_lag(lag))

    def dial(self, address: str) -> grpc.aio.Channel:
        """Return a channel to the manager at `address`, with the present certificate."""
        return manager_channel(self.identity, address)

    async def describe(self) -> NodeDescription:
        """Return what the node says of itself: one that leaves can run nothing any more."""
        description = await self._engine.describe()
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

    def _name_server(self) -> str:
        hello = self.endpoints.hello
        return f"{hello.dns_address}:{hello.dns_port}" if hello is not None and hello.dns_port else ""

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

    async def _connect_data_plane(self) -> DataPlaneClient:
        return await connect_data_plane(self._place, self.identity.node_id, self.identity.cluster_id)


async def connect_data_plane(place: Place, node_id: str, cluster_id: str) -> DataPlaneClient:
    """Return a connection to this node's data plane. Another cluster's id makes it forget what it serves."""
    path = place.state_dir / "run" / DATA_PLANE_SOCKET
    return await DataPlaneClient.connect(path, node_id=node_id, cluster_id=cluster_id)
