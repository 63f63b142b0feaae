"""A manager's dispatcher for tests of the worker: a real gRPC server on loopback, without TLS, told what to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self, TypeVar, cast

import grpc.aio

from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.api.v1 import dispatcher_pb2_grpc, types_pb2
from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import ENCODER, EndpointsUpdate, HostPort, ServicePort, Transport
from swarmpy.model.service import ServiceVersion, version_id
from swarmpy.model.spec import ContainerSpec, LogDriver, Resources, TaskSpec
from swarmpy.model.states import Runtime, TaskState
from swarmpy.model.task import TaskStatus
from swarmpy.rpc.status import STATUS, to_metadata
from swarmpy.wire.convert import to_proto

DEADLINE_S = 20.0
MOST_OUTGOING = 10_000
T = TypeVar("T")


def service_version(
    *,
    name: str = "web",
    number: int = 1,
    ports: Iterable[int] = (),
    limits: Resources | None = None,
    log_options: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    runtime: Runtime = Runtime.PROCESS,
    **container: Any,
) -> ServiceVersion:
    """Return a template; keywords beyond ours are fields of its ContainerSpec."""
    service_id = f"service-{name}"
    return ServiceVersion(
        id=version_id(service_id, number),
        service_id=service_id,
        number=number,
        name=name,
        labels=labels or {},
        task=TaskSpec(
            runtime=runtime,
            container=ContainerSpec(**container),
            limits=limits or Resources(),
            log_driver=LogDriver(options=log_options or {}),
        ),
        ports=tuple(ServicePort(target=p) for p in ports),
    )


class FakeDispatcher(dispatcher_pb2_grpc.DispatcherServicer):
    """Serves one worker at a time. What it is told to assign is sent at once, and again to the next session.

    `acknowledges` False keeps status batches unacknowledged; `refusal` makes it refuse sessions.
    """

    def __init__(self, *, heartbeat_s: float = 5.0) -> None:
        self._heartbeat_s = heartbeat_s
        self._server = grpc.aio.server()
        self._outgoing: asyncio.Queue[pb.ManagerMessage | None] | None = None
        self._changed = asyncio.Event()
        self._tasks: dict[str, pb.AssignedTask] = {}
        self._versions: dict[str, ServiceVersion] = {}
        self.port = 0
        self.managers: list[str] = []
        self.acknowledges = True
        self.refusal: SwarmError | None = None
        self.statuses: dict[str, TaskStatus] = {}
        self.history: dict[str, list[TaskStatus]] = {}
        self.hellos: list[pb.Hello] = []
        self.batches: list[pb.StatusBatch] = []
        self.heartbeats = 0
        self.applied: list[tuple[int, tuple[str, ...]]] = []
        self.logs: list[pb.LogChunk] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end_session()
        await self._server.stop(0)

    async def Session(  # type: ignore[override]  # noqa: N802  # gRPC's name and its loose types
        self, request_iterator: AsyncIterator[pb.WorkerMessage], context: Any
    ) -> None:
        if self.refusal is not None:
            await context.abort(STATUS[self.refusal.code], self.refusal.message, to_metadata(self.refusal))
        hello = (await anext(aiter(request_iterator))).hello
        self.hellos.append(hello)
        self._take_reports(hello.reports)
        outgoing = asyncio.Queue[pb.ManagerMessage | None](MOST_OUTGOING)
        welcome = pb.Welcome(protocol=1, session_id="s", heartbeat_period_s=self._heartbeat_s, managers=self.managers)
        self._outgoing = outgoing
        outgoing.put_nowait(pb.ManagerMessage(welcome=welcome))
        outgoing.put_nowait(self._complete())
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(request_iterator, outgoing))
            while (message := await outgoing.get()) is not None:
                await context.write(message)
            reader.cancel()

    async def _read(
        self,
        requests: AsyncIterator[pb.WorkerMessage],
        outgoing: asyncio.Queue[pb.ManagerMessage | None],
    ) -> None:
        async for message in requests:
            match message.WhichOneof("message"):
                case "status":
                    self.batches.append(message.status)
                    self._take_reports(message.status.reports)
                    if self.acknowledges:
                        ack = pb.StatusAck(sequence=message.status.sequence)
                        outgoing.put_nowait(pb.ManagerMessage(status_ack=ack))
                case "heartbeat":
                    self.heartbeats += 1
                case "endpoints_applied":
                    applied = message.endpoints_applied
                    self.applied.append((applied.revision, tuple(applied.busy)))
                case "logs":
                    self.logs.append(message.logs)
            self._changed.set()
        outgoing.put_nowait(None)

    def _take_reports(self, reports: Iterable[pb.TaskReport]) -> None:
        for report in reports:
            status = _status(report.status)
            self.statuses[report.task_id] = status
            self.history.setdefault(report.task_id, []).append(status)
        self._changed.set()

    def _complete(self) -> pb.ManagerMessage:
        versions = [cast(types_pb2.ServiceVersion, to_proto(v)) for v in self._versions.values()]
        return pb.ManagerMessage(
            assignments=pb.Assignments(complete=True, tasks=self._tasks.values(), service_versions=versions)
        )

    def send(self, message: pb.ManagerMessage) -> None:
        """Send a message to the worker that is connected, if one is."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(message)

    def end_session(self) -> None:
        """End the present session in good order."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(None)
            self._outgoing = None

    def assign(
        self,
        version: ServiceVersion,
        task_id: str = "task1",
        *,
        slot: int = 1,
        desired: TaskState = TaskState.RUNNING,
        state: TaskState = TaskState.ASSIGNED,
    ) -> str:
        """Assign a task, new or known; return its id."""
        self._versions[version.id] = version
        self._tasks[task_id] = pb.AssignedTask(
            id=task_id,
            service_id=version.service_id,
            spec_version=version.number,
            slot=slot,
            desired_state=cast(Any, int(desired)),
            state=cast(Any, int(state)),
        )
        self._push(task_id)
        return task_id

    def want(self, task_id: str, desired: TaskState, *, reason: str = "scaled down", withdrawn_at: int = 0) -> None:
        """Change the desired state of a task."""
        task = self._tasks[task_id]
        task.desired_state = cast(Any, int(desired))
        task.desired_reason = reason
        task.withdrawn_at = withdrawn_at
        self._push(task_id)

    def _push(self, task_id: str) -> None:
        task = self._tasks[task_id]
        version = self._versions[version_id(task.service_id, task.spec_version)]
        self.send(
            pb.ManagerMessage(
                assignments=pb.Assignments(
                    tasks=[task], service_versions=[cast(types_pb2.ServiceVersion, to_proto(version))]
                )
            )
        )

    def remove(self, task_id: str) -> None:
        """Take a task out of the set."""
        self._tasks.pop(task_id, None)
        self.send(pb.ManagerMessage(assignments=pb.Assignments(removed_tasks=[task_id])))

    def drain(self, settled: int, busy: Iterable[str] = ()) -> None:
        self.send(pb.ManagerMessage(drain=pb.DrainState(settled=settled, busy=busy)))

    def endpoints(self, update: EndpointsUpdate) -> None:
        self.send(pb.ManagerMessage(endpoints=pb.EndpointsBatch(update=ENCODER.encode(update))))

    async def until(self, ask: Callable[[], T | None], what: str = "") -> T:
        """Return the first true answer; fail after a deadline."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + DEADLINE_S
        while not (answer := ask()):
            assert loop.time() < deadline_s, f"did not come true in {DEADLINE_S:g} s: {what}; {self.statuses}"
            self._changed.clear()
            try:
                async with asyncio.timeout(0.05):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return answer

    async def status(self, task_id: str, state: TaskState) -> TaskStatus:
        """Return the task's status once it has reached `state` (or, if that is final, another final state)."""
        return await self.until(
            lambda: status if (status := self.statuses.get(task_id)) and status.state >= state else None,
            f"{task_id} reaches {state.name}",
        )

    async def ready(self, task_id: str) -> TaskStatus:
        """Return the task's status once it is ready."""
        return await self.until(
            lambda: status if (status := self.statuses.get(task_id)) and status.ready else None,
            f"{task_id} is ready",
        )


def _status(message: types_pb2.TaskStatus) -> TaskStatus:
    """Return the status as a manager reads it; written out here, so that the worker's own converter is tested too."""
    return TaskStatus(
        state=TaskState(message.state),
        at=message.at,
        message=message.message,
        error=message.error,
        exit_code=message.exit_code if message.HasField("exit_code") else None,
        pid=message.pid,
        ready=message.ready,
        ready_since=message.ready_since,
        not_ready_reason=message.not_ready_reason,
        host_ports=tuple(
            HostPort(target=p.target, port=p.port, transport=Transport(p.transport)) for p in message.host_ports
        ),
    )
