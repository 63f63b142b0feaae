"""The Dispatcher RPC: one coroutine a stream, which reads in a task of its own and writes what the session holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeAlias

import grpc.aio
import msgspec
import structlog

from manager.dispatcher.dispatcher import Dispatcher, removed_node
from manager.dispatcher.logs import LogBroker
from manager.dispatcher.session import WorkerSession
from manager.dispatcher.statuses import Batch, Report
from manager.store.store import Store
from manager.store.tables import NODES
from manager.store.transaction import Transaction
from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.api.v1 import dispatcher_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, invalid
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model.node import Capability, ManagerStatus, NodeDescription
from swarmpy.model.states import NodeState
from swarmpy.model.task import TaskStatus
from swarmpy.security.names import NodeName
from swarmpy.wire.convert import from_proto

log = structlog.get_logger(__name__)

PROTOCOL: Final = 1
HELLO_DEADLINE_S: Final = 10.0

Context: TypeAlias = "grpc.aio.ServicerContext[pb.WorkerMessage, pb.ManagerMessage]"


class DispatcherServicer(dispatcher_pb2_grpc.DispatcherServicer):
    """Serves `Session`. `peer` names the caller by its certificate."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        broker: LogBroker,
        store: Store,
        clock: Clock,
        *,
        random_bytes: RandomBytes,
        peer: Callable[[Context], NodeName],
    ) -> None:
        self._dispatcher = dispatcher
        self._broker = broker
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._peer = peer

    async def Session(self, request_iterator: AsyncIterator[pb.WorkerMessage], context: Any) -> None:  # type: ignore[override]  # noqa: N802  # gRPC's name; a coroutine handler, which the stub does not know
        """Serve one worker until it goes, is replaced, or this manager ends the session."""
        name = self._peer(context)
        hello = await _read_hello(request_iterator)
        session = await self._open(name, hello)
        try:
            await context.write(self._welcome(session, name))
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(session, request_iterator))
                await self._write(session, context)
                reader.cancel()
        finally:
            self._leave(session)
        if session.ended is not None:
            raise session.ended

    async def _open(self, name: NodeName, hello: pb.Hello) -> WorkerSession:
        if not hello.protocol_min <= PROTOCOL <= hello.protocol_max:
            raise SwarmError(
                Code.NOT_SUPPORTED,
                f"the node speaks protocol {hello.protocol_min} to {hello.protocol_max} and this manager {PROTOCOL}: "
                "bring both to one release",
            )
        description = from_proto(hello.description, NodeDescription)
        has_plane = Capability.DATA_PLANE in description.capabilities
        session = WorkerSession(
            new_id(self._random_bytes),
            name.node_id,
            endpoints_revision=hello.endpoints_applied.revision,
            wants_endpoints=has_plane,
            managers=self._dispatcher.managers(),
        )
        older = self._dispatcher.register(session)
        if older is not None:
            # Its own stream may be stuck in a write to a peer that is gone, and end much later.
            self._broker.session_left(older)
        try:
            if has_plane:
                applied = hello.endpoints_applied
                self._dispatcher.report_endpoints(name.node_id, applied.revision, applied.busy)
            else:
                self._dispatcher.leave_endpoints(name.node_id)
            await self._store.update(_register(name.node_id, hello, description, self._clock.now()))
            if hello.reports:
                await self._report(session, 0, hello.reports)
        except BaseException:
            self._leave(session)
            raise
        return session

    def _leave(self, session: WorkerSession) -> None:
        self._dispatcher.unregister(session)
        self._broker.session_left(session)

    def _welcome(self, session: WorkerSession, name: NodeName) -> pb.ManagerMessage:
        welcome = pb.Welcome(
            protocol=PROTOCOL,
            session_id=session.session_id,
            heartbeat_period_s=self._dispatcher.spec.heartbeat_period_s,
            cluster_id=name.cluster_id,
            managers=self._dispatcher.managers(),
        )
        return pb.ManagerMessage(welcome=welcome)

    async def _write(self, session: WorkerSession, context: Any) -> None:
        """Send what there is to send, until the session ends."""
        while session.ended is None:
            for message in self._dispatcher.messages_for(session):
                await context.write(message)
            await session.wait()

    async def _read(self, session: WorkerSession, requests: AsyncIterator[pb.WorkerMessage]) -> None:
        """Take in what the worker says; however that ends, the session ends with it."""
        try:
            async for message in requests:
                if session.ended is not None:
                    return  # what it says is older than what its successor has said
                self._dispatcher.beat(session.node_id)
                await self._take(session, message)
            session.end(SwarmError(Code.UNAVAILABLE, "the worker closed its session"))
        except SwarmError as error:
            session.end(error)
        except ValueError as error:
            session.end(invalid(f"the worker's message cannot be read: {error}"))

    async def _take(self, session: WorkerSession, message: pb.WorkerMessage) -> None:
        kind = message.WhichOneof("message")
        if kind == "status":
            await self._report(session, message.status.sequence, message.status.reports)
        elif kind == "endpoints_applied":
            applied = message.endpoints_applied
            self._dispatcher.report_endpoints(session.node_id, applied.revision, applied.busy)
        elif kind == "logs":
            await self._broker.take(session.node_id, message.logs)
        elif kind == "goodbye":
            await self._dispatcher.said_goodbye(session)
        elif kind == "hello":
            raise invalid("a session has one hello")

    async def _report(self, session: WorkerSession, sequence: int, reports: Sequence[pb.TaskReport]) -> None:
        rows = tuple(Report(r.task_id, from_proto(r.status, TaskStatus)) for r in reports)
        await self._dispatcher.statuses.put(Batch(session.node_id, rows, lambda: session.acknowledge(sequence)))


async def _read_hello(requests: AsyncIterator[pb.WorkerMessage]) -> pb.Hello:
    try:
        async with asyncio.timeout(HELLO_DEADLINE_S):
            async for message in requests:
                if message.WhichOneof("message") != "hello":
                    break
                return message.hello
    except TimeoutError as error:
        raise SwarmError(Code.DEADLINE_EXCEEDED, f"no hello came within {HELLO_DEADLINE_S:g} s") from error
    raise invalid("a session begins with a hello")


def _said(manager: ManagerStatus | None, hello: pb.Hello) -> ManagerStatus | None:
    """Return a manager's place in the group with what its node says of it now."""
    if manager is None or not hello.manager_addr:
        return manager
    level = hello.feature_level or manager.feature_level
    return msgspec.structs.replace(manager, addr=hello.manager_addr, feature_level=level)


def _register(
    node_id: str, hello: pb.Hello, description: NodeDescription, now_s: float
) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        node = tx.get(NODES, node_id)
        if node is None:
            raise removed_node()
        registered = msgspec.structs.replace(
            node,
            description=description,
            state=NodeState.READY,
            message="",
            addr=hello.addr,
            data_addr=hello.data_addr,
            boot_id=hello.boot_id,
            manager=_said(node.manager, hello),
        )
        if registered != node:
            tx.update(NODES, msgspec.structs.replace(registered, updated_at=now_s))

    return change
