"""What a member's disk must hold: noted when a write returned, so that nothing which forgets it goes unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from manager.raft.types import Entry, EntryKind, HardState, SnapshotMark


class ViolationError(AssertionError):
    """Something that must never happen did. `checker` names the law."""

    def __init__(self, checker: str, sentence: str) -> None:
        super().__init__(f"{checker}: {sentence}")
        self.checker = checker


@dataclass(slots=True)
class Shadow:
    """One member's stored state, through all its runs.

    `terms` has the entries that are held, above the mark or not; `changes` those among them that change the members;
    `begun` the entries of the frame whose write has not returned: a crash may leave it or what it replaces.
    """

    term: int = 0
    vote: int = 0
    mark: SnapshotMark = field(default_factory=SnapshotMark)
    terms: dict[int, int] = field(default_factory=dict)
    changes: set[int] = field(default_factory=set)
    begun: dict[int, int] = field(default_factory=dict)

    @property
    def last_index(self) -> int:
        return max(self.mark.index, max(self.terms, default=0))

    def begins(self, entries: Sequence[Entry]) -> None:
        """Note a frame that is about to be written."""
        self.begun = {entry.index: entry.term for entry in entries}

    def appended(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        """Note a frame: its entries stand in the place of all from the first one on."""
        if hard_state is not None:
            self.term, self.vote = hard_state.term, hard_state.vote
        if entries:
            self._cut(entries[0].index)
        self.begun = {}
        for entry in entries:
            self.terms[entry.index] = entry.term
            if entry.kind is EntryKind.CONF_CHANGE:
                self.changes.add(entry.index)

    def adopted(self, mark: SnapshotMark) -> None:
        """Note an own snapshot; entries below it may be gone from now on."""
        self.mark = mark
        for index in [index for index in self.terms if index <= mark.index]:
            del self.terms[index]
        self.changes = {index for index in self.changes if index > mark.index}

    def installed(self, mark: SnapshotMark, hard_state: HardState) -> None:
        """Note a leader's snapshot, which stands in the place of the whole log, and the hard state stored with it."""
        self.term, self.vote = hard_state.term, hard_state.vote
        self.mark, self.terms, self.changes = mark, {}, set()

    def holds(self, index: int, term: int) -> bool:
        return index <= self.mark.index or self.terms.get(index) == term

    def check_found(self, member_id: int, hard_state: HardState, mark: SnapshotMark, entries: Sequence[Entry]) -> None:
        """Check what a start found on the disk. More than is noted may be there: what a crash interrupted."""
        found = {entry.index: entry.term for entry in entries}
        what = ""
        if hard_state.term < self.term:
            what = f"term {self.term}, and starts in term {hard_state.term}"
        elif hard_state.term == self.term and self.vote and hard_state.vote != self.vote:
            what = f"its vote for {self.vote} in term {self.term}, and starts with a vote for {hard_state.vote}"
        elif mark.index < self.mark.index:
            what = f"a snapshot at {self.mark.index}, and starts with one at {mark.index}"
        elif mark == self.mark:  # else a leader's snapshot may have taken the log's place
            what = self._missing(found)
        if what:
            raise ViolationError("durability", f"member {member_id} stored {what}")
        self.term, self.vote, self.mark = hard_state.term, hard_state.vote, mark
        self.terms = {index: term for index, term in found.items() if index > mark.index}
        kinds = {entry.index for entry in entries if entry.kind is EntryKind.CONF_CHANGE}
        self.changes = {index for index in kinds if index > mark.index}
        self.begun = {}

    def _missing(self, found: dict[int, int]) -> str:
        """Say which entries are gone, unless those of the frame that was being written stand in their place."""
        for index, term in sorted(self.terms.items()):
            if found.get(index) == term:
                continue
            if index in found and found[index] == self.begun.get(index):
                break
            return f"entry {index} of term {term}, and starts with {found.get(index, 'nothing')} in its place"
        return ""

    def _cut(self, first: int) -> None:
        if first in self.terms:
            for index in [index for index in self.terms if index >= first]:
                del self.terms[index]
            self.changes = {index for index in self.changes if index < first}
