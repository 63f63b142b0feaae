"""One worker's session, manager side: what is still to be told to the worker, never a queue of it.

Everything outgoing is state with a mark of what was sent (dirty tasks, a revision, a sequence number), so a slow
worker costs a bounded amount and gets the newest when it reads again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final, cast

from manager.dispatcher.drain import Watermark
from manager.dispatcher.endpoints import EndpointSet
from manager.store.tables import CLUSTERS, NETWORKS, NODES, SERVICE_VERSIONS, TASKS
from manager.store.view import View
from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.errors import Code, SwarmError
from swarmpy.model.network import network_row
from swarmpy.model.node import Node
from swarmpy.model.states import NodeRole, TaskState
from swarmpy.model.task import Task
from swarmpy.wire.convert import to_proto

MAX_TASKS_A_MESSAGE: Final = 500
MAX_SUBSCRIPTIONS: Final = 256


class WorkerSession:
    """The outgoing half of a session, filled by the dispatcher's loop and emptied by the stream's writer."""

    def __init__(
        self,
        session_id: str,
        node_id: str,
        *,
        endpoints_revision: int,
        wants_endpoints: bool,
        managers: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            managers: the list of managers that the welcome holds.
        """
        self.session_id = session_id
        self.node_id = node_id
        self.ended: SwarmError | None = None
        self._dirty: dict[str, None] = {}
        self._complete_due = True
        self._known_versions: set[str] = set()
        self._renewed_versions: set[str] = set()
        self._gone_versions: list[str] = []
        self._known_networks: set[str] = set()
        self._gone_networks: list[str] = []
        self._stopping: set[str] = set()
        self._endpoints_sent = endpoints_revision
        self._wants_endpoints = wants_endpoints
        self._managers_sent = managers
        self._place_sent: tuple[NodeRole, int] | None = None
        self._drain_sent: tuple[int, tuple[str, ...]] | None = None
        self._acknowledged = 0
        self._ack_sent = 0
        self._subscriptions: deque[pb.LogSubscription] = deque()
        self._wake = asyncio.Event()

    def mark(self, task_id: str) -> None:
        """Note that what the worker knows of this task is out of date."""
        self._dirty[task_id] = None
        self._wake.set()

    def acknowledge(self, sequence: int) -> None:
        """Note that the status batches up to `sequence` are committed."""
        self._acknowledged = max(self._acknowledged, sequence)
        self._wake.set()

    def subscribe(self, subscription: pb.LogSubscription) -> None:
        """Ask the worker for logs. RESOURCE_EXHAUSTED: too many requests are on their way."""
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise SwarmError(Code.RESOURCE_EXHAUSTED, f"node {self.node_id} does not take log requests fast enough")
        self._subscriptions.append(subscription)
        self._wake.set()

    def unsubscribe(self, subscription_id: str) -> None:
        """Ask the worker to send no more logs of a subscription; never refused, there is one for each that was."""
        self._subscriptions.append(pb.LogSubscription(id=subscription_id, cancel=True))
        self._wake.set()

    def end(self, error: SwarmError) -> None:
        """Make the stream end with `error` as soon as its writer looks."""
        if self.ended is None:
            self.ended = error
        self._wake.set()

    def rouse(self) -> None:
        """Look again whether endpoints or the watermark have something to tell."""
        self._wake.set()

    def is_stopping(self, task_id: str) -> bool:
        return task_id in self._stopping

    @property
    def has_stopping(self) -> bool:
        """Whether the worker waits for the watermark."""
        return bool(self._stopping)

    async def wait(self) -> None:
        """Wait until there may be something to send."""
        await self._wake.wait()
        self._wake.clear()

    def take(
        self, view: View, endpoints: EndpointSet, watermark: Watermark, managers: tuple[str, ...]
    ) -> Iterator[pb.ManagerMessage]:
        """Give the messages that bring the worker up to date; the state counts as sent when a message is given.

        Everything is read between two awaits: no message may be sent before the next is taken from another view.
        """
        if self._acknowledged > self._ack_sent:
            self._ack_sent = self._acknowledged
            yield pb.ManagerMessage(status_ack=pb.StatusAck(sequence=self._ack_sent))
        yield from self._take_assignments(view, endpoints.revision)
        yield from self._take_cluster(view, managers)
        if self._wants_endpoints:
            for update in endpoints.since(self._endpoints_sent):
                self._endpoints_sent = update.revision
                yield pb.ManagerMessage(endpoints=pb.EndpointsBatch(update=update.data))
        if self._stopping:
            busy = tuple(sorted(t for t in self._stopping if watermark.is_busy(t)))
            state = (watermark.settled(endpoints.revision), busy)
            if state != self._drain_sent:
                self._drain_sent = state
                yield pb.ManagerMessage(drain=pb.DrainState(settled=state[0], busy=busy))
        while self._subscriptions:
            yield pb.ManagerMessage(log_subscription=self._subscriptions.popleft())

    def _take_cluster(self, view: View, managers: tuple[str, ...]) -> Iterator[pb.ManagerMessage]:
        """Tell what the node is, and where the managers are."""
        node = view.get(NODES, self.node_id)
        if node is not None and place_of(node) != self._place_sent:
            self._place_sent = place_of(node)
            role, member_id = self._place_sent
            update = pb.NodeUpdate(role=cast(types_pb2.NodeRole.ValueType, int(role)), member_id=member_id)
            update.next_member_id = max((cluster.next_raft_id for cluster in view.all(CLUSTERS)), default=0)
            yield pb.ManagerMessage(node=update)
        if managers != self._managers_sent:
            self._managers_sent = managers
            yield pb.ManagerMessage(managers=pb.ManagerList(managers=managers))

    def _take_assignments(self, view: View, endpoints_revision: int) -> Iterator[pb.ManagerMessage]:
        complete = self._complete_due
        if complete:
            self._complete_due = False
            self._dirty.clear()
            tasks = [t for t in view.find(TASKS, "node_id", self.node_id) if t.state >= TaskState.ASSIGNED]
            yield self._assignments(view, tasks, [], endpoints_revision, complete=True)
            return
        while self._dirty or self._gone_versions or self._gone_networks:
            ids = list(islice(self._dirty, MAX_TASKS_A_MESSAGE))
            for task_id in ids:
                del self._dirty[task_id]
            rows = {i: view.get(TASKS, i) for i in ids}
            mine = [t for t in rows.values() if t is not None and t.node_id == self.node_id]
            gone = [i for i, t in rows.items() if t is None or t.node_id != self.node_id]
            yield self._assignments(view, mine, gone, endpoints_revision, complete=False)

    def _assignments(
        self, view: View, tasks: list[Task], gone: list[str], endpoints_revision: int, *, complete: bool
    ) -> pb.ManagerMessage:
        message = pb.ManagerMessage()
        batch = message.assignments
        batch.complete = complete
        batch.removed_tasks.extend(gone)
        batch.removed_versions.extend(self._gone_versions)
        self._gone_versions.clear()
        batch.removed_networks.extend(self._gone_networks)
        self._gone_networks.clear()
        self._stopping.difference_update(gone)
        for task in tasks:
            self._add_version(view, batch, task)
            self._add_networks(view, batch, task)
            stopping = task.desired_state > TaskState.RUNNING
            if stopping and not task.state.is_stopped:
                self._stopping.add(task.id)
            else:
                self._stopping.discard(task.id)
            batch.tasks.append(_assigned(task, endpoints_revision if stopping else 0))
        return message

    def _add_version(self, view: View, batch: pb.Assignments, task: Task) -> None:
        key = task.service_version_id
        if key in self._known_versions and key not in self._renewed_versions:
            return
        version = view.get(SERVICE_VERSIONS, key)
        if version is not None:
            self._known_versions.add(key)
            self._renewed_versions.discard(key)
            batch.service_versions.append(cast(types_pb2.ServiceVersion, to_proto(version)))

    def _add_networks(self, view: View, batch: pb.Assignments, task: Task) -> None:
        for address in task.networks:
            network = None if address.network_id in self._known_networks else view.get(NETWORKS, address.network_id)
            if network is not None:
                self._known_networks.add(network.id)
                batch.networks.append(cast(types_pb2.NetworkRow, to_proto(network_row(network))))

    def forget_stopped(self, task_id: str) -> None:
        """Note that the worker has stopped this task: it waits for the watermark no more."""
        self._stopping.discard(task_id)

    def renew_version(self, version_id: str) -> None:
        """Note that a service version has other credentials: it goes along with its next task."""
        self._renewed_versions.add(version_id)

    def drop_version(self, version_id: str) -> None:
        """Note that a service version is gone: nothing refers to it any more, and the worker may forget it."""
        self._renewed_versions.discard(version_id)
        if version_id in self._known_versions:
            self._known_versions.remove(version_id)
            self._gone_versions.append(version_id)
            self._wake.set()

    def drop_network(self, network_id: str) -> None:
        """Note that a network is gone: no task that is to run joins it any more."""
        if network_id in self._known_networks:
            self._known_networks.remove(network_id)
            self._gone_networks.append(network_id)
            self._wake.set()


def _assigned(task: Task, withdrawn_at: int) -> pb.AssignedTask:
    return pb.AssignedTask(
        id=task.id,
        service_id=task.service_id,
        spec_version=task.spec_version,
        slot=task.slot,
        desired_state=cast(types_pb2.TaskState.ValueType, int(task.desired_state)),
        desired_reason=task.desired_reason,
        withdrawn_at=withdrawn_at,
        state=cast(types_pb2.TaskState.ValueType, int(task.state)),
        networks=[types_pb2.NetworkAddress(network_id=a.network_id, address=a.address) for a in task.networks],
    )


def place_of(node: Node) -> tuple[NodeRole, int]:
    """Return what a node is told to be, and which member of the managers' group it is (0: none)."""
    return node.role, node.manager.raft_id if node.manager is not None else 0
