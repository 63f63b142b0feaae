"""What must hold in every run of Raft (Raft paper, figure 3), checked against all that a net of cores does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from manager.raft.confchange import Configuration
from manager.raft.types import ConfState, Entry, Role

if TYPE_CHECKING:
    from tests.support.raft_cores import CoreMember


class Laws:
    """Remembers what was seen, and fails on what cannot be.

    Attributes:
        committed: every entry that a leader committed, by index.
    """

    def __init__(self) -> None:
        self._leaders: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._applied: dict[int, Entry] = {}
        self._members: dict[int, ConfState] = {}
        self._commits: dict[int, int] = {}
        self._committed_in: dict[int, int] = {}
        self._asked: dict[tuple[int, bytes], int] = {}
        self._stored: dict[int, CoreMember] = {}
        self.committed: dict[int, Entry] = {}

    def watch(self, members: Iterable[CoreMember]) -> None:
        """Look at the members that are up. Until its term is stored nobody hears of a leader (an only voter)."""
        for member in members:
            if member.core.role is Role.LEADER and member.stored.hard.term == member.core.term:
                self._leads(member)

    def _leads(self, member: CoreMember) -> None:
        core = member.core
        known = self._leaders.get(core.term)
        assert known in (None, member.id), f"election safety: {known} and {member.id} lead in term {core.term}"
        if known is None:
            self._leaders[core.term] = member.id
            self._is_complete(member)
            self._commits[core.term] = core.commit_index
        last = self._commits[core.term]
        if core.commit_index > last:
            assert core.log.term(core.commit_index) == core.term, "commits by counting an earlier term's entry"
            self._is_durable(member)
            for index in range(max(last + 1, core.log.first_index), core.commit_index + 1):
                self._commit(core.log.between(index, index)[0], core.term)
            self._commits[core.term] = core.commit_index

    def _is_complete(self, member: CoreMember) -> None:
        """A leader has all that earlier terms committed; later ones may have gone on already."""
        log = member.core.log
        for index, entry in self.committed.items():
            if index >= log.first_index and self._committed_in[index] < member.core.term:
                assert index <= log.last_index, f"leader completeness: {member.id} has no entry {index}"
                assert log.between(index, index)[0] == entry, f"leader completeness: {member.id} has another {index}"

    def _is_durable(self, leader: CoreMember) -> None:
        """What a leader commits is stored on a majority of its members, whatever it believes."""
        core = leader.core
        entry = core.log.between(core.commit_index, core.commit_index)[0]
        voters = core.configuration.voters
        votes = {i: i in self._stored and self._stored[i].stored.holds(entry) for i in voters.ids}
        assert voters.vote_result(votes).value == "won", f"{entry} is committed, but stored by {votes} only"

    def _commit(self, entry: Entry, term: int) -> None:
        known = self.committed.setdefault(entry.index, entry)
        self._committed_in[entry.index] = min(term, self._committed_in.get(entry.index, term))
        assert known == entry, f"{entry} is committed in the place of {known}"

    def stored(self, member: CoreMember) -> None:
        """Look at what a member has stored just now."""
        self._stored[member.id] = member
        stored = member.stored
        before = stored.mark.term if not stored.entries or stored.entries[0].index > stored.mark.index else None
        previous_index = stored.mark.index if before is not None else stored.entries[0].index - 1
        for entry in stored.entries:
            assert entry.index == previous_index + 1, "a log without holes"
            if before is not None:
                known = self._entries.setdefault((entry.term, entry.index), (entry, before))
                assert known == (entry, before), f"log matching: {entry} behind term {before}, but also {known}"
                assert before <= entry.term, "terms only grow along a log"
            previous_index, before = entry.index, entry.term

    def applied(self, member_id: int, entry: Entry) -> None:
        """Take an entry that a member applied."""
        known = self._applied.setdefault(entry.index, entry)
        assert known == entry, f"state machine safety: member {member_id} applies {entry}, others {known}"
        assert self.committed.get(entry.index, entry) == entry, f"{entry} is applied and was not committed"

    def members(self, index: int, conf: ConfState) -> None:
        """Take the members that one holds to be so from entry `index` on."""
        known = self._members.setdefault(index, conf)
        assert known == conf, f"the members from {index} on are {conf}, but elsewhere {known}"
        Configuration.from_conf_state(conf)

    def asked(self, member_id: int, context: bytes) -> None:
        """Note that a read began: it must see all that is committed by now."""
        self._asked[member_id, context] = max(self.committed, default=0)

    def answered(self, member_id: int, context: bytes, index: int) -> None:
        """Take the index that a read may be served at."""
        least = self._asked[member_id, context]
        assert index >= least, f"linearisable reads: {least} was committed before the question, the answer is {index}"
