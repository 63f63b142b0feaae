"""What the garbage collector need not look at: a store of a million rows, and copies as large as it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from swarmpy.clock import Clock

WHOLE_SHARE: Final = 1e-4


class Heap:
    """Sets aside what lives, so that a collection looks only at what came since.

    What was set aside and died in a cycle is found by a look at the whole, which stops everything (50 ms for a million
    tasks): it is taken so rarely that it costs `WHOLE_SHARE` of the time, which is at every chance in a small cluster.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._whole_at_s = clock.monotonic()

    def settle(self) -> None:
        """Collect garbage, and set aside what is none."""
        began_s = self._clock.monotonic()
        is_whole = began_s >= self._whole_at_s
        if is_whole:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        if is_whole:
            now_s = self._clock.monotonic()
            self._whole_at_s = now_s + (now_s - began_s) / WHOLE_SHARE

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Set aside what is made in the block too, which is large and has no cycles."""
        self.settle()
        yield
        gc.freeze()
