"""What a core is told once: its time-outs and bounds, and where its chance comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Chance(Protocol):
    """The part of `random.Random` that a core uses."""

    def randrange(self, start: int, stop: int, /) -> int:
        """Return a number from `start` on and below `stop`."""
        ...


@dataclass(frozen=True, slots=True)
class CoreConfig:
    """Time-outs in ticks, and bounds of what the core holds and hands out.

    Args:
        uncommitted_bytes: data of proposals not yet committed; one proposal is always let in.
        apply_entries: most entries in one `Ready.committed`.
        apply_bytes: most data in one `Ready.committed`, but at least one entry.
        election_ticks: a follower stands after so many ticks without a leader, or up to twice as many, by chance;
            a leader that a majority did not answer for so long steps down.
        heartbeat_ticks: a leader is heard of at least so often.
        max_message_bytes: entries of one APPEND, but at least one entry.
        max_inflight: unanswered APPENDs to one member.
        max_inflight_bytes: their entries together.
        max_reads: questions for an index to read at that may wait for one leader; more are dropped.
        check_quorum: a leader must hear of a majority, and whoever hears of a leader votes for nobody (thesis, 6.2).
        pre_vote: ask whether an election could be won before it disturbs anybody (thesis, 9.6).
    """

    uncommitted_bytes: int = 64 * 1024 * 1024
    apply_entries: int = 64
    apply_bytes: int = 256 * 1024
    election_ticks: int = 8
    heartbeat_ticks: int = 1
    max_message_bytes: int = 128 * 1024
    max_inflight: int = 256
    max_inflight_bytes: int = 64 * 1024 * 1024
    max_reads: int = 4096
    check_quorum: bool = True
    pre_vote: bool = True
