"""The dispatcher's loop: commits in, sessions told; silent nodes marked DOWN."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog

from manager.dispatcher.drain import Watermark
from manager.dispatcher.endpoints import EndpointSet
from manager.dispatcher.heartbeats import MISSED_BEATS, MISSED_BEATS_AFTER_TAKEOVER, Heartbeats
from manager.dispatcher.session import WorkerSession, place_of
from manager.dispatcher.statuses import MAX_CHANGES, StatusWriter
from manager.store.commit import Change, Commit
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NETWORKS, NODES, SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.transaction import Transaction
from manager.store.view import View
from manager.store.watch import CompactedError, Watch
from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.clock import Clock
from swarmpy.errors import Code, NotLeaderError, SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.node import Capability, Node
from swarmpy.model.states import NodeState, TaskState
from swarmpy.model.task import Task

log = structlog.get_logger(__name__)

ORPHAN_AFTER_S: Final = 24 * 3600.0
ORPHAN_SCAN_S: Final = 60.0
ENDPOINT_PACE_S: Final = 0.0003  # a round of endpoint updates costs about this much per session
LOOK_FOR_SILENCE_S: Final = 0.25
LATE_S: Final = 1.0  # a look that comes later than this was held up, and so were the beats


class Dispatcher:
    """Sessions of all workers of the cluster, on the leader. Serves sessions only while `run` runs."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        leader_addr: Callable[[], str] = lambda: "",
        managers: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """
        Args:
            leader_addr: returns where the manager that leads is, empty if that is not known.
            managers: returns `host:port` of all managers.
        """
        self._store = store
        self._clock = clock
        self._leader_addr = leader_addr
        self.managers = managers
        self.statuses = StatusWriter(store)
        self.endpoints = EndpointSet(store.view())
        self.watermark = Watermark()
        self._heartbeats = Heartbeats()
        self._sessions: dict[str, WorkerSession] = {}
        self._publish_due = asyncio.Event()
        self._watch: Watch | None = None

    async def run(self) -> None:
        """Follow the store until cancelled; ends every session when it goes."""
        # What an earlier term left queued belongs to sessions that are over.
        self.statuses = StatusWriter(self._store)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self.statuses.run())
                group.create_task(self._publish_endpoints())
                group.create_task(self._mark_silent_nodes())
                group.create_task(self._mark_orphans())
        finally:
            self._watch = None
            self._end_all(self._refusal("this manager does not lead any more: try another one"))

    @property
    def spec(self) -> ClusterSpec:
        """The cluster's settings as they are now."""
        return next((cluster.spec for cluster in self._store.view().all(CLUSTERS)), ClusterSpec())

    @property
    def view(self) -> View:
        return self._store.view()

    def _refusal(self, sentence: str) -> NotLeaderError:
        return NotLeaderError(sentence, self._leader_addr(), self.managers())

    def session_of(self, node_id: str) -> WorkerSession | None:
        return self._sessions.get(node_id)

    def connected(self) -> Iterable[str]:
        """Return the ids of the nodes that have a session."""
        return self._sessions.keys()

    def register(self, session: WorkerSession) -> WorkerSession | None:
        """Add a session; an older one of the same node is ended and returned.

        Raises:
            SwarmError: NOT_LEADER, this manager does not lead (yet); PERMISSION_DENIED, there is no such node.
        """
        if self._watch is None:
            raise self._refusal("this manager does not lead: try another one")
        if self._store.view().get(NODES, session.node_id) is None:
            raise removed_node()
        older = self._sessions.get(session.node_id)
        if older is not None:
            older.end(SwarmError(Code.UNAVAILABLE, "the node has opened a newer session"))
        self._sessions[session.node_id] = session
        self.beat(session.node_id)
        return older

    def unregister(self, session: WorkerSession) -> None:
        """Forget a session that has ended; the node itself stays alive until its heartbeats are overdue."""
        if self._sessions.get(session.node_id) is session:
            del self._sessions[session.node_id]
            if self._store.view().get(NODES, session.node_id) is None:
                # It was removed while its session opened: it must not hold the watermark up for good.
                self._forget(session.node_id)

    def beat(self, node_id: str) -> None:
        """Note that a node lives."""
        self._heartbeats.beat(node_id, self._clock.monotonic(), self.spec.heartbeat_period_s)

    def report_endpoints(self, node_id: str, revision: int, busy: Iterable[str]) -> None:
        """Take in how far a node's data plane has come, and tell the workers that wait for it."""
        before = self.watermark.settled(self.endpoints.revision)
        self._rouse_waiting(self.watermark.report(node_id, revision, busy), before)

    def leave_endpoints(self, node_id: str) -> None:
        """Note that a node sends no connections (any more): it is gone, or has no data plane."""
        before = self.watermark.settled(self.endpoints.revision)
        self._rouse_waiting(self.watermark.leave(node_id), before)

    def messages_for(self, session: WorkerSession) -> list[pb.ManagerMessage]:
        """Return what `session` has to send now, made from one state.

        Commits that are applied and not yet taken in are taken in first: a task that is withdrawn in the view must
        be withdrawn in the endpoints, too, or it would be told an endpoints revision from before its withdrawal.
        """
        if self._watch is not None:
            try:
                self._take_all(self._watch)
            except CompactedError:
                return []  # the loop sees it next, and ends every session
        return (
            []
            if session.ended is not None
            else list(session.take(self.view, self.endpoints, self.watermark, self.managers()))
        )

    def _rouse_waiting(self, busy_changed: set[str], settled_before: int) -> None:
        settled_moved = self.watermark.settled(self.endpoints.revision) != settled_before
        if not busy_changed and not settled_moved:
            return
        for session in self._sessions.values():
            if session.has_stopping and (settled_moved or any(session.is_stopping(t) for t in busy_changed)):
                session.rouse()

    async def _follow(self) -> None:
        while True:
            with self._store.watch(NETWORKS, NODES, SERVICES, SERVICE_VERSIONS, TASKS) as watch:
                self._start_over(watch)
                try:
                    while True:
                        self._take_all(watch)
                        await watch.wait()
                except CompactedError as error:
                    log.warning("dispatcher_fell_behind", reason=error.message)

    def _start_over(self, watch: Watch) -> None:
        """Derive everything from the state as it is; sessions begin anew with a complete set."""
        self._end_all(SwarmError(Code.UNAVAILABLE, "the manager starts over: connect again"))
        view = self._store.view()
        self.endpoints = EndpointSet(view)
        self.watermark = Watermark()
        self._heartbeats = Heartbeats()
        now_s, period_s = self._clock.monotonic(), self.spec.heartbeat_period_s
        for node in view.all(NODES):
            if node.state is not NodeState.DOWN:
                self._heartbeats.beat(node.id, now_s, period_s, grace=MISSED_BEATS_AFTER_TAKEOVER)
                if Capability.DATA_PLANE in node.description.capabilities:
                    # Until it reports, a live node's data plane may still send connections anywhere.
                    self.watermark.report(node.id, 0, ())
        self._watch = watch

    def _end_all(self, error: SwarmError) -> None:
        for session in self._sessions.values():
            session.end(error)
        self._sessions.clear()

    def _take_all(self, watch: Watch) -> None:
        while (commit := watch.take()) is not None:
            self._take(commit)

    def _take(self, commit: Commit) -> None:
        moved = [c.id for c in commit.of(NODES) if c.before and c.after and c.before.data_addr != c.after.data_addr]
        tasks = [task for node_id in moved for task in self._store.view().find(TASKS, "node_id", node_id)]
        self.endpoints.apply(commit, tasks)
        if self.endpoints.has_pending:
            self._publish_due.set()
        for task_change in commit.of(TASKS):
            self._take_task(task_change)
        for version_change in commit.of(SERVICE_VERSIONS):
            for session in self._sessions.values():
                if version_change.after is None:
                    session.drop_version(version_change.id)
                elif version_change.before is not None:
                    session.renew_version(version_change.id)
        for network_change in commit.of(NETWORKS):
            if network_change.after is None:
                for session in self._sessions.values():
                    session.drop_network(network_change.id)
        for node_change in commit.of(NODES):
            self._take_node(node_change)
            self._take_role(node_change)

    def _take_task(self, change: Change[Task]) -> None:
        before, after = change.before, change.after
        if after is None:
            if before is not None:
                self._mark(before.node_id, before.id)
            return
        if after.state.is_stopped:
            session = self._sessions.get(after.node_id)
            if session is not None:
                session.forget_stopped(after.id)
        if before is None or before.node_id != after.node_id or before.desired_state != after.desired_state:
            self._mark(after.node_id, after.id)

    def _mark(self, node_id: str, task_id: str) -> None:
        session = self._sessions.get(node_id)
        if session is not None:
            session.mark(task_id)

    def _take_node(self, change: Change[Node]) -> None:
        if change.after is None:
            self._end(change.id, removed_node())
            self._forget(change.id)
        elif change.after.state is NodeState.DOWN and change.id not in self._sessions:
            # With a session it has come back since, and its data plane with it.
            self.leave_endpoints(change.id)

    def _take_role(self, change: Change[Node]) -> None:
        """Have sessions look again where a node's place among the managers, or where a manager is, has changed."""
        before, after = change.before, change.after
        if after is not None and (before is None or place_of(before) != place_of(after)):
            session = self._sessions.get(change.id)
            if session is not None:
                session.rouse()
        if _manager_addr(before) != _manager_addr(after):
            for session in self._sessions.values():
                session.rouse()

    def _forget(self, node_id: str) -> None:
        self._heartbeats.forget(node_id)
        self.leave_endpoints(node_id)

    def _end(self, node_id: str, error: SwarmError) -> None:
        session = self._sessions.pop(node_id, None)
        if session is not None:
            session.end(error)

    async def _publish_endpoints(self) -> None:
        """Send endpoint changes at once when idle; while many sessions take in a round, gather the next."""
        while True:
            await self._publish_due.wait()
            self._publish_due.clear()
            self.endpoints.publish()
            for session in self._sessions.values():
                session.rouse()
            await self._clock.sleep(len(self._sessions) * ENDPOINT_PACE_S)

    async def _mark_silent_nodes(self) -> None:
        while True:
            deadline_s = self._heartbeats.next_deadline_s()
            now_s = self._clock.monotonic()
            if deadline_s is None or deadline_s > now_s:
                wait_s = LOOK_FOR_SILENCE_S if deadline_s is None else min(LOOK_FOR_SILENCE_S, deadline_s - now_s)
                await self._clock.sleep(wait_s)
                if self._clock.monotonic() - now_s - wait_s > LATE_S:
                    # This process itself stood still: beats wait to be read, and nobody is silent for that.
                    await self._clock.sleep(self.spec.heartbeat_period_s)
                continue
            silent = self._heartbeats.expired(now_s)
            if silent:
                # Ended before the write, in one stretch with it: a session that opens from now on is a newer one.
                for node_id in silent:
                    self._end(node_id, SwarmError(Code.UNAVAILABLE, "no heartbeat came in time: connect again"))
                for start in range(0, len(silent), MAX_CHANGES):
                    some = silent[start : start + MAX_CHANGES]
                    await self._store.update(
                        _mark_down(some, f"{MISSED_BEATS} heartbeats in a row were missed", self._clock.now())
                    )
                log.warning("nodes_down", nodes=silent)

    async def said_goodbye(self, session: WorkerSession) -> None:
        """Mark a node DOWN at once that has stopped its tasks and left the cluster."""
        await self._store.update(_mark_down([session.node_id], "it has left the cluster", self._clock.now()))

    async def _mark_orphans(self) -> None:
        while True:
            await self._clock.sleep(ORPHAN_SCAN_S)
            now_s = self._clock.now()
            view = self._store.view()
            gone = [n for n in view.all(NODES) if n.state is NodeState.DOWN and n.updated_at < now_s - ORPHAN_AFTER_S]
            lost = [t.id for n in gone for t in view.find(TASKS, "node_id", n.id) if not t.state.is_stopped]
            for start in range(0, len(lost), MAX_CHANGES):
                await self._store.update(_orphan(lost[start : start + MAX_CHANGES], now_s))


def _manager_addr(node: Node | None) -> str:
    return node.manager.addr if node is not None and node.manager is not None else ""


def removed_node() -> SwarmError:
    """Return why a node that has no row is refused."""
    return SwarmError(Code.PERMISSION_DENIED, "this node was removed from the cluster")


def _mark_down(node_ids: Iterable[str], message: str, now_s: float) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        for node_id in node_ids:
            node = tx.get(NODES, node_id)
            if node is not None and node.state is not NodeState.DOWN:
                tx.update(NODES, msgspec.structs.replace(node, state=NodeState.DOWN, message=message, updated_at=now_s))

    return change


def _orphan(task_ids: Iterable[str], now_s: float) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        for task_id in task_ids:
            task = tx.get(TASKS, task_id)
            if task is not None and not task.state.is_stopped:
                lost = msgspec.structs.replace(
                    task,
                    state=TaskState.ORPHANED,
                    status_at=now_s,
                    ready=False,
                    message="its node is gone for a day",
                )
                tx.update(TASKS, lost)

    return change
