"""One member: core and storage in their order, synchronous, without threads or clock; the simulator's unit too.

Whatever is done to a node only changes the core; `run()`, or `prepare()` and `carry_out()` in turn, then carry out
what the core has ready. Waiters are settled through `Outlet.deliver`, behind what has to be applied first.

The commit index alone is not worth a sync. It goes into the next frame, or into one of its own once the log has
been idle for a tick; that frame also stands behind the last acknowledged one and so proves it whole.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from manager.raft import confchange
from manager.raft.backlog import Backlog
from manager.raft.core import RaftCore
from manager.raft.entries import EntryLog
from manager.raft.handover import successor
from manager.raft.log.crypt import Sealer
from manager.raft.log.disk import Disk
from manager.raft.log.snapshot_file import SnapshotReader, SnapshotWriter
from manager.raft.log.storage import Storage
from manager.raft.outlet import Delivery, Outlet, Settled, Waiter
from manager.raft.room import Room
from manager.raft.settings import NodeConfig
from manager.raft.snapshots import Snapshots
from manager.raft.types import (
    NOBODY,
    Commit,
    ConfChange,
    ConfState,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    Metadata,
    Ready,
    Role,
    SnapshotMark,
    Status,
)
from manager.raft.waiting import Waiting
from swarmpy.errors import SwarmError, invalid

__all__ = ["NodeConfig", "RaftNode"]


class RaftNode:
    """A member with its directory open; not safe for several threads.

    Methods that take a waiter never raise a SwarmError for it: it is settled, now or later, through the outlet.
    Every method may raise LogFailedError: the log cannot be trusted any more, and `close` is all that is left.
    """

    def __init__(self, core: RaftCore, storage: Storage, config: NodeConfig, *, rng: random.Random) -> None:
        self._core, self._storage, self._config = core, storage, config
        patience = 2 * config.core.election_ticks
        self._room = Room(storage)
        self._backlog = Backlog(config.backlog_bytes, storage.mark.index)
        self._snapshots = Snapshots(core, storage, keep_entries=config.keep_entries)
        self._waiting = Waiting(core.member_id, patience_ticks=patience, first_read=rng.getrandbits(64))
        self._hard = core.hard_state
        self._delivered = storage.mark.index
        self._wrote_since_tick = False
        self._ready: Ready | None = None

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: Path,
        metadata: Metadata,
        config: NodeConfig,
        *,
        rng: random.Random,
        sealer: Sealer | None = None,
    ) -> RaftNode:
        """Open what `storage.create` began; raises what `Storage.open` raises.

        The state machine is to be restored from `snapshot_reader()` before `start()`.
        """
        storage, state = Storage.open(disk, directory, metadata, segment_bytes=config.segment_bytes, sealer=sealer)
        mark = state.mark
        entries = EntryLog.recovered(mark, state.entries)
        try:
            core = RaftCore(metadata.member_id, state.hard_state, mark.conf, entries, mark.index, config.core, rng)
        except BaseException:
            storage.close()
            raise
        return cls(core, storage, config, rng=rng)

    # What it is

    @property
    def member_id(self) -> int:
        return self._core.member_id

    @property
    def leads(self) -> bool:
        return self._core.role is Role.LEADER

    @property
    def leader_id(self) -> int:
        """Who leads, as far as this member knows; 0 for nobody."""
        return self._core.leader_id

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def is_behind(self) -> bool:
        """Whether something waits for `applied`."""
        return self._backlog.is_full

    @property
    def applied_index(self) -> int:
        """The last entry that the state machine's side has told of."""
        return self._backlog.applied_index

    def rank(self, lost_id: int) -> int | None:
        """Return this member's place among the voters without `lost_id`, by id, from 0; None if it is no voter."""
        conf = self._core.conf
        voters = sorted({*conf.voters, *conf.voters_outgoing} - {lost_id})
        return voters.index(self.member_id) if self.member_id in voters else None

    def status(self) -> Status:
        core, storage = self._core, self._storage
        return Status(
            member_id=core.member_id,
            role=core.role,
            term=core.term,
            leader_id=core.leader_id,
            first_index=core.log.first_index,
            last_index=core.log.last_index,
            commit_index=core.commit_index,
            applied_index=self.applied_index,
            log_bytes=storage.log_bytes,
            log_segments=storage.log_segments,
            snapshot=storage.mark,
            log_full=self._room.full,
            conf=core.conf,
            peers=core.peers(),
        )

    # What happens to it

    def start(self, outlet: Outlet) -> None:
        """Begin; from now on all goes through `outlet`. An only voter stands at once, if the disk has room for it."""
        self._outlet = outlet
        if self._core.conf == ConfState(voters=(self.member_id,)) and self._room.for_control():
            self._core.campaign()

    def tick(self) -> None:
        """Let a tick pass: time for the core, and for the log what is best done while idle.

        A member that could not store its vote must not stand, so time passes for it only when there is space; and
        one that could not store its successor's term hands the lead to whoever can.
        """
        if self._room.for_control() or (self._is_only_voter and self.leads):
            self._core.tick()
        elif self.leads:
            self._core.resign()
        self._settle(*self._waiting.tick(leads=self.leads))
        if self._wrote_since_tick:
            self._wrote_since_tick = False
        else:
            self.seal()
        self._room.try_again()
        self._storage.prepare_next()

    def step(self, messages: Iterable[Message]) -> None:
        """Take messages of other members, as far as there is room for what they bring; the rest is dropped."""
        for message in messages:
            if message.kind is MessageKind.SNAPSHOT or (message.entries and self._backlog.is_full):
                continue
            if self._room.for_message(message, self._core.term):
                self._core.step(message)

    def snapshot_received(self, message: Message, *, stored: bool = True) -> None:
        """Take a SNAPSHOT message whose file was stored by `snapshot_receiver`; it is removed if nobody wants it.

        Args:
            stored: False for one that lies within what is committed here: there is no need of the file then.
        """
        assert message.snapshot is not None, "a SNAPSHOT message names its snapshot"
        assert stored or message.snapshot.index <= self._core.commit_index, "the file is needed"
        if stored:
            self._snapshots.received(message.snapshot)
        if self._room.for_message(message, self._core.term):
            self._core.step(message)

    def snapshot_given_up(self, mark: SnapshotMark) -> None:
        """Remove what `snapshot_receiver` may have finished of a snapshot that `snapshot_received` will not hear of."""
        self._snapshots.forget(mark)

    def snapshot_sent(self, to: int, *, ok: bool) -> None:
        """Learn what came of `Outlet.send_snapshot`."""
        self._core.report_snapshot(to, ok)

    def unreachable(self, member_id: int) -> None:
        """Learn that messages to a member were lost."""
        self._core.report_unreachable(member_id)

    def leader_lost(self) -> None:
        """Learn that the connection to the leader ended: others may be voted for at once, and `campaign` helps."""
        self._core.leader_lost()

    def campaign(self) -> None:
        """Stand for leader (by a pre-vote first) unless somebody leads."""
        if self._core.leader_id == NOBODY and self._room.for_control():
            self._core.campaign()

    def resign(self) -> None:
        """Step down, if this member leads and others could."""
        if self.leads and not self._is_only_voter:
            self._core.resign()

    def applied(self, index: int) -> None:
        """Learn that the state machine's side has applied everything up to `index`."""
        self._backlog.applied(index)

    # What is asked of it

    def propose(self, batch: Sequence[tuple[bytes, Waiter]]) -> None:
        """Append each proposal; its waiter gets its Commit once it is committed and delivered."""
        most = self._config.max_entry_bytes
        refusal = self._room.let_in(len(batch), sum(len(data) for data, _ in batch if len(data) <= most))
        if refusal is None and self._backlog.is_full:
            refusal = self._backlog.refusal()
        refused: list[Settled] = []
        for data, waiter in batch:
            try:
                if len(data) > most:
                    raise invalid(f"a change of {len(data)} bytes is too large, the limit is {most}: split it up")
                if refusal is not None and self.leader_id in (NOBODY, self.member_id):
                    raise refusal
                self._waiting.proposals.add(Commit(self._core.propose(data), self._core.term), waiter)
            except SwarmError as error:
                refused.append((waiter, error))
        self._settle(*refused)

    def change_members(self, change: ConfChange, waiter: Waiter) -> None:
        """Change the members; `waiter` gets the ConfState once the change, its joint stage included, is over."""
        refusal = self._room.let_in(1, len(confchange.encode(change)))
        try:
            if refusal is not None and self.leader_id in (NOBODY, self.member_id):
                raise refusal
            self._waiting.changes.add(Commit(self._core.propose_conf_change(change), self._core.term), waiter)
        except SwarmError as error:
            self._settle((waiter, error))

    def read(self, waiter: Waiter) -> None:
        """Settle `waiter` with None once all that was acknowledged before this call is delivered here."""
        self._waiting.reads.add(waiter)

    def transfer(self, to: int, waiter: Waiter) -> None:
        """Hand the lead to member `to`, or 0 for whoever has most; `waiter` gets None once this one does not lead."""
        try:
            to = to or (successor(self._core.peers(), self.member_id) if self.leads else NOBODY)
            self._core.transfer(to)
        except SwarmError as error:
            self._settle((waiter, error))
        else:
            self._waiting.handover.add(to, waiter)

    # Carrying out

    def run(self) -> None:
        """Carry out all that the core has ready."""
        while self.prepare():
            self.carry_out()

    def prepare(self) -> bool:
        """Take what is ready, and send what need not wait for the disk; `carry_out()` comes next if it says so.

        Between the two, anything may be done to the node; it waits for the next turn.
        """
        assert self._ready is None, "carry_out() comes before the next prepare()"
        self._waiting.reads.ask(self._core.read_index)
        self._room.begin_frame()
        self._ready = self._core.ready(hand_out=not self._backlog.is_full)
        if self._ready is None:
            self._room.end_frame()
            self._snapshots.forget_received()
            return False
        self._send(self._ready.ahead)
        return True

    @property
    def will_sync(self) -> bool:
        """Whether `carry_out()` will wait for the disk."""
        return self._ready is not None and self._ready.must_sync

    def carry_out(self) -> None:
        """Store, sync, send, deliver what `prepare()` took."""
        ready = self._ready
        assert ready is not None, "prepare() comes first"
        self._hard = ready.hard_state or self._hard
        settled: list[Settled] = []
        if ready.snapshot is not None:
            self._snapshots.install(ready.snapshot, self._hard)
            self._wrote_since_tick = True
            self._delivered = ready.snapshot.index
            settled += self._waiting.restored(ready.snapshot.index)
        if ready.entries or (ready.must_sync and self._storage.hard_state != self._hard):
            # A snapshot's mark comes with the hard state: room was made for no third frame.
            self._storage.append(ready.entries, self._hard)
            self._wrote_since_tick = True
            settled += self._waiting.stored(ready.entries)
        self._room.end_frame()
        self._send(ready.messages)
        self._deliver(ready, settled)
        self._core.advance()
        self._ready = None

    def _deliver(self, ready: Ready, settled: list[Settled]) -> None:
        if ready.snapshot is not None:
            self._outlet.deliver(Delivery(restore=ready.snapshot))
        if ready.committed:
            settled.extend(self._committed(ready.committed))
        if ready.leadership is not None:
            self._waiting.reads.again()
        if ready.reads:
            self._waiting.reads.answered(ready.reads)
        if self._waiting.handover.is_asked and not self.leads:
            settled += self._waiting.handover.stepped_down()
        settled += self._waiting.reads.served(self._delivered)
        if ready.committed or settled or ready.leadership is not None:
            self._outlet.deliver(Delivery(ready.committed, None, tuple(settled), ready.leadership))

    def _committed(self, entries: Sequence[Entry]) -> Iterator[Settled]:
        """Learn that these entries are handed out, and settle those who wait for them."""
        for entry in entries:
            if entry.kind is EntryKind.CONF_CHANGE:
                conf = self._core.apply_conf_change(confchange.decode(entry.data))
                self._snapshots.note_members(entry.index, conf)
                yield from self._waiting.changes.applied(entry, conf)
        yield from self._waiting.proposals.committed(entries)
        self._delivered = entries[-1].index
        self._backlog.handed_out(entries)

    def _send(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        for message in messages:
            if message.kind is MessageKind.SNAPSHOT:
                self._outlet.send_snapshot(message)
        self._outlet.send([m for m in messages if m.kind is not MessageKind.SNAPSHOT])

    def _settle(self, *settled: Settled) -> None:
        """Tell outcomes that wait for nothing to be applied."""
        if settled:
            self._outlet.deliver(Delivery(settled=settled))

    @property
    def _is_only_voter(self) -> bool:
        conf = self._core.conf
        return {*conf.voters, *conf.voters_outgoing} <= {self.member_id}

    # Snapshots

    def mark_at(self, index: int) -> SnapshotMark:
        """Return the mark of a snapshot of the state after entry `index`.

        Raises:
            SwarmError: FAILED_PRECONDITION, nothing new is applied there.
        """
        return self._snapshots.mark_at(index, applied=self.applied_index)

    def snapshot_writer(self, mark: SnapshotMark) -> SnapshotWriter:
        """Begin a snapshot's file; this and the writer may be used on another thread, one at a time."""
        return self._snapshots.writer(mark)

    def snapshot_receiver(self, mark: SnapshotMark) -> SnapshotWriter:
        """Begin the file of a snapshot that a leader sends; for another thread, too."""
        return self._snapshots.receiver(mark)

    def snapshot_reader(self) -> SnapshotReader | None:
        """Open the newest snapshot, which stays readable when a newer one comes; None if there is none."""
        return self._snapshots.reader()

    def adopt_snapshot(self, mark: SnapshotMark) -> None:
        """Let a finished snapshot count and forget the entries it makes needless.

        Raises:
            SwarmError: FAILED_PRECONDITION, a leader's snapshot came meanwhile, which is newer.
        """
        self._snapshots.adopt(mark, self._hard)

    def close(self) -> None:
        self._storage.close()

    def seal(self) -> None:
        """Store the commit index by itself, if it is not stored; a full disk is no reason to fail."""
        if self._hard != self._storage.hard_state and self._room.for_control():
            self._storage.append((), self._hard)
