"""A cluster of Raft cores without disks, threads or chance, driven by a scenario's commands; says what they do.

Messages wait on their way until `deliver`. A member's election time-out is 8 ticks and its id less one, so that the
lowest id stands first. Every line of a trace is one thing that happened; those of a member begin with its id:

    1 candidate term=2               it changed its role, term, or idea of who leads
      stores term=2 vote=1           hard state to the disk, before what follows (the commit index alone is not shown)
      stores 2/4 x                   entry 4 of term 2, in place of what was there and behind
      restores 2/9 voters=(1 2)      a snapshot stands for all
      commits 4
      applies 2/4 x
      members voters=(1 2 3)         the members from there on
      told that 1 leads              the state machine is told; a leader, once it has applied all of earlier terms
      reads r1 at 4
    1->2 APPEND term=2 ...           a message that was delivered; `lost` where the net is cut
"""

from __future__ import annotations

from collections.abc import Iterable

from manager.raft import confchange
from manager.raft.config import CoreConfig
from manager.raft.core import RaftCore
from manager.raft.entries import EntryLog
from manager.raft.types import ConfState, Entry, EntryKind, HardState, Message, Ready, SnapshotMark
from swarmpy.errors import SwarmError
from tests.support.raft_text import conf_text, entry_text, message_text


class _Patience:
    """In place of a random source: the shortest time, and one tick more for each member before this one."""

    def __init__(self, member_id: int) -> None:
        self._extra = member_id - 1

    def randrange(self, start: int, stop: int, /) -> int:
        return min(start + self._extra, stop - 1)


class ScriptedMember:
    """One core, and what its disk would hold."""

    def __init__(self, member_id: int, conf: ConfState, config: CoreConfig) -> None:
        self.id, self._config = member_id, config
        self.hard, self.mark, self.stored = HardState(), SnapshotMark(conf=conf), list[Entry]()
        self.restart()

    def restart(self) -> None:
        """Begin anew with what was stored."""
        log = EntryLog.recovered(self.mark, list(self.stored))
        chance = _Patience(self.id)
        self.core = RaftCore(self.id, self.hard, self.mark.conf, log, self.mark.index, self._config, chance)
        self.core.snapshot = self.mark
        self.applied = [f"snapshot {self.mark.term}/{self.mark.index}"] if self.mark.index else []
        self._confs = {self.mark.index: self.mark.conf}
        self._seen = self.place()
        self._commit = self.core.commit_index

    def place(self) -> str:
        """Return role, term and leader."""
        core = self.core
        leads = f" leader={core.leader_id}" if core.leader_id not in (0, self.id) else ""
        return f"{core.role.value} term={core.term}{leads}"

    def status(self) -> str:
        core = self.core
        last = f"{core.log.last_term}/{core.log.last_index}"
        return f"{self.id} {self.place()} last={last} commit={core.commit_index} {conf_text(core.conf)}"

    def snapshot(self, index: int, keep: int) -> None:
        """Take a snapshot at `index`, and forget the log up to `keep` entries before."""
        conf = next(self._confs[i] for i in sorted(self._confs, reverse=True) if i <= index)
        self.mark = self.core.snapshot = SnapshotMark(index, self.core.log.term(index), conf)
        self.core.log.compact(index - keep)
        self.stored = [entry for entry in self.stored if entry.index > index]

    def settle(self) -> tuple[list[str], list[Message]]:
        """Do all that is ready; returns the trace and what was sent."""
        trace, sent = self._news(), list[Message]()
        while (ready := self.core.ready()) is not None:
            sent += ready.ahead
            trace += self._store(ready)
            sent += ready.messages
            trace += self._apply(ready)
            self.core.advance()
            trace += self._news()
        return trace, sent

    def _news(self) -> list[str]:
        """Say who this is now, if that has changed since the last time."""
        if self.place() == self._seen:
            return []
        self._seen = self.place()
        return [f"{self.id} {self._seen}"]

    def _store(self, ready: Ready) -> list[str]:
        trace = []
        if ready.snapshot is not None:
            self.mark, self.stored = ready.snapshot, []
            self._confs = {self.mark.index: self.mark.conf}
            self.applied = [f"snapshot {self.mark.term}/{self.mark.index}"]
            trace.append(f"restores {self.mark.term}/{self.mark.index} {conf_text(self.mark.conf)}")
        if ready.hard_state is not None:
            if (ready.hard_state.term, ready.hard_state.vote) != (self.hard.term, self.hard.vote):
                trace.append(f"stores term={ready.hard_state.term} vote={ready.hard_state.vote}")
            self.hard = ready.hard_state
        if ready.entries:
            first = ready.entries[0].index
            assert not self.stored or first <= self.stored[-1].index + 1, "without holes"
            self.stored = [entry for entry in self.stored if entry.index < first] + list(ready.entries)
            trace += [f"stores {entry_text(entry)}" for entry in ready.entries]
        if self.hard.commit > self._commit:
            self._commit = self.hard.commit
            trace.append(f"commits {self._commit}")
        return [f"{self.id}   {line}" for line in trace]

    def _apply(self, ready: Ready) -> list[str]:
        trace = []
        for entry in ready.committed:
            trace.append(f"applies {entry_text(entry)}")
            self.applied.append(entry_text(entry))
            if entry.kind is EntryKind.CONF_CHANGE:
                conf = self.core.apply_conf_change(confchange.decode(entry.data))
                self._confs[entry.index] = conf
                trace.append(f"members {conf_text(conf)}")
        if ready.leadership is not None:
            who = ready.leadership.leader_id or "nobody"
            trace.append(f"told that {who} leads")
        trace += [f"reads {read.context.decode()} at {read.index}" for read in ready.reads]
        return [f"{self.id}   {line}" for line in trace]


class ScriptedCluster:
    """Members and the messages between them. `cut` holds the pairs (from, to) whose messages are lost."""

    def __init__(self, conf: ConfState, config: CoreConfig) -> None:
        self.config = config
        self.members: dict[int, ScriptedMember] = {}
        self.stopped: set[int] = set()
        self.cut: set[tuple[int, int]] = set()
        self.on_the_way: list[Message] = []
        for member_id in sorted({*conf.voters, *conf.learners}):
            self.join(member_id, conf)

    def __getitem__(self, member_id: int) -> ScriptedMember:
        return self.members[member_id]

    def join(self, member_id: int, conf: ConfState) -> None:
        """Begin a member; one that is to learn from others who the members are has an empty `conf`."""
        self.members[member_id] = ScriptedMember(member_id, conf, self.config)

    def running(self) -> list[ScriptedMember]:
        return [self.members[i] for i in sorted(self.members) if i not in self.stopped]

    def settle(self, members: Iterable[ScriptedMember]) -> list[str]:
        """Let members do what is ready, and put what they send on its way."""
        trace = []
        for member in members:
            done, sent = member.settle()
            trace += done
            self.on_the_way += sent
        return trace

    def deliver_one(self, message: Message) -> list[str]:
        """Bring a message that was taken off its way, or lose it where the net is cut."""
        pair = (message.sender, message.to)
        if pair in self.cut or message.to not in self.members or message.to in self.stopped:
            return [f"{message_text(message)} lost"]
        receiver = self.members[message.to]
        receiver.core.step(message)
        return [message_text(message), *self.settle([receiver])]

    def deliver(self, chosen: Iterable[Message]) -> list[str]:
        """Bring those messages of `chosen` that are on their way, in order."""
        trace = []
        for message in list(chosen):
            self.on_the_way.remove(message)
            trace += self.deliver_one(message)
        return trace

    def deliver_all(self, max_rounds: int = 100) -> list[str]:
        """Bring messages, and those that they cause, until nothing moves."""
        trace: list[str] = []
        for _ in range(max_rounds):
            if not self.on_the_way:
                return trace
            trace += self.deliver(self.on_the_way)
        raise AssertionError("messages without end")

    def tick(self, member: ScriptedMember) -> list[str]:
        member.core.tick()
        return self.settle([member])


def refusal(error: SwarmError) -> str:
    """Return an error as a line."""
    return f"{error.code}: {error}"
