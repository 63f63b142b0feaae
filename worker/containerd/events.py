"""What happens in containerd, as it happens."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio
from google.protobuf.any_pb2 import Any

from swarmpy.errors import Code, SwarmError
from worker.containerd.api import events_pb2 as pb
from worker.containerd.api import task_events_pb2 as task
from worker.containerd.api.events_pb2_grpc import EventsStub
from worker.containerd.transport import UNARY_S, Transport, seconds, translated
from worker.containerd.types import Event, OtherEvent, TaskDelete, TaskExit, TaskOOM, TaskStart

_TOPIC: Final = "/swarmpy/subscribed"
_KNOCK_S: Final = 0.05
_WHAT: Final = "follow the events of containerd"

_Stream = grpc.aio.UnaryStreamCall[pb.SubscribeRequest, pb.Envelope]


class Events:
    """The events of one namespace."""

    def __init__(self, transport: Transport, namespace: str) -> None:
        self._transport = transport
        self._stub = EventsStub(transport.channel)
        self._namespace = namespace

    @asynccontextmanager
    async def subscribe(self, *filters: str) -> AsyncIterator[AsyncIterator[Event]]:
        """Follow the events that any of the filters fits, or all.

        When this is entered containerd listens: whoever then lists what there is misses nothing. It does not say so by
        itself; so an event of our own is published until it comes back.

        Args:
            filters: such as `topic~="/tasks/"`.
        Raises:
            SwarmError: UNAVAILABLE when containerd goes, on entry or from the iterator.
        """
        ours = f"namespace=={self._namespace}"
        chosen = [f"{ours},{one}" for one in (*filters, f'topic=="{_TOPIC}"')] if filters else [ours]
        call: _Stream = self._stub.Subscribe(pb.SubscribeRequest(filters=chosen), metadata=self._transport.metadata)
        try:
            early = await self._knock(call)
            yield self._events(call, early)
        finally:
            call.cancel()

    async def _knock(self, call: _Stream) -> list[pb.Envelope]:
        """Return once `call` is being served, with what came before our own event."""
        token = uuid.uuid4().bytes
        try:
            async with asyncio.timeout(UNARY_S), asyncio.TaskGroup() as group:
                knocking = group.create_task(self._publish_again_and_again(token))
                early = await _read_until(call, token)
                knocking.cancel()
        except TimeoutError as error:
            raise SwarmError(Code.DEADLINE_EXCEEDED, f"cannot {_WHAT}: none came in time") from error
        except BaseExceptionGroup as group_error:
            # The first is why; the others are what it ended.
            raise group_error.exceptions[0] from group_error
        return early

    async def _publish_again_and_again(self, token: bytes) -> None:
        request = pb.PublishRequest(topic=_TOPIC, event=Any(type_url="swarmpy/subscribed", value=token))
        while True:
            await self._transport.call(self._stub.Publish, request, _WHAT)
            await asyncio.sleep(_KNOCK_S)

    async def _events(self, call: _Stream, early: list[pb.Envelope]) -> AsyncIterator[Event]:
        for envelope in early:
            yield read_event(envelope)
        while True:
            envelope = await _read(call)
            if envelope.topic != _TOPIC:
                yield read_event(envelope)


async def _read_until(call: _Stream, token: bytes) -> list[pb.Envelope]:
    early = []
    while True:
        envelope = await _read(call)
        if envelope.topic != _TOPIC:
            early.append(envelope)
        elif envelope.event.value == token:
            return early


async def _read(call: _Stream) -> pb.Envelope:
    with translated(_WHAT):
        envelope = await call.read()
    if not isinstance(envelope, pb.Envelope):
        raise SwarmError(Code.UNAVAILABLE, f"cannot {_WHAT}: containerd has ended the stream")
    return envelope


def read_event(envelope: pb.Envelope) -> Event:
    """Return what an envelope holds."""
    at_s = seconds(envelope.timestamp)
    kind, data = envelope.event.type_url.rpartition("/")[2], envelope.event.value
    match kind:
        case "containerd.events.TaskStart":
            start = task.TaskStart.FromString(data)
            return TaskStart(start.container_id, start.pid, at_s)
        case "containerd.events.TaskExit":
            end = task.TaskExit.FromString(data)
            exec_id = "" if end.id == end.container_id else end.id
            return TaskExit(end.container_id, exec_id, end.pid, end.exit_status, seconds(end.exited_at))
        case "containerd.events.TaskOOM":
            return TaskOOM(task.TaskOOM.FromString(data).container_id, at_s)
        case "containerd.events.TaskDelete":
            gone = task.TaskDelete.FromString(data)
            exec_id = "" if gone.id == gone.container_id else gone.id
            return TaskDelete(gone.container_id, exec_id, gone.pid, gone.exit_status, seconds(gone.exited_at))
        case _:
            return OtherEvent(envelope.topic, at_s)
