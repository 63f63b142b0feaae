"""When to probe and what the results mean: a state machine without I/O.

Until the first pass it probes eagerly, so that a task that comes up in 80 ms is not held up for an interval; an eager
probe that fails does not count. Failures count from the end of the start period on, at most one an interval.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from worker.health.checks import Check

EAGER_FIRST_S: Final = 0.010
EAGER_LAST_S: Final = 0.250
_FIRST_S: Final = 0.050


class Verdict(enum.Enum):
    """STARTING: no pass yet, and not enough failures to give up."""

    STARTING = enum.auto()
    HEALTHY = enum.auto()
    UNHEALTHY = enum.auto()


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One answer; `output` is what a failed probe said, for people."""

    passed: bool
    output: str = ""


class ProbeMachine:
    """The probes of one check of one task. Times are monotonic seconds."""

    def __init__(self, check: Check, started_s: float, *, passed: bool = False) -> None:
        """
        Args:
            check: what is probed, and its pace.
            started_s: when the process was started, or when this worker took it over.
            passed: whether it is known to have passed before (a task taken over).
        """
        self._check = check
        self._passed = passed
        self._failures = 0
        self._eager_s = EAGER_FIRST_S if check.eager else _FIRST_S
        self._start_period_ends_s = started_s + check.start_period_s
        self._counts_from_s = self._start_period_ends_s + check.interval_s
        self.next_probe_s = started_s + (check.interval_s if passed else 0.0)
        self.verdict = Verdict.HEALTHY if passed else Verdict.STARTING
        self.output = ""

    @property
    def finished(self) -> bool:
        """Whether no further probe is wanted."""
        return self._check.once and self._passed

    def record(self, result: ProbeResult, now_s: float) -> None:
        """Take in the result of the probe that ended at `now_s`."""
        if result.passed:
            self._passed = True
            self._failures = 0
            self.verdict = Verdict.HEALTHY
            self.next_probe_s = now_s + self._check.interval_s
            return
        self.output = result.output
        if self._counts(now_s):
            self._failures += 1
            self._counts_from_s = now_s + self._check.interval_s
            if self._failures >= self._check.retries:
                self.verdict = Verdict.UNHEALTHY
        self.next_probe_s = now_s + (self._check.interval_s if self._passed else self._eager_delay_s(now_s))

    def _counts(self, now_s: float) -> bool:
        return self._passed or now_s >= self._counts_from_s

    def _eager_delay_s(self, now_s: float) -> float:
        check = self._check
        if check.eager:
            longest_s = EAGER_LAST_S
        elif now_s < self._start_period_ends_s:
            longest_s = check.start_interval_s
        else:
            longest_s = check.interval_s
        delay_s = min(self._eager_s, longest_s)
        self._eager_s = delay_s * 2
        if check.eager:
            return delay_s
        # The probe that counts must not come late because of the doubling.
        return min(delay_s, max(_FIRST_S, self._counts_from_s - now_s))
