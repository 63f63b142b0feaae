"""The manager, put together: log, store, servers and, while it leads, the control loops."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc.aio
import structlog

from manager import heap, metrics
from manager.allocator.allocator import Allocator
from manager.api.consensus import ConsensusReport
from manager.api.relay import FORWARDED_KEY, LeaderCalls, Relay
from manager.api.servicer import ControlServicer, HealthServicer
from manager.ca.authority import Authority
from manager.ca.bootstrap import BootstrapServer, admit_node
from manager.ca.servicer import CAServicer
from manager.channels import Channels
from manager.compaction import Compaction
from manager.consensus import Lead
from manager.dispatcher.dispatcher import Dispatcher
from manager.dispatcher.logs import LogBroker
from manager.dispatcher.servicer import DispatcherServicer
from manager.leader import Leader, Loop
from manager.membership.admission import Placement
from manager.membership.directory import Directory
from manager.membership.group import active_of, why_not_without
from manager.membership.loop import Members
from manager.membership.servicer import MembershipServicer
from manager.orchestrator.enforcer import Enforcer
from manager.orchestrator.loop import Orchestrator
from manager.orchestrator.reaper import Reaper
from manager.peers import Admission, caller_of, peer_name
from manager.place import LOG, Place, take_place
from manager.raft.api import StateMachine
from manager.raft.driver import RaftThread
from manager.raft.log.crypt import Sealer
from manager.raft.transport.links import Network
from manager.raft.transport.servicer import RaftServicer
from manager.raft.types import Entry, EntryKind, Leadership, Metadata, SnapshotMark
from manager.recovery.recover import recover
from manager.scheduler.loop import Scheduler
from manager.seed import Sowing
from manager.store.store import Store
from manager.upgrade import LevelGuard
from swarmpy.addresses import Address, bootstrap_address
from swarmpy.api.v1 import control_pb2_grpc, dispatcher_pb2_grpc, membership_pb2_grpc, node_pb2, node_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.ids import RandomBytes
from swarmpy.metrics import measure_loop_lag, serve_metrics
from swarmpy.model import features
from swarmpy.model.node import Node
from swarmpy.model.seed import SEED_FILE
from swarmpy.rpc.dial import SERVER, server_options
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.tls import live_server_credentials
from swarmpy.security.identity import Identity
from swarmpy.security.live import LiveIdentity

log = structlog.get_logger(__name__)

STOP_GRACE_S: Final = 1.0
ADMIT_WITHIN_S: Final = 12.0


@dataclass(frozen=True)
class Settings:
    """Where a manager lives. `listen` and `advertise` are of the control port; `open_files` is the process's limit."""

    state_dir: Path
    identity: Identity
    listen: Address
    advertise: Address
    metrics: Address
    open_files: int
    feature_level: int = features.LEVEL

    @property
    def directory(self) -> Path:
        return self.state_dir / "manager"

    @property
    def control_socket(self) -> Path:
        return self.state_dir / "run" / "control.sock"


async def serve(settings: Settings, clock: Clock, random_bytes: RandomBytes = os.urandom) -> None:
    """Take this manager's place in the group, and be a manager until cancelled.

    Raises:
        SwarmError: as `recover`, `take_place` and `Manager.run`.
    """
    recover(
        settings.directory,
        settings.identity,
        str(settings.advertise),
        clock,
        random_bytes,
        feature_level=settings.feature_level,
    )
    place, sealer = await take_place(
        settings.directory,
        settings.identity,
        str(settings.advertise),
        clock,
        random_bytes,
        feature_level=settings.feature_level,
    )
    await Manager(settings, place, sealer, clock, random_bytes).run()


class Manager:
    """One manager with its place in the group. `run` serves until cancelled or what it cannot do without fails."""

    def __init__(
        self, settings: Settings, place: Place, sealer: Sealer, clock: Clock, random_bytes: RandomBytes = os.urandom
    ) -> None:
        self._settings = settings
        self._place = place
        self._clock = clock
        self._random_bytes = random_bytes
        identity = settings.identity
        self._live = LiveIdentity(settings.state_dir, identity)
        machine = StateMachine(apply=self._apply, restore=self._restore, leadership=self._set_leadership)
        self._raft = RaftThread(
            settings.directory / LOG,
            Metadata(identity.cluster_id, place.member_id),
            machine,
            clock=clock,
            network=Network(self._live.current, feature_level=settings.feature_level, addr=self._address),
            rng=random.Random(random_bytes(8)),
            sealer=sealer,
        )
        self._store = Store(self._raft)
        self._applied_bytes = 0
        self._channels = Channels(self._live.current)
        self._lead = Lead(self._store, self._raft.read_barrier, self._raft.status)
        self._calls = LeaderCalls(self._lead, self._channels.to, clock)
        self._dispatcher = Dispatcher(self._store, clock, lambda: self._lead.leader_addr, lambda: self._lead.addresses)
        self._broker = LogBroker(self._dispatcher, random_bytes)
        self._authority = Authority(self._store, clock, random_bytes)
        self._report = ConsensusReport(self._store, identity.node_id, self._raft.status, self._channels.ask_consensus)
        self._members_lock = asyncio.Lock()
        self._placement = Placement(self._store, self._raft, clock, self._members_lock)
        self._leader = Leader(self._sowing, self._loops, self._hand_over)

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            SwarmError: the log cannot be opened, a port cannot be had, or the log failed.
        """
        await self._raft.start()
        heap.set_aside()  # what was restored stays
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                await stack.enter_async_context(self._channels.kept())
                group.create_task(self._store.run())
                group.create_task(self._leader.run())
                group.create_task(self._fail_with_the_log())
                group.create_task(self._directory().run())
                group.create_task(LevelGuard(self._store, self._settings.feature_level).run())
                group.create_task(self._compaction().run())
                await stack.enter_async_context(self._serve_network())
                bootstrap_server = BootstrapServer(self._authority.root_pem, self._admit, self._clock)
                joining = bootstrap_address(self._settings.listen)
                await stack.enter_async_context(bootstrap_server.serve(self._live.current, joining))
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

    def _directory(self) -> Directory:
        return Directory(self._store, self._place.member_id, self._place.peers, self._raft.set_peers)

    def _compaction(self) -> Compaction:
        return Compaction(self._store, self._raft, self._clock, lambda: self._applied_bytes)

    def _apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind is EntryKind.NORMAL:
                self._store.apply(entry.index, entry.data)
                self._applied_bytes += len(entry.data)

    async def _restore(self, mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        await self._store.restore(chunks)

    def _set_leadership(self, leadership: Leadership) -> None:
        self._lead.set_leadership(leadership)
        self._leader.set_leadership(leadership)

    async def _hand_over(self) -> bool:
        """Give the lead to another manager, if there is one that is there."""
        status = self._raft.status()
        if not (active_of(status) & frozenset(status.conf.voters)) - {status.member_id}:
            return False
        try:
            await self._raft.transfer()
        except SwarmError as error:
            log.warning("lead_not_taken_over", reason=error.message)
            await self._raft.resign()
        return True

    async def _admit(self, request: node_pb2.IssueCertificateRequest) -> node_pb2.IssueCertificateResponse:
        """Take a node in that came to this manager's bootstrap port: only the leader can."""

        async def there(channel: grpc.aio.Channel, left_s: float) -> node_pb2.IssueCertificateResponse:
            stub = membership_pb2_grpc.MembershipStub(channel)
            metadata = ((FORWARDED_KEY, self._settings.identity.node_id),)
            answer: node_pb2.IssueCertificateResponse = await stub.AdmitNode(request, timeout=left_s, metadata=metadata)
            return answer

        return await self._calls.make(lambda: admit_node(self._authority, request), there, limit_s=ADMIT_WITHIN_S)

    async def _fail_with_the_log(self) -> None:
        raise await self._raft.failed()

    def _sowing(self) -> Loop:
        return Sowing(self._store, self._settings.directory / SEED_FILE)

    def _loops(self) -> Mapping[str, Loop]:
        store, clock = self._store, self._clock
        return {
            "dispatcher": self._dispatcher,
            "allocator": Allocator(store, clock),
            "scheduler": Scheduler(store, clock),
            "orchestrator": Orchestrator(store, clock=clock, random_bytes=self._random_bytes),
            "enforcer": Enforcer(store),
            "reaper": Reaper(store),
            "members": Members(store, self._raft, clock, self._members_lock),
        }

    @asynccontextmanager
    async def _serve_local(self) -> AsyncIterator[None]:
        """Serve the user's API on a socket that file mode protects."""
        path = self._settings.control_socket
        path.unlink(missing_ok=True)
        server = grpc.aio.server(interceptors=(Boundary(), self._relay()), options=SERVER)
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
        admission = Admission(self._store, identity.cluster_id, lambda: self._lead.is_leader)
        options = server_options(self._settings.open_files)
        server = grpc.aio.server(interceptors=(Boundary(admission.authorize), self._relay()), options=options)
        self._add_control(server)
        dispatcher = DispatcherServicer(
            self._dispatcher,
            self._broker,
            self._store,
            self._clock,
            random_bytes=self._random_bytes,
            peer=peer_name,
        )
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
        renewals = CAServicer(self._authority, peer_name, self._raft.read_barrier)
        node_pb2_grpc.add_CAServicer_to_server(renewals, server)
        membership = MembershipServicer(self._placement, self._caller, lambda r: admit_node(self._authority, r))
        membership_pb2_grpc.add_MembershipServicer_to_server(membership, server)
        level = self._settings.feature_level
        RaftServicer(self._raft.gate, peer_name, feature_level=level, addr=self._address).add_to(server)
        listen = self._settings.listen
        try:
            server.add_secure_port(str(listen), live_server_credentials(self._live.current))
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

    def _relay(self) -> Relay:
        return Relay(self._calls, self._settings.identity.node_id, self._caller)

    def _caller(self, context: Any) -> str:
        return caller_of(context, self._settings.identity.node_id)

    def _why_needed(self, node: Node) -> str | None:
        status = self._raft.status()
        return why_not_without(status, node.manager.raft_id, node.name) if node.manager is not None else None

    def _health(self) -> node_pb2.HealthResponse:
        # The cluster's row is the sign that the first leader has done its first work; a joiner has a vote last.
        status, addr = self._raft.status(), self._lead.leader_addr
        return node_pb2.HealthResponse(
            serving=bool(addr) and self._store.revision > 0 and status.member_id in status.conf.voters,
            leader=self._lead.is_leader,
            term=status.term,
            revision=self._store.revision,
            leader_addr=addr,
        )


@asynccontextmanager
async def _started(server: grpc.aio.Server) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_GRACE_S)
