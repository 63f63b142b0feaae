"""One run of a member, from the start of its process to its end: the real node, turned by virtual time."""

from __future__ import annotations

import asyncio
import functools
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from manager.raft.log.faults import LogFailedError
from manager.raft.node import RaftNode
from manager.raft.outlet import Delivery
from manager.raft.types import ConfState, Entry, HardState, Message, MessageKind, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.sim.raft.checks import Seen
from tests.sim.raft.loop import Event
from tests.sim.raft.machine import Machine
from tests.sim.raft.shadow import ViolationError
from tests.support.disk import Crash

if TYPE_CHECKING:
    from tests.sim.raft.cluster import Cluster
    from tests.sim.raft.host import Host

T = TypeVar("T")
TURN_US: Final = 30
MOST_MAIL: Final = 1000
CHATTER: Final = frozenset({MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_RESPONSE})


class Run:
    """A process: an `Outlet` for its node, the Raft thread's queue and turns, and the tasks of its main loop.

    Raises (from the constructor):
        SwarmError: the directory cannot be used. Crash: the process died at its start.
    """

    def __init__(self, host: Host, world: Cluster, rng: random.Random) -> None:
        self.host, self.world, self._rng = host, world, rng
        self.member_id = host.member_id
        self.alive = True
        self.is_receiving = False
        self.node = RaftNode.open(
            host.disk, host.directory, host.metadata, world.node_config, rng=rng, sealer=host.sealer
        )
        core = self.node._core
        shadow = world.checks.shadows[self.member_id]
        entries = core.log.between(core.log.first_index, core.log.last_index)
        shadow.check_found(self.member_id, core.hard_state, self.node.status().snapshot, entries)
        world.checks.found(entries)
        self._seen = self._now()
        self._watch()
        self.machine = Machine(self)
        self._inbox: deque[Callable[[], object]] = deque()
        self._mail: deque[Message] = deque()
        self._proposals: list[tuple[bytes, object]] = []
        self._busy = self._woken = self.started = False
        self._tasks: list[asyncio.Task[None]] = []
        self._handed = self.node.status().snapshot.index

    async def start(self) -> None:
        """Restore the state, then begin."""
        reader = self.node.snapshot_reader()
        if reader is not None:
            await self.machine.restore(reader)
        self.world.checks.conf_at(self.member_id, self._handed, self.node._core.conf)
        self.started = True
        self.spawn(self.machine.store.run())
        if self.world.options.snapshot_entries:
            self.spawn(self.machine.take_snapshots(self.world.options.snapshot_entries))
        self.post(lambda: self.node.start(self))

    # Outlet

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.world.checks.sent(self.member_id, message)
            if message.kind not in CHATTER:
                self.note("sends", message.kind.name, f"to m{message.to}", message.term, message.index)
        self.world.network.send(messages)

    def send_snapshot(self, message: Message) -> None:
        reader = self.node.snapshot_reader()
        assert reader is not None and reader.mark == message.snapshot, f"{message} without its snapshot"
        self.spawn(self.world.stream_snapshot(self, message, reader))

    def deliver(self, delivery: Delivery) -> None:
        if delivery.restore is not None:
            self._handed = delivery.restore.index
            self.world.checks.conf_at(self.member_id, self._handed, delivery.restore.conf)
        if delivery.entries:
            self.world.checks.handed_out(self.member_id, delivery.entries, self._handed)
            self._handed = delivery.entries[-1].index
        self.machine.deliver(delivery, self.node.snapshot_reader() if delivery.restore is not None else None)

    def applied(self, index: int) -> None:
        """Learn that the store has applied everything up to `index`."""
        self.post(lambda: self.node.applied(index))

    # The Raft thread

    def receive(self, message: Message) -> None:
        """Take a message from the wire; what does not fit into the queue is lost."""
        if self.started and len(self._mail) < MOST_MAIL:
            self._mail.append(message)
            self._wake()

    def post(self, action: Callable[[], object]) -> None:
        """Have something done with the node, behind what waits already."""
        if self.alive:
            self._put(action)

    def post_proposal(self, data: bytes, waiter: object) -> None:
        """Propose, together with what else is proposed until the node's next turn."""
        if not self.alive:
            return
        self._proposals.append((data, waiter))
        if len(self._proposals) == 1:
            self._put(self._propose)

    async def order(self, action: Callable[[], T]) -> T:
        """Have something done with the node and return what comes of it."""
        waiter = self.new_waiter()

        def act() -> None:
            try:
                result: object = action()
            except LogFailedError:
                raise
            except SwarmError as error:
                if not waiter.done():
                    waiter.set_exception(error)
            else:
                if not waiter.done():
                    waiter.set_result(result)

        self.post(act)
        answer: T = await waiter
        return answer

    def _put(self, action: Callable[[], object]) -> None:
        self._inbox.append(action)
        self._wake()

    def _wake(self) -> None:
        if not self._woken and not self._busy:
            self._woken = True
            self.later(TURN_US, self._turn)

    def _turn(self) -> None:
        self._woken = False
        self._take_in()
        self._proceed()

    def _take_in(self) -> None:
        """Take what waits; nobody knows whether the wire or the main loop was heard first."""
        mail, self._mail = self._mail, deque()
        posted, self._inbox = self._inbox, deque()
        letters: list[Callable[[], object]] = [functools.partial(self._step, message) for message in mail]
        for action in (*letters, *posted) if self._rng.random() < 0.5 else (*posted, *letters):
            action()
            self.observe()

    def _proceed(self) -> None:
        if self.node.prepare():
            self._busy = True
            self.later(self.world.sync_delay_us(self._rng), self._finish)
        elif self._inbox or self._mail:
            self._wake()

    def _finish(self) -> None:
        if self._rng.random() < 0.5:  # the engine lets its senders run before it stores, and may hear things then
            self._take_in()
        self.node.carry_out()
        self._busy = False
        self.observe()
        self._proceed()

    def _step(self, message: Message) -> None:
        before = self.node.term
        matched = self._matched(message)
        self.node.step((message,))
        if message.kind is MessageKind.PRE_VOTE and self.node.term != before:
            raise ViolationError("pre-vote", f"member {self.member_id} went to term {self.node.term} for a pre-vote")
        self.world.checks.matched(self.member_id, message, matched, self._matched(message))

    def _matched(self, message: Message) -> int:
        """Return how much of its log the sender is taken to have stored."""
        if message.kind is not MessageKind.APPEND_RESPONSE:
            return 0
        return next((peer.match for peer in self.node._core.peers() if peer.member_id == message.sender), 0)

    def _propose(self) -> None:
        proposals, self._proposals = self._proposals, []
        self.node.propose(proposals)

    # What is seen of it

    def _now(self) -> Seen:
        core = self.node._core
        return Seen(core.term, core.commit_index, core.role)

    def observe(self) -> None:
        now, seen = self._now(), self._seen
        if now != seen:
            self.world.checks.observed(self.member_id, seen, now, self.node._core.conf, self._term_of)
            if (now.term, now.role) != (seen.term, seen.role):
                self.note("is", now.role.value, now.term)
                self.world.role_changed(self)
            self._seen = now

    def _term_of(self, index: int) -> int | None:
        try:
            return self.node._core.log.term(index)
        except SwarmError as error:
            return None if error.code is Code.COMPACTED else 0

    def _watch(self) -> None:
        """Note in the shadow what the storage has made durable, and check every change of the members."""
        node, checks, shadow = self.node, self.world.checks, self.world.checks.shadows[self.member_id]
        storage, snapshots = node._storage, node._snapshots
        append, adopt, install = storage.append, storage.adopt_snapshot, storage.install_snapshot
        note_members = snapshots.note_members

        def appended(entries: Sequence[Entry], hard_state: HardState | None) -> None:
            shadow.begins(entries)
            append(entries, hard_state)
            if entries:
                checks.stored(self.member_id, entries, node._core.role, node._delivered)
            shadow.appended(entries, hard_state)

        def adopted(mark: SnapshotMark, hard_state: HardState, *, keep_from: int) -> None:
            adopt(mark, hard_state, keep_from=keep_from)
            shadow.adopted(mark)

        def installed(mark: SnapshotMark, hard_state: HardState) -> None:
            install(mark, hard_state)
            shadow.installed(mark, hard_state)

        def noted(index: int, conf: ConfState) -> None:
            note_members(index, conf)
            checks.conf_applied(self.member_id, index, conf)
            self.note("members", index, *conf.voters, "was", *conf.voters_outgoing, "learn", *conf.learners)

        for owner, name, method in (
            (storage, "append", appended),
            (storage, "adopt_snapshot", adopted),
            (storage, "install_snapshot", installed),
            (snapshots, "note_members", noted),
        ):
            setattr(owner, name, method)

    # Its life

    def note(self, what: str, *details: object) -> None:
        self.world.timeline.note(what, f"m{self.member_id}", *details)

    def new_waiter(self) -> asyncio.Future[Any]:
        return self.world.timeline.loop.create_future()

    def later(self, delay_us: int, action: Callable[[], object]) -> Event:
        """Have `action` done by this process, if it is alive then; one that is paused does it when it wakes up."""
        return self.world.timeline.after(delay_us, lambda: self._act(action))

    def _act(self, action: Callable[[], object]) -> None:
        asleep_us = self.host.paused_until_us - self.world.timeline.now_us
        if asleep_us > 0:
            self.later(asleep_us, action)
        else:
            self.attempt(action)

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Do `action` in this process, which may be the end of it; None if it was."""
        if not self.alive:
            return None
        try:
            return action()
        except Crash as crash:
            self.note("crash", str(crash))
            self.host.crash()
        except LogFailedError as failure:
            self.note("log failed", failure.message)
            self.host.crash()
        return None

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a task that ends with this process, at the latest."""
        self._tasks = [task for task in self._tasks if not task.done()]
        task = self.world.timeline.loop.create_task(self._guarded(work))
        task.add_done_callback(lambda _: work.close())  # it may never have begun
        self._tasks.append(task)

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except (Crash, LogFailedError) as end:
            if self.alive:
                self.note("crash", str(end))
                self.host.crash()
        except BaseException as failure:  # noqa: BLE001 - a task has nobody above it: the timeline raises it
            self.world.timeline.failures.append(failure)

    def kill(self) -> None:
        """End the process at once; nothing that it had under way goes on."""
        self.alive = False
        for task in self._tasks:
            task.cancel()
