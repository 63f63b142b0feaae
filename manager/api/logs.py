"""The Logs use case: which tasks are meant, and their output as the workers send it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Protocol, Self

from manager.api.resolve import find_service, find_task
from manager.store.store import Store
from manager.store.tables import NODES, TASKS
from manager.store.view import View
from manager.store.watch import CompactedError, Watch
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import dispatcher_pb2
from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task


class Reader(Protocol):
    """An open subscription."""

    def add(self, tasks_of_node: Mapping[str, Collection[str]]) -> list[str]:
        """Ask nodes for the output of tasks; return a sentence for each that cannot be asked."""

    async def next(self) -> tuple[str, dispatcher_pb2.LogChunk] | None:
        """Return a node's id and its next chunk, or None once every node is done."""


class Broker(Protocol):
    """What the dispatcher offers for logs."""

    def subscribe(self, request: pb.LogsRequest) -> AbstractAsyncContextManager[Reader]: ...


async def read_logs(store: Store, broker: Broker, request: pb.LogsRequest) -> AsyncIterator[pb.LogsResponse]:
    """Give the lines of a service's or a task's output; with `follow`, of the service's new tasks too."""
    service_id, tasks = _meant(store, request.ref)
    # The watch begins in the same stretch in which the tasks are read: none can slip in between.
    with _Follower(store, service_id if request.follow else "") as follower:
        async with broker.subscribe(request) as reader:
            warnings = reader.add(_by_node(follower.new(tasks)))
            if warnings:
                yield pb.LogsResponse(warnings=_named(store, warnings))
            while True:
                reader.add(_by_node(follower.started()))
                response = await _next(store, reader, follow=request.follow)
                if response is None:
                    return
                if response.lines or response.warnings:
                    yield response


class _Follower:
    """Finds the tasks of a service that nobody was asked about yet, as they come to nodes."""

    def __init__(self, store: Store, service_id: str) -> None:
        self._store = store
        self._service_id = service_id
        self._asked: set[str] = set()
        self._stack = ExitStack()
        self._watch: Watch | None = None

    def __enter__(self) -> Self:
        if self._service_id:
            self._watch = self._stack.enter_context(self._store.watch(TASKS))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def new(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks that are on a node and were not returned before."""
        new = [t for t in tasks if t.node_id and t.id not in self._asked]
        self._asked.update(t.id for t in new)
        return new

    def started(self) -> list[Task]:
        """Return the service's tasks that have come to a node since the last call."""
        if self._watch is None:
            return []
        try:
            changes = [change for commit in self._watch.drain() for change in commit.of(TASKS)]
        except CompactedError:
            # A reader that pauses for long falls behind; all that it needs is in the state.
            self._stack.close()
            self._watch = self._stack.enter_context(self._store.watch(TASKS))
            return self.new(_of_service(self._store.view(), self._service_id))
        return self.new(c.after for c in changes if c.after is not None and c.after.service_id == self._service_id)


async def _next(store: Store, reader: Reader, *, follow: bool) -> pb.LogsResponse | None:
    """Return the next lines; None at the end; an empty response now and then while following."""
    if not follow:
        found = await reader.next()
        return None if found is None else _response(store, *found)
    try:
        async with asyncio.timeout(0.5):
            found = await reader.next()
    except TimeoutError:
        return pb.LogsResponse()
    if found is None:
        await asyncio.sleep(0.2)
        return pb.LogsResponse()
    return _response(store, *found)


def _meant(store: Store, ref: str) -> tuple[str, list[Task]]:
    view = store.view()
    try:
        service = find_service(view, ref)
    except SwarmError as error:
        if error.code is not Code.NOT_FOUND:
            raise
        try:
            return "", [find_task(view, ref)]
        except SwarmError:
            raise SwarmError(Code.NOT_FOUND, f"no such service or task: {ref}") from None
    return service.id, _of_service(view, service.id)


def _of_service(view: View, service_id: str) -> list[Task]:
    """Return a service's tasks, but for those that were rejected: they never ran, so they have written nothing."""
    return [task for task in view.find(TASKS, "service_id", service_id) if task.state is not TaskState.REJECTED]


def _by_node(tasks: Iterable[Task]) -> dict[str, list[str]]:
    nodes: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        if task.node_id:
            nodes[task.node_id].append(task.id)
    return nodes


def _response(store: Store, node_id: str, chunk: dispatcher_pb2.LogChunk) -> pb.LogsResponse:
    response = pb.LogsResponse()
    if chunk.problem:
        response.warnings.extend(_named(store, [chunk.problem]))
    for line in chunk.lines:
        stream = pb.LOG_STREAM_STDERR if line.stream == 2 else pb.LOG_STREAM_STDOUT
        data = line.data.removesuffix(b"\n")
        response.lines.add(task_id=line.task_id, node_id=node_id, at=line.at, stream=stream, data=data)
    return response


def _named(store: Store, sentences: Iterable[str]) -> list[str]:
    """Put the nodes' names where sentences have their ids."""
    names = {node.id: node.name for node in store.view().all(NODES)}
    return [" ".join(names.get(word, word) for word in sentence.split(" ")) for sentence in sentences]
