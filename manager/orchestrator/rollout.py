"""The tally of a rolling update: every slot's standing, and since when it has been settled.

Held in memory while an update goes on, so that each event costs what it changes and not a look at every slot.
It is made from stored rows, and made again from them by the next leader.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from manager.orchestrator.phase import Phase, Standing

_SETTLED: Final = frozenset({Phase.DONE, Phase.FAILED})


class Rollout:
    """Slots by phase. `settled_at` is when a slot was seen to be done or failed, on this manager's wall clock.

    Workers' clocks may be wrong. Theirs counts only for what was settled before this leader looked, and then never
    as later than now.
    """

    def __init__(self) -> None:
        self._standings: dict[int, Standing] = {}
        self._slots: dict[Phase, set[int]] = {phase: set() for phase in Phase}
        self.settled_at: dict[int, float] = {}

    def slots(self, phase: Phase) -> Set[int]:
        return self._slots[phase]

    def of(self, slot: int) -> Standing:
        return self._standings[slot]

    @property
    def total(self) -> int:
        """How many slots the update is about."""
        return len(self._standings) - len(self._slots[Phase.STEADY])

    def put(self, slot: int, now_standing: Standing | None, now: float) -> None:
        """Note where a slot stands now; None: it is no slot any more."""
        before = self._standings.pop(slot, None)
        if before is not None:
            self._slots[before.phase].discard(slot)
        if now_standing is None:
            self.settled_at.pop(slot, None)
            return
        self._standings[slot] = now_standing
        self._slots[now_standing.phase].add(slot)
        if now_standing.phase not in _SETTLED:
            self.settled_at.pop(slot, None)
        elif slot not in self.settled_at:
            seen_before = before is not None
            self.settled_at[slot] = now if seen_before else min(now, now_standing.since or now)
