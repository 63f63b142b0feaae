"""A worker put together for tests: everything but identity and the local service, against a dispatcher without TLS."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio

from swarmpy.clock import SystemClock
from swarmpy.model.node import NodeDescription
from swarmpy.model.states import Runtime
from tests.support.task_host_process import node_key
from worker.alarms import Alarms
from worker.dataplane.protocol import Applied, Counters, Hello
from worker.endpoints import DataPlane, EndpointsLink, Event
from worker.executor.cgroups import hierarchies
from worker.executor.directories import TaskDirectories
from worker.executor.host import HostLink
from worker.executor.limits import Cgroups
from worker.executor.node import NodeFacts
from worker.executor.ports import PortPool, ephemeral_range
from worker.executor.process import ProcessExecutor
from worker.executor.protocol import Executor
from worker.logs.store import LogStore
from worker.resources import find_out
from worker.session import Session
from worker.task.journal import FileJournal, Journal
from worker.task.runner import TaskRunner
from worker.taskhost.client import TaskExit, TaskHostClient, socket_path

NODE_ID = "node1"


class PlainDialer:
    """Dials managers without TLS."""

    def dial(self, address: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address)


class FakeDataPlane:
    """Applies every update at once and keeps it."""

    def __init__(self, revision: int = 0) -> None:
        self.hello: Hello | None = Hello(
            dns_address="127.0.0.1", dns_port=5354, vip_prefix="127.64", cluster_id="c", revision=revision
        )
        self.updates: list[bytes] = []
        self.told: asyncio.Queue[Event | None] = asyncio.Queue()

    async def send_endpoints(self, payload: bytes) -> None:
        self.updates.append(payload)
        self.told.put_nowait(Applied(revision=len(self.updates)))

    async def counters(self) -> Counters:
        return Counters(dns={}, balancer=(), loop_lag_max_s=0.0, loop_lag_total_s=0.0, rss_bytes=0)

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self.told.get()) is not None:
            yield event

    async def close(self) -> None:
        return


class WorkerParts:
    """The parts of a worker in the order in which a composition root makes them."""

    def __init__(
        self,
        state_dir: Path,
        managers: Sequence[str],
        *,
        data_addr: str = "127.0.0.1",
        boot_id: str = "boot",
        executors: dict[Runtime, Executor] | None = None,
        journal: Journal | None = None,
        connect_data_plane: Callable[[], DataPlane] = FakeDataPlane,
        seed: int | None = None,
    ) -> None:
        clock, rng = SystemClock(), random.Random(seed)
        self.alarms = Alarms(clock)
        self.logs = LogStore(state_dir / "tasks", clock)
        self.cgroups = Cgroups(
            hierarchies(Path("/proc/self/mountinfo").read_text(), lambda m: (m / "cgroup.controllers").read_text()),
            node_key(state_dir),
            clock,
        )
        machine = self._machine = find_out(self.cgroups.missing)
        ephemeral = ephemeral_range(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text())
        self.ports = PortPool(data_addr, clock=clock, rng=rng, ephemeral=ephemeral)

        async def connect(on_exit: Callable[[TaskExit], None]) -> TaskHostClient:
            return await TaskHostClient.connect(socket_path(state_dir), on_exit)

        async def data_plane() -> DataPlane:
            return connect_data_plane()

        self.endpoints = EndpointsLink(data_plane, clock, rng)

        def node() -> NodeFacts:
            hello = self.endpoints.hello
            dns = f"{hello.dns_address}:{hello.dns_port}" if hello is not None and hello.dns_port else ""
            return NodeFacts(NODE_ID, machine.hostname, machine.platform, data_addr, dns)

        self.link = HostLink(connect, clock, rng)
        process = self._process_executor(state_dir, node, may_switch=machine.may_switch_user)
        self.runner = TaskRunner(
            executors=executors if executors is not None else {Runtime.PROCESS: process},
            journal=journal if journal is not None else FileJournal(state_dir / "worker" / "tasks"),
            alarms=self.alarms,
            clock=clock,
            rng=rng,
            boot_id=boot_id,
        )
        self.session = Session(
            runner=self.runner,
            endpoints=self.endpoints,
            logs=self.logs,
            alarms=self.alarms,
            clock=clock,
            rng=rng,
            describe=self._describe,
            addr=data_addr,
            data_addr=data_addr,
            boot_id=boot_id,
            managers=managers,
        )

    async def _describe(self) -> NodeDescription:
        return self._machine.describe()

    def _process_executor(self, state_dir: Path, node: Callable[[], NodeFacts], *, may_switch: bool) -> ProcessExecutor:
        return ProcessExecutor(
            link=self.link,
            directories=TaskDirectories(state_dir / "tasks"),
            logs=self.logs,
            ports=self.ports,
            cgroups=self.cgroups,
            node=node,
            may_switch=may_switch,
        )

    async def run(self) -> None:
        """Run all parts until cancelled; tasks go on."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.alarms.run())
                group.create_task(self.endpoints.run())
                group.create_task(self.runner.run())
                group.create_task(self.session.run(PlainDialer()))
        finally:
            self.ports.close()
            self.cgroups.close()

    async def start(self, stack: AsyncExitStack) -> WorkerParts:
        """Run in the background until `stack` closes."""
        group = await stack.enter_async_context(asyncio.TaskGroup())
        running = group.create_task(self.run())
        stack.callback(running.cancel)
        return self


def unprivileged() -> bool:
    return os.geteuid() != 0
