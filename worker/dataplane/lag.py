"""How late the event loop is: the one figure that says whether the data plane has enough of a core."""

from __future__ import annotations

from typing import Final

from swarmpy.clock import Clock

PERIOD_S: Final = 0.25


class LagMeter:
    """Sleeps again and again and sees how late it wakes. `total_s` is the sum of that since the start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._max_s = 0.0
        self.total_s = 0.0

    def take_max_s(self) -> float:
        """Return the greatest lag since the last call, in seconds."""
        greatest, self._max_s = self._max_s, 0.0
        return greatest

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due_s = self._clock.monotonic() + PERIOD_S
            await self._clock.sleep(PERIOD_S)
            late_s = max(0.0, self._clock.monotonic() - due_s)
            self._max_s = max(self._max_s, late_s)
            self.total_s += late_s
