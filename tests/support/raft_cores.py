"""A few cores in one thread, without nodes or logs: what each has stored, and a net that does what a test says.

    net = CoreNet(voters=(1, 2, 3))     # all know the same members; nothing moves by itself
    net.elect(1)                        # stands, and all is delivered until nothing moves
    net.propose(1, b"a")                # appends and settles; net.core(1).propose(b"a") appends only
    net.tick(2, 8)                      # so many ticks for one member; nothing is carried out yet
    net.carry_out(2)                    # all that it has ready: its messages wait in net.wire
    net.deliver(MessageKind.VOTE, to=3) # some of what waits reaches the cores; net.drop(...) loses it
    net.settle()                        # carry out and deliver everything, until nothing moves
    net.isolate(1); net.cut.add((2, 3)); net.heal()
    net.crash(1); net.restart(1)        # loses what was not stored; net.join(4) begins a member that knows nobody
    net.snapshot(1, keep=0)             # store the state so far, and compact the log behind it

`begin` and `finish` are the two halves of `carry_out` for one `Ready`: anything may happen between them.
All that happens goes through `net.laws` (tests/support/raft_laws.py), which fails the test that breaks one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from manager.raft import confchange
from manager.raft.core import CoreConfig, RaftCore
from manager.raft.entries import EntryLog
from manager.raft.types import (
    ConfChange,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    Ready,
    Role,
    SnapshotMark,
)
from tests.support.raft_laws import Laws

State = tuple[bytes, ...]


@dataclass
class Stored:
    """What survives a crash of one member: as a log on disk, it holds whole frames or nothing of them."""

    hard: HardState = field(default_factory=HardState)
    mark: SnapshotMark = field(default_factory=SnapshotMark)
    entries: list[Entry] = field(default_factory=list)
    state: State = ()

    def last_index(self) -> int:
        return self.entries[-1].index if self.entries else self.mark.index

    def write(self, entries: tuple[Entry, ...], hard: HardState) -> None:
        if entries:
            first = entries[0].index
            assert first > self.hard.commit, f"entry {first} is committed and cannot be replaced"
            assert first <= self.last_index() + 1, f"a hole before entry {first}"
            self.entries = [e for e in self.entries if e.index < first] + list(entries)
        assert hard.term >= self.hard.term, "terms only grow"
        if hard.term == self.hard.term:
            assert self.hard.vote in (0, hard.vote), "one vote a term"
            assert hard.commit >= self.hard.commit, "what is committed stays so"
        assert hard.commit <= self.last_index(), "what is committed is stored"
        self.hard = hard

    def holds(self, entry: Entry) -> bool:
        return entry.index <= self.mark.index or entry in self.entries


class CoreMember:
    """One member: its core, what it stored, and a state machine that is the list of what was applied."""

    def __init__(self, member_id: int, conf: ConfState, config: CoreConfig, rng: random.Random) -> None:
        self.id, self._config, self._rng = member_id, config, rng
        self.stored = Stored(mark=SnapshotMark(conf=conf))
        self.confs: dict[int, ConfState] = {}
        self.answers: dict[bytes, int] = {}
        self.ready: Ready | None = None
        self.is_up = False
        self.start()

    def start(self) -> None:
        """Begin a run from what is stored."""
        stored, mark = self.stored, self.stored.mark
        log = EntryLog.recovered(mark, list(stored.entries))
        self.core = RaftCore(self.id, stored.hard, mark.conf, log, mark.index, self._config, self._rng)
        self.applied, self.state = mark.index, stored.state
        self.confs = {mark.index: mark.conf}
        self.hard, self.ready = stored.hard, None
        self.is_up = True

    def conf_at(self, index: int) -> ConfState:
        return self.confs[max(i for i in self.confs if i <= index)]


class CoreNet:
    """Members by id, and the messages between them."""

    def __init__(
        self,
        voters: Iterable[int] = (1, 2, 3),
        learners: Iterable[int] = (),
        *,
        config: CoreConfig | None = None,
        seed: int = 1,
        logs: dict[int, list[int]] | None = None,
        term: int = 0,
    ) -> None:
        """Begin with `logs`: the terms of the entries that a member has stored, in term `term` at least."""
        self.config, self._rng = config or CoreConfig(), random.Random(seed)
        conf = ConfState(tuple(voters), tuple(learners))
        self.laws = Laws()
        self.wire: list[Message] = []
        self.cut: set[tuple[int, int]] = set()
        self.files: dict[SnapshotMark, State] = {}
        self.members: dict[int, CoreMember] = {}
        for i in (*conf.voters, *conf.learners):
            member = self._add(i, conf)
            terms = (logs or {}).get(i, [])
            member.stored.entries = [
                Entry(t, n, EntryKind.NORMAL, b"%d.%d" % (t, n)) for n, t in enumerate(terms, start=1)
            ]
            member.stored.hard = HardState(max([term, *terms]))
            member.start()

    def _add(self, member_id: int, conf: ConfState) -> CoreMember:
        self.members[member_id] = CoreMember(member_id, conf, self.config, self._rng)
        return self.members[member_id]

    # Looking

    def __getitem__(self, member_id: int) -> CoreMember:
        return self.members[member_id]

    def core(self, member_id: int) -> RaftCore:
        return self.members[member_id].core

    @property
    def up(self) -> list[CoreMember]:
        return [member for member in self.members.values() if member.is_up]

    def leaders(self) -> list[int]:
        return [member.id for member in self.up if member.core.role is Role.LEADER]

    def roles(self) -> dict[int, Role]:
        return {member.id: member.core.role for member in self.up}

    def terms_of_log(self, member_id: int) -> list[int]:
        log = self.core(member_id).log
        return [log.term(i) for i in range(log.first_index, log.last_index + 1)]

    def waiting(self, *kinds: MessageKind, to: int | None = None, sender: int | None = None) -> list[Message]:
        """Return the messages on the wire of these kinds, of all kinds if none is named."""
        return [
            m for m in self.wire if (not kinds or m.kind in kinds) and to in (None, m.to) and sender in (None, m.sender)
        ]

    # Acting

    def tick(self, member_id: int, count: int = 1) -> None:
        for _ in range(count):
            self.core(member_id).tick()
            self.laws.watch(self.up)

    def begin(self, member_id: int, *, hand_out: bool = True) -> bool:
        """Take what is ready and send what may go ahead; returns whether `finish` is to come."""
        member = self.members[member_id]
        member.ready = member.core.ready(hand_out=hand_out)
        if member.ready is None:
            return False
        self.wire += member.ready.ahead
        self.laws.watch(self.up)
        return True

    def finish(self, member_id: int) -> None:
        """Store, send, apply, advance."""
        member = self.members[member_id]
        ready = member.ready
        assert ready is not None
        self._store(member, ready)
        self.wire += ready.messages
        for entry in ready.committed:
            self._apply(member, entry)
        for read in ready.reads:
            self.laws.answered(member.id, read.context, read.index)
            member.answers[read.context] = read.index
        member.ready = None
        member.core.advance()
        self.laws.watch(self.up)

    def _store(self, member: CoreMember, ready: Ready) -> None:
        stored = member.stored
        member.hard = ready.hard_state or member.hard
        if ready.snapshot is not None:
            assert ready.snapshot.index > member.applied, "a snapshot brings something new"
            stored.mark, stored.entries = ready.snapshot, []
            stored.state = self.files[ready.snapshot]
            stored.hard = HardState(stored.hard.term, stored.hard.vote, ready.snapshot.index)
            member.applied, member.state = ready.snapshot.index, stored.state
            member.confs = {ready.snapshot.index: ready.snapshot.conf}
        if ready.must_sync:
            stored.write(ready.entries, member.hard)
        self.laws.stored(member)

    def _apply(self, member: CoreMember, entry: Entry) -> None:
        assert entry.index == member.applied + 1, "in order, without holes"
        assert member.stored.holds(entry), "what is applied is stored"
        member.applied = entry.index
        self.laws.applied(member.id, entry)
        if entry.kind is EntryKind.NORMAL:
            member.state += (entry.data,)
        elif entry.kind is EntryKind.CONF_CHANGE:
            conf = member.core.apply_conf_change(confchange.decode(entry.data))
            member.confs[entry.index] = conf
            self.laws.members(entry.index, conf)

    def carry_out(self, member_id: int) -> None:
        """Carry out all that one member has ready."""
        while self.begin(member_id):
            self.finish(member_id)

    def deliver(self, *kinds: MessageKind, to: int | None = None, sender: int | None = None) -> int:
        """Let the receivers take the messages that wait, some of them only; returns how many there were."""
        chosen = self.waiting(*kinds, to=to, sender=sender)
        for message in chosen:
            self.wire.remove(message)
            self.hand(message)
        return len(chosen)

    def drop(self, *kinds: MessageKind, to: int | None = None, sender: int | None = None) -> int:
        """Lose messages that wait; returns how many."""
        chosen = self.waiting(*kinds, to=to, sender=sender)
        for message in chosen:
            self.lose(message)
        return len(chosen)

    def lose(self, message: Message) -> None:
        """Take a message off the wire; whoever streamed a snapshot notices."""
        self.wire.remove(message)
        sender = self.members.get(message.sender)
        if message.kind is MessageKind.SNAPSHOT and sender is not None and sender.is_up:
            sender.core.report_snapshot(message.to, False)

    def hand(self, message: Message) -> None:
        """Let `message` reach its receiver, unless that is down, unknown or cut off. A SNAPSHOT's fate is told."""
        receiver = self.members.get(message.to)
        reaches = receiver is not None and receiver.is_up and (message.sender, message.to) not in self.cut
        if reaches and receiver is not None:
            receiver.core.step(message)
            self.laws.watch(self.up)
        sender = self.members.get(message.sender)
        if message.kind is MessageKind.SNAPSHOT and sender is not None and sender.is_up:
            sender.core.report_snapshot(message.to, reaches)

    def settle(self, *, until: Callable[[], bool] = lambda: False, rounds: int = 200) -> None:
        """Carry out and deliver everything until nothing moves (or `until` says so)."""
        for _ in range(rounds):
            for member in self.up:
                self.carry_out(member.id)
            if until() or not self.wire:
                return
            self.deliver()
        raise AssertionError(f"no end of it: {self.wire[:5]}")

    def elect(self, member_id: int) -> None:
        """Let a member stand and win; another one that leads resigns first, and the others are told that it is gone."""
        for member in self.up:
            if member.id != member_id:
                member.core.resign()
            member.core.leader_lost()
        self.core(member_id).campaign()
        self.settle()
        assert self.core(member_id).role is Role.LEADER, self.roles()

    def propose(self, member_id: int, *batch: bytes) -> list[int]:
        """Propose and settle; returns the indexes."""
        indexes = [self.core(member_id).propose(data) for data in batch]
        self.settle()
        return indexes

    def change(self, member_id: int, change: ConfChange) -> int:
        """Propose a change of the members and settle; returns its index."""
        index = self.core(member_id).propose_conf_change(change)
        self.settle()
        return index

    def ask(self, member_id: int, context: bytes) -> None:
        """Ask for an index to read at; whatever is committed by now must be seen (`member.answers`)."""
        self.core(member_id).read_index(context)
        self.laws.asked(member_id, context)

    def let_time_pass(self, ticks: int) -> None:
        """Let everybody's time pass, all messages being delivered after each tick."""
        for _ in range(ticks):
            for member in self.up:
                self.tick(member.id)
            self.settle()

    # Faults

    def isolate(self, member_id: int) -> None:
        for other in self.members:
            self.cut |= {(member_id, other), (other, member_id)}

    def part(self, *group: int) -> None:
        """Cut `group` off from all others."""
        for here in group:
            for there in set(self.members) - set(group):
                self.cut |= {(here, there), (there, here)}

    def heal(self) -> None:
        self.cut.clear()

    def crash(self, member_id: int, *, stored: bool = False) -> None:
        """End a run, between `begin` and `finish` perhaps; `stored`: what was begun is stored, but not sent.

        What is not stored is lost, what was sent stays on the wire.
        """
        member = self.members[member_id]
        if stored and member.ready is not None:
            self._store(member, member.ready)
        member.is_up, member.ready = False, None

    def restart(self, member_id: int) -> None:
        self.members[member_id].start()
        self.laws.watch(self.up)

    def join(self, member_id: int) -> None:
        """Begin a member that knows nobody."""
        self._add(member_id, ConfState())

    def snapshot(self, member_id: int, *, keep: int = 0) -> SnapshotMark:
        """Store the state so far, and forget all entries but the last `keep` of it."""
        member = self.members[member_id]
        index = member.applied
        if index <= member.stored.mark.index:
            return member.stored.mark
        mark = SnapshotMark(index, member.core.log.term(index), member.conf_at(index))
        kept_from = max(index - keep, 0) + 1
        self.files[mark] = member.state
        member.stored.mark, member.stored.state = mark, member.state
        member.stored.entries = [e for e in member.stored.entries if e.index >= kept_from]
        member.core.log.compact(kept_from - 1)
        member.core.snapshot = mark
        return mark
