"""What one run is made of: everything follows from the seed, unless it is overruled by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

FAULTS: Final = (
    "loss",  # messages are lost, doubled, delayed, reordered
    "late",  # doubles come seconds later
    "partition",  # members are cut off, in one or both directions
    "crash",  # processes die, at any moment and in the middle of a write
    "power",  # machines lose power: unsynced writes are torn
    "sync",  # a disk fails a sync
    "full",  # a disk has no space for a while
    "rot",  # a stored byte changes
    "clock",  # ticks drift, jump and pause
    "members",  # managers join, are promoted, demoted and removed
    "transfer",  # leaders hand over, or resign
    "snapshot",  # states are stored and logs cut, so that followers need whole states
    "lag",  # the state machine's side is slow
)
TICK_US: Final = 100_000


@dataclass(frozen=True, slots=True)
class Options:
    """One run.

    Args:
        seed: what everything else and all that happens follows from.
        members: managers at the start, 1 to 7.
        clients: how many ask and write at the same time.
        think_us: mean time between an answer and a client's next question.
        keys: registers and lists that they use.
        faults: which of `FAULTS` happen; the others' dice are thrown all the same.
        chaos_ticks: how long they happen, in ticks of a clock that is right.
        fault_every_ticks: mean time between two faults of one sort.
        segment_bytes, keep_entries, max_message_bytes, max_inflight: the members' log and core are made small, so
            that their limits are met.
        encrypted: every member encrypts what it stores, with a key of its own.
        snapshot_entries: a snapshot is taken after so many entries; 0 never.
    """

    seed: int
    members: int
    clients: int
    think_us: int
    keys: int
    faults: frozenset[str]
    chaos_ticks: int
    fault_every_ticks: int
    segment_bytes: int
    keep_entries: int
    max_message_bytes: int
    max_inflight: int
    snapshot_entries: int
    encrypted: bool

    def __str__(self) -> str:
        named = " ".join(fault for fault in FAULTS if fault in self.faults)
        return (
            f"seed {self.seed}: {self.members} members, {self.clients} clients on {self.keys} keys,"
            f" {self.chaos_ticks} ticks, a fault every {self.fault_every_ticks}; {named or 'no faults'}"
        )


def draw(seed: int) -> Options:
    """Return the options of `seed`. Each run has other faults, so that none hides what another would show."""
    rng = stream(seed, "options")
    share = rng.choice((0.35, 0.65, 0.9))
    faults = frozenset(fault for fault in FAULTS if rng.random() < share)
    return Options(
        seed=seed,
        members=rng.choice((1, 2, 3, 3, 3, 4, 5, 5, 7)),
        clients=rng.randint(2, 6),
        think_us=rng.choice((10_000, 50_000, 150_000)),
        keys=rng.randint(3, 8),
        faults=faults,
        chaos_ticks=rng.choice((80, 150, 250)),
        fault_every_ticks=rng.choice((6, 12, 24, 40)),
        segment_bytes=rng.choice((8, 16, 64)) * 1024,
        keep_entries=rng.choice((0, 1, 5)),
        max_message_bytes=rng.choice((300, 2_000, 1 << 20)),
        max_inflight=rng.choice((1, 4, 64)),
        snapshot_entries=rng.choice((3, 7, 25)) if "snapshot" in faults else 0,
        encrypted=rng.random() < 0.25,
    )


def stream(seed: int, purpose: str) -> random.Random:
    """Return the dice for one purpose, so that leaving one sort of fault out does not change the others' times."""
    return random.Random(f"{seed}/{purpose}")
