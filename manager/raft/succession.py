"""When a member stands that need not wait for its leader's time-out: the connection ended, or a majority has just come.

Pure: the driver waits, and so does the simulator's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

JITTER_S: Final = 0.015
_RANK_S: Final = 0.04  # who comes later by id gives the others time to win
_AGAIN_S: Final = 0.1
_PROMPT: Final = 4  # attempts at this pace; members too busy to answer in time are given more and more of it
_ATTEMPTS: Final = 24


def stand_pauses_s(rank: int) -> Iterator[float]:
    """Yield the seconds before each attempt, jitter excluded; about 25 s of attempts, after which time-outs rule.

    Args:
        rank: how many of the voters have a lower id than this one, the lost leader left out.
    """
    yield rank * _RANK_S
    for attempt in range(1, _ATTEMPTS):
        yield max(1, attempt - _PROMPT) * (_AGAIN_S + rank * _RANK_S)
