"""A member's storage that lives through crashes, and what it must hold then: `Life` carries out steps and checks.

What a step promised is in `now`; while it is under way, `allowed` holds all that a crash may leave.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from manager.raft.log import storage
from manager.raft.log.crypt import AesGcm, DataKey, Sealer
from manager.raft.log.key_file import key_file
from manager.raft.log.snapshot_file import SnapshotWriter
from manager.raft.log.storage import Storage
from manager.raft.types import ConfState, Entry, EntryKind, HardState, SnapshotMark
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, ME, SALT, SNAP

SEGMENT_BYTES: Final = 6 * 1024
Step = tuple[str, int]
STEPS: Final = (
    "append",
    "append",
    "replace",
    "commit",
    "snapshot",
    "install",
    "begin",
    "end",
    "discard",
    "room",
    "reopen",
)


KEY: Final = DataKey.of(random.Random(0).randbytes(32))


def new_sealer(seed: int = 1) -> AesGcm:
    """Return a sealer with `KEY` whose nonces come from `seed`."""
    return AesGcm([KEY], random.Random(seed).randbytes, key_file(HERE))


@dataclass(frozen=True)
class Held:
    """What a log holds. `entries` are all since it was begun or restarted; those below `first` may be gone."""

    hard: HardState = field(default_factory=HardState)
    mark: SnapshotMark = field(default_factory=SnapshotMark)
    entries: tuple[Entry, ...] = ()
    first: int = 1

    @property
    def last(self) -> int:
        return self.entries[-1].index if self.entries else self.mark.index

    @property
    def committed(self) -> int:
        return max(self.hard.commit, self.mark.index)

    def with_entries(self, first: int, terms: Iterable[int], size: int) -> Held:
        new = (Entry(t, first + n, EntryKind.NORMAL, f"{t}/{first + n}".encode() * size) for n, t in enumerate(terms))
        return replace(self, entries=(*(e for e in self.entries if e.index < first), *new))

    def mark_at(self, index: int) -> SnapshotMark:
        terms = (e.term for e in self.entries if e.index == index)
        return SnapshotMark(index, next(terms, self.mark.term), ConfState(voters=(7, index)))

    def fits(self, hard: HardState, mark: SnapshotMark, entries: list[Entry]) -> bool:
        """Return whether a log that says this is one that holds this."""
        first = entries[0].index if entries else mark.index + 1
        held = [e for e in self.entries if e.index >= first]
        return (hard, mark, entries) == (self.hard, self.mark, held) and first <= self.first


@dataclass
class Life:
    """Steps are taken by name, with a number that says how much or where; those that make no sense do nothing."""

    sealer: Sealer | None
    disk: FakeDisk = field(default_factory=FakeDisk)
    now: Held = field(default_factory=Held)
    allowed: list[Held] = field(default_factory=lambda: [Held()])

    def run(self, steps: Iterable[Step], after: Callable[[], None] = lambda: None) -> None:
        """Begin the log, if there is none, open it, check it, and take the steps."""
        if not storage.exists(self.disk, HERE):
            storage.create(self.disk, HERE, ME, salt=SALT, segment_bytes=SEGMENT_BYTES, sealer=self.sealer)
        self._open()
        for name, number in steps:
            getattr(self, f"_{name}")(number)
            after()
        self._storage.close()

    def crash(self, rng: random.Random, *, power: bool) -> None:
        self.disk = self.disk.after_power_loss(rng) if power else self.disk.after_kill()

    def _open(self) -> None:
        self._storage, state = Storage.open(self.disk, HERE, ME, segment_bytes=SEGMENT_BYTES, sealer=self.sealer)
        self._writer: tuple[SnapshotMark, SnapshotWriter] | None = None
        found = [held for held in self.allowed if held.fits(state.hard_state, state.mark, state.entries)]
        assert found, f"{state.hard_state} {state.mark} {state.entries} is none of {self.allowed}"
        self._became(found[-1])
        assert len(self.disk.files(SNAP)) == (self.now.mark.index > 0), "only the snapshot that counts is there"
        self._read_snapshot()

    def _read_snapshot(self) -> None:
        reader = self._storage.snapshot_reader()
        assert (reader is not None) == (self.now.mark.index > 0)
        if reader is not None:
            try:
                assert (reader.mark, b"".join(reader.chunks())) == (self.now.mark, state_at(self.now.mark))
            finally:
                reader.close()

    def _becomes(self, *stages: Held) -> None:
        self.allowed = [self.now, *stages]

    def _became(self, held: Held) -> None:
        self.now, self.allowed = held, [held]

    # Steps

    def _store(self, held: Held, entries: tuple[Entry, ...]) -> None:
        self._becomes(held)
        self._storage.make_room(len(entries), sum(len(e.data) for e in entries))
        self._storage.append(entries, held.hard)
        self._became(held)

    def _append(self, number: int) -> None:
        first = self.now.last + 1
        held = self.now.with_entries(first, [max(1, self.now.hard.term)] * (1 + number % 3), 1 + number % 500)
        self._store(replace(held, hard=replace_hard(self.now.hard)), held.entries[-(1 + number % 3) :])

    def _replace(self, number: int) -> None:
        """A new leader's entries take the place of some that were not committed."""
        room = self.now.last - self.now.committed
        if room == 0:
            return
        first, count = self.now.last - number % room, 1 + number % 2
        hard = HardState(self.now.hard.term + 1, number % 3, self.now.hard.commit)
        held = self.now.with_entries(first, [hard.term] * count, 1 + number % 300)
        self._store(replace(held, hard=hard, first=min(held.first, first)), held.entries[-count:])

    def _commit(self, number: int) -> None:
        commit = self.now.committed + number % (self.now.last - self.now.committed + 1)
        self._store(replace(self.now, hard=HardState(self.now.hard.term, self.now.hard.vote, commit)), ())

    def _write(self, mark: SnapshotMark, writer: SnapshotWriter) -> None:
        for byte in state_at(mark):
            writer.write(bytes([byte]))
        writer.finish()

    def _snapshot(self, number: int) -> None:
        if self.now.hard.commit <= self.now.mark.index:
            return
        mark = self.now.mark_at(self.now.hard.commit)
        self._write(mark, self._storage.snapshot_writer(mark))
        self._adopt(mark, keep=number % 4)

    def _adopt(self, mark: SnapshotMark, keep: int) -> None:
        keep_from = max(self.now.first, mark.index - keep + 1)
        marked = replace(self.now, mark=mark)
        compacted = replace(marked, first=keep_from)
        self._becomes(marked, compacted)
        self._storage.adopt_snapshot(mark, self.now.hard, keep_from=keep_from)
        self._became(compacted)
        self._read_snapshot()

    def _install(self, number: int) -> None:
        """A leader's snapshot, behind what is committed here: inside the log, which it contradicts, or beyond it."""
        term = self.now.hard.term + 1
        mark = SnapshotMark(self.now.committed + 1 + number % 12, term, ConfState(voters=(1, 2, 7)))
        self._write(mark, self._storage.receive_snapshot(mark))
        held = Held(HardState(term, 0, mark.index), mark, (), mark.index + 1)
        self._becomes(held)
        self._storage.install_snapshot(mark, held.hard)
        self._became(held)
        self._storage.discard_snapshot(mark)
        self._read_snapshot()

    def _begin(self, _number: int) -> None:
        """Begin a snapshot of this member's own, which others may overtake."""
        if self._writer is None and self.now.hard.commit > self.now.mark.index:
            mark = self.now.mark_at(self.now.hard.commit)
            self._writer = mark, self._storage.snapshot_writer(mark)

    def _end(self, number: int) -> None:
        if self._writer is None:
            return
        (mark, writer), self._writer = self._writer, None
        self._write(mark, writer)
        if mark.index > self.now.mark.index:
            self._adopt(mark, keep=number % 4)
        else:
            self._storage.discard_snapshot(mark)

    def _discard(self, number: int) -> None:
        """A leader's snapshot that came too late."""
        mark = SnapshotMark(1 + number % (self.now.committed + 1), 1)
        self._write(mark, self._storage.receive_snapshot(mark))
        self._storage.discard_snapshot(mark)
        self._read_snapshot()

    def _room(self, number: int) -> None:
        self._storage.make_room(1, number * 5)
        self._storage.prepare_next()

    def _reopen(self, _number: int) -> None:
        if self._writer is not None:
            self._writer[1].abort()
        self._storage.close()
        self._open()


def replace_hard(hard: HardState) -> HardState:
    """Return the hard state behind a first append: somebody leads, so there is a term."""
    return HardState(max(1, hard.term), hard.vote, hard.commit)


def state_at(mark: SnapshotMark) -> bytes:
    """Return what a snapshot at `mark` says."""
    return f"{mark.index}/{mark.term}/{mark.conf.voters}".encode()
