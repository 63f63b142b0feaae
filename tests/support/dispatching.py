"""The dispatcher under test behind a real gRPC server, and a worker that says what its script says.

A caller is named by metadata instead of a certificate; everything else is as in a manager.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc.aio

from manager.dispatcher.dispatcher import Dispatcher
from manager.dispatcher.logs import LogBroker
from manager.dispatcher.servicer import DispatcherServicer
from manager.store.store import Store
from manager.store.tables import NODES, SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.api.v1 import dispatcher_pb2_grpc, types_pb2
from swarmpy.errors import SwarmError
from swarmpy.model.node import Capability, Node, NodeDescription
from swarmpy.model.service import Service, ServiceVersion, version_id
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.states import NodeRole, NodeState, TaskState
from swarmpy.model.task import Task, TaskStatus
from swarmpy.rpc.dial import COMMON, unix_channel
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.status import to_error
from swarmpy.security.names import NodeName
from swarmpy.wire.convert import to_proto
from tests.support.clock import FakeClock, settle
from tests.support.cluster import leading, random_source
from tests.support.store import FakeProposer, running_store

DEADLINE_S = 20.0
CLUSTER = "c"


def name_by_metadata(context: Any) -> NodeName:
    """Return who the caller says it is."""
    node_id = dict(context.invocation_metadata())["node"]
    return NodeName(CLUSTER, str(node_id), NodeRole.WORKER)


@dataclass
class Desk:
    """A leading manager's dispatcher, its store, and the channel to it."""

    store: Store
    log: FakeProposer
    clock: FakeClock
    dispatcher: Dispatcher
    broker: LogBroker
    channel: grpc.aio.Channel
    managers: list[str]

    @asynccontextmanager
    async def worker(self, node_id: str = "n1", **hello: Any) -> AsyncIterator[ScriptedWorker]:
        """Open a session that has said hello; its welcome is read already."""
        call = dispatcher_pb2_grpc.DispatcherStub(self.channel).Session(metadata=(("node", node_id),))
        worker = ScriptedWorker(call)
        try:
            await worker.hello(**hello)
            yield worker
        finally:
            call.cancel()

    def session(self) -> Any:
        """Open a call that has said nothing yet."""
        return dispatcher_pb2_grpc.DispatcherStub(self.channel).Session(metadata=(("node", "n1"),))

    def task(self, task_id: str = "t1") -> Task:
        row = self.store.view().get(TASKS, task_id)
        assert row is not None
        return row

    def node(self, node_id: str = "n1") -> Node:
        row = self.store.view().get(NODES, node_id)
        assert row is not None
        return row

    async def change_task(self, task_id: str, change: Callable[[Task], Task]) -> None:
        def update(tx: Transaction) -> None:
            row = tx.get(TASKS, task_id)
            assert row is not None
            tx.update(TASKS, change(row))

        await self.store.update(update)

    async def until(self, ask: Callable[[], object]) -> None:
        """Let the event loop run until `ask` says yes."""
        async with asyncio.timeout(DEADLINE_S):
            while not ask():
                await settle(1)


class ScriptedWorker:
    """One session, message by message."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def hello(
        self,
        *,
        plane: bool = True,
        applied: int = 0,
        busy: Iterable[str] = (),
        reports: Iterable[pb.TaskReport] = (),
        data_addr: str = "127.0.0.9",
        manager_addr: str = "",
        feature_level: int = 0,
        welcome: bool = True,
    ) -> None:
        capabilities = (Capability.PROCESS, *((Capability.DATA_PLANE,) if plane else ()))
        description = NodeDescription(hostname="host", capabilities=tuple(str(c) for c in capabilities))
        message = pb.Hello(
            protocol_min=1,
            protocol_max=1,
            description=cast(types_pb2.NodeDescription, to_proto(description)),
            addr="127.0.0.9",
            data_addr=data_addr,
            manager_addr=manager_addr,
            feature_level=feature_level,
            reports=reports,
            endpoints_applied=pb.EndpointsApplied(revision=applied, busy=busy),
        )
        await self.send(hello=message)
        if welcome:
            assert (await self.read()).WhichOneof("message") == "welcome"

    async def send(self, **message: Any) -> None:
        await self.call.write(pb.WorkerMessage(**message))

    async def report(self, sequence: int, *reports: pb.TaskReport) -> None:
        await self.send(status=pb.StatusBatch(sequence=sequence, reports=reports))

    async def applied(self, revision: int, busy: Iterable[str] = ()) -> None:
        await self.send(endpoints_applied=pb.EndpointsApplied(revision=revision, busy=busy))

    async def read(self) -> pb.ManagerMessage:
        async with asyncio.timeout(DEADLINE_S):
            message = await self.call.read()
        assert isinstance(message, pb.ManagerMessage), "the session goes on"
        return message

    async def next(self, kind: str) -> Any:
        """Return the next message of a kind, whatever comes before it."""
        while True:
            message = await self.read()
            if message.WhichOneof("message") == kind:
                return getattr(message, kind)

    async def ended(self) -> SwarmError:
        """Read what is left and return why the session ended."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while (await self.call.read()) is not grpc.aio.EOF:
                    pass
        except grpc.RpcError as error:
            return to_error(error)
        raise AssertionError(f"the session ended without an error: {await self.call.code()}")

    async def synced(self, sequence: int) -> None:
        """Wait until everything that was said so far is taken in: an empty batch is acknowledged."""
        await self.report(sequence)
        while (await self.next("status_ack")).sequence < sequence:
            pass


def report(task_id: str, state: TaskState, *, ready: bool = False) -> pb.TaskReport:
    status = TaskStatus(state=state, at=1.0, ready=ready)
    return pb.TaskReport(task_id=task_id, status=cast(types_pb2.TaskStatus, to_proto(status)))


async def fill_store(store: Store, *, nodes: Iterable[str] = ("n1", "n2"), tasks: Iterable[str] = ("t1",)) -> None:
    """Store a service `web` with an assigned task on n1 for each id."""

    def fill(tx: Transaction) -> None:
        for node_id in nodes:
            tx.create(NODES, Node(id=node_id, state=NodeState.DOWN, data_addr="127.0.0.9"))
        tx.create(SERVICES, Service(id="s", spec=ServiceSpec(name="web")))
        tx.create(
            SERVICE_VERSIONS,
            ServiceVersion(id=version_id("s", 1), service_id="s", number=1, name="web", task=ServiceSpec().task),
        )
        for slot, task_id in enumerate(tasks, 1):
            row = Task(id=task_id, service_id="s", spec_version=1, slot=slot, node_id="n1", state=TaskState.ASSIGNED)
            tx.create(TASKS, row)

    await store.update(fill)


@asynccontextmanager
async def dispatching(tmp_path: Path, *, leads: bool = True, filled: bool = True) -> AsyncIterator[Desk]:
    """Run a dispatcher over a store with nodes n1 and n2 (DOWN) and the task t1 on n1."""
    clock, log = FakeClock(), FakeProposer()
    async with running_store(log) as store:
        if filled:
            await fill_store(store)
        managers = ["127.0.0.1:2377"]
        dispatcher = Dispatcher(store, clock, managers=lambda: tuple(managers))
        broker = LogBroker(dispatcher, random_source(1))
        servicer = DispatcherServicer(
            dispatcher,
            broker,
            store,
            clock,
            random_bytes=random_source(2),
            peer=name_by_metadata,
        )
        server = grpc.aio.server(interceptors=(Boundary(),), options=COMMON)
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(servicer, server)
        server.add_insecure_port(f"unix:{tmp_path}/d.sock")
        await server.start()
        try:
            async with unix_channel(tmp_path / "d.sock") as channel:
                desk = Desk(store, log, clock, dispatcher, broker, channel, managers)
                if leads:
                    async with leading(dispatcher):
                        yield desk
                        log.release()
                else:
                    yield desk
        finally:
            await server.stop(0)
            await settle()
