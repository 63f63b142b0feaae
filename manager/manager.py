"""The manager, put together: log, store, servers and, while it leads, the control loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc.aio
import structlog

from manager import metrics
from manager.allocator.allocator import Allocator
from manager.api.consensus import ConsensusReport
from manager.api.servicer import ControlServicer, HealthServicer
from manager.ca.authority import Authority
from manager.ca.bootstrap import BootstrapServer
from manager.ca.servicer import CAServicer
from manager.compaction import Compaction
from manager.dispatcher.dispatcher import Dispatcher
from manager.dispatcher.logs import LogBroker
from manager.dispatcher.servicer import DispatcherServicer
from manager.leader import Leader, Loop
from manager.membership.group import why_not_without
from manager.orchestrator.enforcer import Enforcer
from manager.orchestrator.loop import Orchestrator
from manager.orchestrator.reaper import Reaper
from manager.peers import Admission, peer_name
from manager.raft.api import StateMachine
from manager.raft.driver import RaftThread, bootstrap
from manager.raft.types import Entry, EntryKind, Leadership, Metadata, SnapshotMark
from manager.scheduler.loop import Scheduler
from manager.seed import Sowing
from manager.store.store import Store
from swarmpy.addresses import Address, bootstrap_address
from swarmpy.api.v1 import control_pb2_grpc, dispatcher_pb2_grpc, node_pb2, node_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.ids import RandomBytes
from swarmpy.metrics import measure_loop_lag, serve_metrics
from swarmpy.model.node import Node
from swarmpy.model.seed import SEED_FILE
from swarmpy.rpc.dial import SERVER, server_options
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.tls import server_credentials
from swarmpy.security.identity import Identity

log = structlog.get_logger(__name__)

MEMBER_ID: Final = 1
STOP_GRACE_S: Final = 1.0


@dataclass(frozen=True)
class Settings:
    """Where a manager lives. `listen` and `advertise` are of the control port; `open_files` is the process's limit."""

    state_dir: Path
    identity: Identity
    listen: Address
    advertise: Address
    metrics: Address
    open_files: int

    @property
    def directory(self) -> Path:
        return self.state_dir / "manager"

    @property
    def control_socket(self) -> Path:
        return self.state_dir / "run" / "control.sock"


class Manager:
    """One manager. `run` serves until it is cancelled or something that it cannot do without fails."""

    def __init__(self, settings: Settings, clock: Clock, random_bytes: RandomBytes = os.urandom) -> None:
        self._settings = settings
        self._clock = clock
        self._random_bytes = random_bytes
        self._metadata = Metadata(settings.identity.cluster_id, MEMBER_ID)
        machine = StateMachine(apply=self._apply, restore=self._restore, leadership=self._set_leadership)
        self._raft = RaftThread(settings.directory / "raft", self._metadata, machine, clock=clock)
        self._store = Store(self._raft)
        self._applied_bytes = 0
        self._dispatcher = Dispatcher(self._store, clock)
        self._broker = LogBroker(self._dispatcher, random_bytes)
        self._authority = Authority(self._store, clock, random_bytes)
        self._report = ConsensusReport(self._store, settings.identity.node_id, self._raft.status)
        self._leader = Leader(self._sowing, self._loops)

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            SwarmError: the log cannot be opened, a port cannot be had, or the log failed.
        """
        self._found()
        await self._raft.start()
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                group.create_task(self._store.run())
                group.create_task(self._leader.run())
                group.create_task(self._fail_with_the_log())
                group.create_task(Compaction(self._store, self._raft, self._clock, lambda: self._applied_bytes).run())
                await stack.enter_async_context(self._serve_network())
                bootstrap_server = BootstrapServer(self._authority, self._clock)
                joining = bootstrap_address(self._settings.listen)
                await stack.enter_async_context(bootstrap_server.serve(self._settings.identity, joining))
                registry, lag = metrics.registry(self._store, self._raft.status)
                group.create_task(measure_loop_lag(lag))
                await stack.enter_async_context(serve_metrics(registry, self._settings.metrics))
                # Last: who asks here is told that the manager serves, so every port must have been had by then.
                await stack.enter_async_context(self._serve_local())
                log.info("manager_serves", address=self._address, cluster=self._settings.identity.cluster_id)
                await asyncio.get_running_loop().create_future()
        finally:
            await self._raft.stop()

    @property
    def _address(self) -> str:
        return str(self._settings.advertise)

    def _found(self) -> None:
        """Begin the log, if this is a new cluster's first manager and it has none."""
        directory = self._settings.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (directory / "raft").exists() and (directory / SEED_FILE).exists():
            bootstrap(directory / "raft", self._metadata, salt=int.from_bytes(self._random_bytes(8), "big"))

    def _apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind is EntryKind.NORMAL:
                self._store.apply(entry.index, entry.data)
                self._applied_bytes += len(entry.data)

    async def _restore(self, mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        await self._store.restore(chunks)

    def _set_leadership(self, leadership: Leadership) -> None:
        self._leader.set_leadership(leadership)

    async def _fail_with_the_log(self) -> None:
        raise await self._raft.failed()

    def _sowing(self) -> Loop:
        return Sowing(self._store, self._settings.directory / SEED_FILE)

    def _loops(self) -> Mapping[str, Loop]:
        store, clock = self._store, self._clock
        return {
            "dispatcher": self._dispatcher,
            "allocator": Allocator(store),
            "scheduler": Scheduler(store, clock),
            "orchestrator": Orchestrator(store, clock=clock, random_bytes=self._random_bytes),
            "enforcer": Enforcer(store),
            "reaper": Reaper(store),
        }

    @asynccontextmanager
    async def _serve_local(self) -> AsyncIterator[None]:
        """Serve the user's API on a socket that file mode protects."""
        path = self._settings.control_socket
        path.unlink(missing_ok=True)
        server = grpc.aio.server(interceptors=(Boundary(),), options=SERVER)
        self._add_control(server)
        server.add_insecure_port(f"unix:{path}")
        async with _started(server):
            path.chmod(0o660)
            yield
        path.unlink(missing_ok=True)

    @asynccontextmanager
    async def _serve_network(self) -> AsyncIterator[None]:
        """Serve nodes, each named by its certificate."""
        identity = self._settings.identity
        admission = Admission(self._store, identity.cluster_id)
        options = server_options(self._settings.open_files)
        server = grpc.aio.server(interceptors=(Boundary(admission.authorize),), options=options)
        self._add_control(server)
        dispatcher = DispatcherServicer(
            self._dispatcher,
            self._broker,
            self._store,
            self._clock,
            random_bytes=self._random_bytes,
            peer=peer_name,
            managers=lambda: (self._address,),
        )
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
        node_pb2_grpc.add_CAServicer_to_server(CAServicer(self._authority, peer_name), server)
        listen = self._settings.listen
        try:
            server.add_secure_port(str(listen), server_credentials(identity))
        except RuntimeError as error:
            raise SwarmError(
                Code.FAILED_PRECONDITION,
                f"cannot listen on {listen} for nodes: is another program (or another manager) using the port?",
            ) from error
        async with _started(server):
            yield

    def _add_control(self, server: grpc.aio.Server) -> None:
        control = ControlServicer(
            self._store,
            self._clock,
            self._random_bytes,
            lambda: self._broker,
            self._address,
            self._report,
            self._why_needed,
        )
        control_pb2_grpc.add_ControlServicer_to_server(control, server)
        node_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self._health), server)

    def _why_needed(self, node: Node) -> str | None:
        status = self._raft.status()
        return why_not_without(status, node.manager.raft_id, node.name) if node.manager is not None else None

    def _health(self) -> node_pb2.HealthResponse:
        # The cluster's row is the sign that the first leader has done its first work.
        ready = self._leader.is_leader and self._store.revision > 0
        return node_pb2.HealthResponse(
            serving=ready,
            leader=self._leader.is_leader,
            term=self._leader.term,
            revision=self._store.revision,
            leader_addr=self._address,
        )


@asynccontextmanager
async def _started(server: grpc.aio.Server) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_GRACE_S)
