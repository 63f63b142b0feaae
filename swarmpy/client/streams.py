"""The two streams: changes of the store, and output of tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.client.call import Caller
from swarmpy.client.results import Change, Changes, LogBatch, LogLine, ObjectKind
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import Cluster
from swarmpy.model.config import Config
from swarmpy.model.network import Network
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.task import Task
from swarmpy.wire.convert import from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.control_pb2_grpc import ControlAsyncStub  # a name of the stubs only


async def watch(
    stub: ControlAsyncStub, call: Caller, *, kinds: Sequence[ObjectKind], since: int, service_id: str
) -> AsyncGenerator[Changes]:
    """Yield changes for as long as the reader wants; a broken stream is taken up again where it broke.

    Raises:
        SwarmError: COMPACTED when `since` is no longer kept, or whatever ends two tries in a row without an
            answer in between.
    """
    reached = since
    while True:
        request = pb.WatchRequest(
            kinds=[pb.ObjectKind.ValueType(kind) for kind in kinds], since=reached, service_id=service_id
        )
        progressed = False
        try:
            async with aclosing(call.stream(lambda: stub.Watch(request), _changes)) as answers:  # noqa: B023 (opened here, before the request changes)
                async for changes in answers:
                    progressed = True
                    reached = changes.revision
                    yield changes
        except SwarmError as error:
            if not (error.retryable and progressed):
                raise
        else:
            if not progressed:
                return


async def logs(
    stub: ControlAsyncStub,
    call: Caller,
    ref: str,
    *,
    follow: bool,
    tail: int | None,
    since: float,
    until: float,
) -> AsyncGenerator[LogBatch]:
    """Yield batches of lines as they arrive; ends after the last line unless it follows."""
    request = pb.LogsRequest(ref=ref, follow=follow, since=since, until=until)
    if tail is not None:
        request.tail = tail
    async with aclosing(call.stream(lambda: stub.Logs(request), _batch)) as batches:
        async for batch in batches:
            yield batch


def _changes(answer: pb.WatchResponse) -> Changes:
    return Changes(revision=answer.revision, changes=tuple(map(_change, answer.changes)))


def _change(message: pb.Change) -> Change:
    kind = message.WhichOneof("object")
    match kind:
        case "cluster":
            return Change(object=from_proto(message.cluster, Cluster), removed=message.removed)
        case "node":
            return Change(object=from_proto(message.node, Node), removed=message.removed)
        case "service":
            return Change(object=from_proto(message.service, Service), removed=message.removed)
        case "config":
            return Change(object=from_proto(message.config, Config), removed=message.removed)
        case "network":
            return Change(object=from_proto(message.network, Network), removed=message.removed)
        case _:
            return Change(object=from_proto(message.task, Task), removed=message.removed)


def _batch(answer: pb.LogsResponse) -> LogBatch:
    lines = tuple(
        LogLine(
            task_id=line.task_id,
            node_id=line.node_id,
            at=line.at,
            data=line.data,
            stderr=line.stream == pb.LOG_STREAM_STDERR,
        )
        for line in answer.lines
    )
    return LogBatch(lines=lines, warnings=tuple(answer.warnings))
