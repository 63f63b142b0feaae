"""How long to wait before the next try: exponential with full jitter. Pure.

tenacity serves retries that nothing but time may end; here a wait ends early when a task's desired state changes
or another manager is at hand, so only the arithmetic is wanted.
"""

from __future__ import annotations

import random
from typing import Final

_LARGEST_EXPONENT: Final = 32


def full_jitter_s(failures: int, rng: random.Random, *, base_s: float, cap_s: float) -> float:
    """Return the seconds to wait after some failures in a row: uniform up to `base_s * 2**failures`.

    The upper end is `cap_s` at most.
    """
    exponent = min(failures, _LARGEST_EXPONENT)
    return rng.uniform(0.0, min(cap_s, base_s * float(2**exponent)))
