"""What a round does, drawn from its seed; pure."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Final

EPISODES: Final = 3
FIVE_MANAGERS: Final = 0.2
AT_ONCE: Final = 0.3
MOST_HOLD_S: Final = 3.0
MOST_PAUSE_S: Final = 1.5


class Fault(enum.Enum):
    """What may go wrong. The value is what a report calls it."""

    KILL_LEADER = "the leader is killed"
    CUT_PAIR = "a link is cut both ways"
    PAUSE_LEADER = "the leader is paused"
    DEMOTE_LEADER = "the leader is demoted and promoted again"
    KILL_ALL = "all managers are killed at once"
    ISOLATE_LEADER = "the leader is cut off"
    CLOCK = "a wall clock jumps"
    KILL_FOLLOWER = "a follower is killed"
    CUT_ONE_WAY = "a link is cut one way"
    REPLACE_MEMBER = "a manager leaves for good, and a new one joins"
    SPLIT = "the managers are cut in two"
    PAUSE_FOLLOWER = "a follower is paused"
    FULL_DISK = "a disk is full"
    FLAPPING = "a link comes and goes"
    RESTART = "a manager is restarted in good order"
    POWER_CUT = "a node loses its power"


OF_THE_NETWORK: Final = frozenset(
    {Fault.CUT_PAIR, Fault.ISOLATE_LEADER, Fault.CUT_ONE_WAY, Fault.SPLIT, Fault.FLAPPING}
)


ALONE: Final = frozenset({Fault.DEMOTE_LEADER, Fault.REPLACE_MEMBER, Fault.FULL_DISK, Fault.POWER_CUT})
"""What takes a cluster that is well otherwise: an operator's work, or the loss of as much as it can bear."""


@dataclass(frozen=True)
class Episode:
    """A fault that lasts for `hold_s` seconds, `pause_s` after what was before. `seed` decides what else it draws."""

    fault: Fault
    pause_s: float
    hold_s: float
    seed: int


@dataclass(frozen=True)
class Plan:
    """One round: what it is made of, and what happens in it.

    `episodes` come one group after the other; those of a group are at once.
    `can_cut`, `can_fill`: whether the nodes have links that can be cut, and one of them a disk that can be filled.
    """

    seed: int
    managers: int
    episodes: tuple[tuple[Episode, ...], ...]
    can_cut: bool
    can_fill: bool


def draw(seed: int, *, managers: int = 0, can_cut: bool = True, can_fill: bool = True) -> Plan:
    """Return the round of a seed. Rounds of seeds in a row go through all faults that are possible, again and again.

    Args:
        managers: how many; 0 draws it.
        can_cut, can_fill: as of `Plan`.
    """
    rng = random.Random(seed)
    possible = [
        fault
        for fault in Fault
        if (can_cut or fault not in OF_THE_NETWORK) and (can_fill or fault is not Fault.FULL_DISK)
    ]
    count = managers or (5 if rng.random() < FIVE_MANAGERS else 3)
    chosen = [possible[(seed * EPISODES + place) % len(possible)] for place in range(EPISODES)]
    rng.shuffle(chosen)
    groups: list[tuple[Episode, ...]] = []
    for fault in chosen:
        pause_s, hold_s = rng.uniform(0.1, MOST_PAUSE_S), rng.uniform(0.3, MOST_HOLD_S)
        episode = Episode(fault, pause_s, hold_s, rng.getrandbits(32))
        if rng.random() < AT_ONCE and groups and not ALONE & {fault, *(other.fault for other in groups[-1])}:
            groups[-1] += (episode,)
        else:
            groups.append((episode,))
    return Plan(seed, count, tuple(groups), can_cut, can_fill)
