"""A few members in one thread: nodes on disks in memory, and a net that loses nothing unless it is told to."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from manager.raft.log import storage
from manager.raft.log.storage import SNAPSHOT_DIR
from manager.raft.node import NodeConfig, RaftNode
from manager.raft.outlet import Delivery, Waiter
from manager.raft.types import ConfState, EntryKind, Leadership, Message, Metadata
from swarmpy.errors import SwarmError
from tests.support.disk import FakeDisk

HERE: Final = Path("/member")
CLUSTER: Final = "cluster1"
SMALL: Final = NodeConfig(segment_bytes=16 * 1024, keep_entries=3)


class NetMember:
    """One member, its disk, and a state machine that is a list of what was applied; a `manager.raft.outlet.Outlet`."""

    def __init__(self, net: Net, member_id: int, voters: Sequence[int]) -> None:
        self._net, self.member_id = net, member_id
        self.metadata = Metadata(CLUSTER, member_id)
        self.disk = FakeDisk()
        self.disk_snapshots = HERE / SNAPSHOT_DIR
        conf = ConfState(voters=tuple(voters))
        storage.create(self.disk, HERE, self.metadata, conf, salt=member_id, segment_bytes=net.config.segment_bytes)
        self.start()

    def start(self) -> None:
        """Begin a run."""
        rng = random.Random(self.member_id)
        self.node = RaftNode.open(self.disk, HERE, self.metadata, self._net.config, rng=rng)
        self.applied: list[bytes] = []
        self.index = 0
        self.leadership: list[Leadership] = []
        self.outcomes: dict[Waiter, object] = {}
        self.slow = False
        self._queue: deque[Delivery] = deque()
        self.restored: list[int] = []
        self._restore()
        self.node.start(self)
        self.alive = True
        self.node.run()

    def _restore(self) -> None:
        reader = self.node.snapshot_reader()
        if reader is not None:
            try:
                self.applied = list(reader.chunks())
                self.index = reader.mark.index
            finally:
                reader.close()

    def stop(self) -> None:
        """End the run; what the disk holds stays."""
        if self.alive:
            self.node.close()
        self.alive = False

    # Outlet

    def send(self, messages: Sequence[Message]) -> None:
        self._net.sent.extend(messages)

    def send_snapshot(self, message: Message) -> None:
        reader = self.node.snapshot_reader()
        assert reader is not None
        try:
            assert reader.mark == message.snapshot
            self._net.snapshots.append((message, list(reader.chunks())))
        finally:
            reader.close()

    def deliver(self, delivery: Delivery) -> None:
        self._queue.append(delivery)
        if delivery.restore is not None:
            self._queue.remove(delivery)
            self._take(delivery)
        elif not self.slow:
            self.take_all()

    def take_all(self) -> None:
        """Apply all that was delivered."""
        while self._queue:
            self._take(self._queue.popleft())

    def _take(self, delivery: Delivery) -> None:
        if delivery.restore is not None:
            self._queue.clear()
            self._restore()
            assert self.index == delivery.restore.index
            self.restored.append(self.index)
        for entry in delivery.entries:
            assert entry.index == self.index + 1, "in order, without holes"
            self.index = entry.index
            if entry.kind is EntryKind.NORMAL:
                self.applied.append(entry.data)
        for waiter, value in delivery.settled:
            assert waiter not in self.outcomes, "a waiter is settled once"
            self.outcomes[waiter] = value
        if delivery.leadership is not None:
            self.leadership.append(delivery.leadership)
        if delivery.last_index:
            self._net.applied.append((self, delivery.last_index))

    # What tests do

    def propose(self, *batch: bytes) -> list[object]:
        """Propose, let the net settle, and return the outcomes; None for one that is open."""
        waiters = [object() for _ in batch]
        self.node.propose(list(zip(batch, waiters, strict=True)))
        self._net.settle()
        return [self.outcomes.get(waiter) for waiter in waiters]

    def refused(self, waiter: Waiter) -> SwarmError:
        outcome = self.outcomes.get(waiter)
        assert isinstance(outcome, SwarmError), outcome
        return outcome

    def snapshot(self) -> None:
        """Take a snapshot, a chunk for each proposal, and compact."""
        mark = self.node.mark_at(self.index)
        writer = self.node.snapshot_writer(mark)
        for data in self.applied:
            writer.write(data)
        writer.finish()
        self.node.adopt_snapshot(mark)


class Net:
    """Members 1 to `count`, all of them voters, and whoever is added later.

    `cut` holds pairs (from, to) whose messages are lost.
    """

    def __init__(self, count: int, config: NodeConfig = SMALL) -> None:
        self.config = config
        self.sent: list[Message] = []
        self.carried: list[Message] = []
        self.snapshots: list[tuple[Message, list[bytes]]] = []
        self.applied: list[tuple[NetMember, int]] = []
        self.cut: set[tuple[int, int]] = set()
        self.hold_snapshots = False
        self.members: dict[int, NetMember] = {}
        voters = range(1, count + 1)
        for member_id in voters:
            self.members[member_id] = NetMember(self, member_id, voters)
        self.settle()

    def __getitem__(self, member_id: int) -> NetMember:
        return self.members[member_id]

    def join(self, member_id: int) -> NetMember:
        """Begin a member that knows nobody."""
        self.members[member_id] = NetMember(self, member_id, ())
        return self.members[member_id]

    @property
    def running(self) -> list[NetMember]:
        return [member for member in self.members.values() if member.alive]

    def leader(self) -> NetMember:
        """Let time pass until one member leads, as all that run and are connected know."""
        for _ in range(200):
            leaders = [member for member in self.running if member.node.leads]
            if leaders:
                newest = max(leaders, key=lambda member: member.node.term)
                if newest.leadership and newest.leadership[-1].is_leader:
                    return newest
            self.tick()
        raise AssertionError("nobody leads")

    def tick(self, count: int = 1) -> None:
        """Let ticks pass for all."""
        for _ in range(count):
            for member in self.running:
                member.node.tick()
            self.settle()

    def isolate(self, member_id: int) -> None:
        """Cut a member off from all others, in both directions."""
        for other in self.members:
            self.cut |= {(member_id, other), (other, member_id)}

    def settle(self) -> None:
        """Carry out and deliver everything until nothing moves."""
        while True:
            for member in self.running:
                member.node.run()
            if not (self.sent or self.applied or (self.snapshots and not self.hold_snapshots)):
                return
            sent, self.sent = self.sent, []
            for message in sent:
                self._carry(message)
            applied, self.applied = self.applied, []
            for member, index in applied:
                if member.alive:
                    member.node.applied(index)
            if not self.hold_snapshots:
                self.carry_snapshots()

    def carry_snapshots(self) -> None:
        """Bring all snapshots that are on their way."""
        snapshots, self.snapshots = self.snapshots, []
        for message, chunks in snapshots:
            ok = self._reaches(message)
            if ok:
                receiver = self.members[message.to]
                assert message.snapshot is not None
                writer = receiver.node.snapshot_receiver(message.snapshot)
                for chunk in chunks:
                    writer.write(chunk)
                writer.finish()
                receiver.node.snapshot_received(message)
                receiver.node.run()
            if self.members[message.sender].alive:
                self.members[message.sender].node.snapshot_sent(message.to, ok=ok)

    def _carry(self, message: Message) -> None:
        self.carried.append(message)
        if self._reaches(message):
            self.members[message.to].node.step([message])

    def _reaches(self, message: Message) -> bool:
        pair = (message.sender, message.to)
        return pair not in self.cut and message.to in self.members and self.members[message.to].alive

    def close(self) -> None:
        for member in self.running:
            member.stop()
