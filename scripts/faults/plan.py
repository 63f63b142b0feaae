"""What a round does, drawn from its seed; pure."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Final

EPISODES: Final = 3
FIVE_MANAGERS: Final = 0.2
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


@dataclass(frozen=True)
class Episode:
    """A fault that lasts for `hold_s` seconds, `pause_s` after the one before. `seed` decides what else it draws."""

    fault: Fault
    pause_s: float
    hold_s: float
    seed: int


@dataclass(frozen=True)
class Plan:
    """One round: what it is made of, and what happens in it.

    `can_cut`, `can_fill`: whether the nodes have links that can be cut, and one of them a disk that can be filled.
    """

    seed: int
    managers: int
    episodes: tuple[Episode, ...]
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
    episodes = tuple(
        Episode(fault, rng.uniform(0.1, MOST_PAUSE_S), rng.uniform(0.3, MOST_HOLD_S), rng.getrandbits(32))
        for fault in chosen
    )
    return Plan(seed, count, episodes, can_cut, can_fill)
