"""The dispatcher's protobuf messages and what the worker makes of them; nothing else here knows both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.model.network import NetworkAddress, NetworkRow
from swarmpy.model.node import NodeDescription
from swarmpy.model.service import ServiceVersion
from swarmpy.model.states import NodeRole, TaskState
from swarmpy.model.task import TaskStatus
from swarmpy.wire.convert import from_proto, to_proto
from worker.assignments import AssignedRow, Batch
from worker.logs.subscriptions import Chunk, Subscription
from worker.standing import Standing

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1


def batch_of(message: pb.Assignments) -> Batch:
    """Return a batch of assignments.

    Raises:
        ValueError: it holds a number that no enumeration here has.
    """
    return Batch(
        complete=message.complete,
        tasks=tuple(_row(t) for t in message.tasks),
        removed_tasks=tuple(message.removed_tasks),
        versions=tuple(from_proto(v, ServiceVersion) for v in message.service_versions),
        removed_versions=tuple(message.removed_versions),
        networks=tuple(from_proto(n, NetworkRow) for n in message.networks),
        removed_networks=tuple(message.removed_networks),
    )


def standing_of(message: pb.NodeUpdate) -> Standing:
    """Return what the cluster says of this node. ValueError: it names a role that there is not here."""
    return Standing(NodeRole(message.role), message.member_id, message.next_member_id)


def _row(task: pb.AssignedTask) -> AssignedRow:
    return AssignedRow(
        id=task.id,
        service_id=task.service_id,
        spec_version=task.spec_version,
        slot=task.slot,
        desired_state=TaskState(task.desired_state),
        desired_reason=task.desired_reason,
        withdrawn_at=task.withdrawn_at,
        state=TaskState(task.state),
        networks=tuple(from_proto(n, NetworkAddress) for n in task.networks),
    )


def hello(
    description: NodeDescription,
    *,
    addr: str,
    data_addr: str,
    boot_id: str,
    statuses: Mapping[str, TaskStatus],
    applied: tuple[int, Iterable[str]],
    manager_addr: str = "",
    feature_level: int = 0,
) -> pb.WorkerMessage:
    """Return a session's first message."""
    return pb.WorkerMessage(
        hello=pb.Hello(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            description=cast(types_pb2.NodeDescription, to_proto(description)),
            addr=addr,
            data_addr=data_addr,
            boot_id=boot_id,
            reports=_reports(statuses),
            endpoints_applied=pb.EndpointsApplied(revision=applied[0], busy=applied[1]),
            manager_addr=manager_addr,
            feature_level=feature_level,
        )
    )


def status_batch(sequence: int, statuses: Mapping[str, TaskStatus]) -> pb.WorkerMessage:
    return pb.WorkerMessage(status=pb.StatusBatch(sequence=sequence, reports=_reports(statuses)))


def _reports(statuses: Mapping[str, TaskStatus]) -> list[pb.TaskReport]:
    return [pb.TaskReport(task_id=i, status=cast(types_pb2.TaskStatus, to_proto(s))) for i, s in statuses.items()]


def goodbye() -> pb.WorkerMessage:
    return pb.WorkerMessage(goodbye=pb.Goodbye())


def heartbeat() -> pb.WorkerMessage:
    return pb.WorkerMessage(heartbeat=pb.Heartbeat())


def endpoints_applied(revision: int, busy: Iterable[str]) -> pb.WorkerMessage:
    return pb.WorkerMessage(endpoints_applied=pb.EndpointsApplied(revision=revision, busy=busy))


def subscription_of(message: pb.LogSubscription) -> Subscription:
    return Subscription(
        id=message.id,
        task_ids=tuple(message.task_ids),
        follow=message.follow,
        tail=message.tail if message.HasField("tail") else None,
        since=message.since,
        until=message.until,
    )


def log_chunk(chunk: Chunk) -> pb.WorkerMessage:
    lines = [
        pb.WorkerLogLine(task_id=chunk.task_id, at=line.at, stream=int(line.stream), data=line.data)
        for line in chunk.lines
    ]
    return pb.WorkerMessage(
        logs=pb.LogChunk(subscription_id=chunk.subscription_id, lines=lines, done=chunk.done, problem=chunk.problem)
    )
