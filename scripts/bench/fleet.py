"""Simulated workers in one process: real certificates, mutual TLS and sessions; tasks that are entries of a set.

Reads one command a line on standard input and answers with a line of JSON each:

    join COUNT TOKEN HOST:PORT   admit so many nodes through the bootstrap port, and start their sessions
    connected                    answer once every worker has had a new session since the last `connected`
    started COUNT                answer once so many tasks were started since the last `started`
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc.aio

from scripts.cluster import until
from swarmpy import log as logging
from swarmpy.addresses import Address, bootstrap_address, parse_address
from swarmpy.clock import Clock, SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import HostPort
from swarmpy.model.node import Capability, NodeDescription, Platform
from swarmpy.model.spec import Resources
from swarmpy.model.states import Availability, Runtime
from swarmpy.process import raise_open_files_limit
from swarmpy.rpc.dial import manager_channel
from swarmpy.security.identity import Identity
from worker.alarms import Alarms
from worker.assignments import Assignment
from worker.endpoints import DataPlane, EndpointsLink
from worker.executor.fake import FakeExecutor
from worker.executor.protocol import Started
from worker.join import Admission, request_admission
from worker.logs.store import LogStore
from worker.session import Session
from worker.task.journal import MemoryJournal
from worker.task.runner import TaskRunner

ADMISSIONS_AT_ONCE: Final = 8
REFUSED_PAUSE_S: Final = 0.2
PATIENCE_S: Final = 300.0
ADDRESS: Final = "127.0.0.1"
STARTS: Final = "starts"


class CountingExecutor(FakeExecutor):
    """Counts starts into what all workers of the process share."""

    def __init__(self, clock: Clock, starts: Counter[str]) -> None:
        super().__init__(clock.now)
        self._starts = starts

    async def start(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Started:
        self._starts[STARTS] += 1
        return await super().start(assignment, host_ports)


class SimulatedWorker:
    """One worker without a data plane: what `worker.member.Member` puts together, but for what needs a machine."""

    def __init__(
        self, identity: Identity, name: str, alarms: Alarms, clock: Clock, logs: LogStore, starts: Counter[str]
    ) -> None:
        rng = random.Random(name)
        self._identity = identity
        self._name = name
        self.runner = TaskRunner(
            executors={Runtime.PROCESS: CountingExecutor(clock, starts)},
            journal=MemoryJournal(),
            alarms=alarms,
            clock=clock,
            rng=rng,
            boot_id="simulated",
        )
        self.session = Session(
            runner=self.runner,
            endpoints=EndpointsLink(_no_data_plane, clock, rng),
            logs=logs,
            alarms=alarms,
            clock=clock,
            rng=rng,
            describe=self._describe,
            addr=ADDRESS,
            data_addr=ADDRESS,
            boot_id="simulated",
            managers=identity.managers,
        )
        self.sessions_seen = 0

    def dial(self, address: str) -> grpc.aio.Channel:
        return manager_channel(self._identity, address)

    async def _describe(self) -> NodeDescription:
        capabilities = frozenset(Capability) - {Capability.DATA_PLANE, Capability.CONTAINER}
        return NodeDescription(
            hostname=self._name,
            platform=Platform(os="linux", arch="x86_64"),
            resources=Resources(nano_cpus=8 * 10**9, memory_bytes=16 * 10**9),
            capabilities=tuple(sorted(c.value for c in capabilities)),
        )


async def _no_data_plane() -> DataPlane:
    raise AssertionError("a simulated worker's link is never run")


@dataclass
class Fleet:
    """All workers of this process; they share clock and alarms, and run in `group`."""

    group: asyncio.TaskGroup
    clock: Clock
    alarms: Alarms
    logs: LogStore
    starts: Counter[str] = field(default_factory=Counter)
    workers: list[SimulatedWorker] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def join(self, count: int, token: str, manager: Address) -> None:
        """Admit `count` workers as any node is admitted, then start them all."""
        slots = asyncio.Semaphore(ADMISSIONS_AT_ONCE)

        async def one(number: int) -> SimulatedWorker:
            async with slots:
                admission = await admitted(manager, token, f"sim-{number:05}")
            identity = identity_of(admission, manager)
            return SimulatedWorker(identity, f"sim-{number:05}", self.alarms, self.clock, self.logs, self.starts)

        async with asyncio.TaskGroup() as group:
            joining = [group.create_task(one(number)) for number in range(count)]
        self.workers = [task.result() for task in joining]
        for worker in self.workers:
            self.tasks.append(self.group.create_task(worker.runner.run()))
            self.tasks.append(self.group.create_task(worker.session.run(worker)))

    async def connected(self) -> None:
        """Wait until every worker has had another session since the last call."""

        async def all_new() -> bool:
            return all(w.session.connected_to and w.session.sessions > w.sessions_seen for w in self.workers)

        await until(all_new, what="every worker has a new session", deadline_s=PATIENCE_S)
        for worker in self.workers:
            worker.sessions_seen = worker.session.sessions

    async def started(self, count: int) -> None:
        """Wait until `count` tasks were started since the last call."""

        async def enough() -> bool:
            return self.starts[STARTS] >= count

        await until(enough, what=f"{count} tasks run", deadline_s=PATIENCE_S)
        self.starts.clear()


async def admitted(manager: Address, token: str, name: str) -> Admission:
    """Join; where the manager admits no more for now, wait and ask again."""
    request_id = os.urandom(8).hex()
    while True:
        try:
            return await request_admission(
                bootstrap_address(manager),
                token,
                hostname=name,
                availability=Availability.ACTIVE,
                request_id=request_id,
            )
        except SwarmError as error:
            if error.code is not Code.RESOURCE_EXHAUSTED:
                raise
        await asyncio.sleep(REFUSED_PAUSE_S)


def identity_of(admission: Admission, manager: Address) -> Identity:
    return Identity(
        cluster_id=admission.cluster_id,
        node_id=admission.node_id,
        role=admission.role,
        key_pem=admission.key_pem,
        cert_pem=admission.cert_pem,
        root_pem=admission.root_pem,
        managers=(str(manager),),
        advertise_addr=ADDRESS,
        node_addr=ADDRESS,
        issued_at=admission.issued_at,
        expires_at=admission.expires_at,
    )


def obey(fleet: Fleet, words: list[str]) -> Awaitable[None]:
    match words:
        case ["join", count, token, manager]:
            return fleet.join(int(count), token, parse_address(manager, "the manager's address"))
        case ["connected"]:
            return fleet.connected()
        case ["started", count]:
            return fleet.started(int(count))
    raise ValueError(f"no command: {' '.join(words)}")


async def serve(state_dir: Path) -> None:
    """Obey commands until standard input ends."""
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    clock = SystemClock()
    alarms = Alarms(clock)
    async with asyncio.TaskGroup() as group:
        fleet = Fleet(group, clock, alarms, LogStore(state_dir / "logs", clock))
        fleet.tasks.append(group.create_task(alarms.run()))
        while line := await reader.readline():
            began_s = time.perf_counter()
            await obey(fleet, line.decode().split())
            print(json.dumps({"took_s": round(time.perf_counter() - began_s, 4)}), flush=True)
        for task in fleet.tasks:
            task.cancel()
    pipe.close()


def main() -> None:
    logging.configure("fleet", level="error")
    raise_open_files_limit()
    with tempfile.TemporaryDirectory(prefix="swarmpy-fleet-") as directory:
        asyncio.run(serve(Path(directory)))


if __name__ == "__main__":
    main()
