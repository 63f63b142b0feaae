"""A token bucket for each caller. Pure but for the clock it is given."""

from __future__ import annotations

from typing import Final

from swarmpy.clock import Clock

MAX_CALLERS: Final = 10_000


class RateLimit:
    """Allows each caller `burst` calls at once and `per_second` in the long run."""

    def __init__(self, clock: Clock, *, per_second: float, burst: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, caller: str) -> bool:
        """Take one call from the caller's bucket; False if it is empty."""
        now_s = self._clock.monotonic()
        level, at_s = self._buckets.pop(caller, (self._burst, now_s))
        level = min(self._burst, level + (now_s - at_s) * self._per_second)
        if len(self._buckets) >= MAX_CALLERS:
            # The oldest is the one that called least recently: buckets are put back at the end.
            del self._buckets[next(iter(self._buckets))]
        allowed = level >= 1
        self._buckets[caller] = (level - 1 if allowed else level, now_s)
        return allowed
