from __future__ import annotations

import itertools

import pytest

from worker.health.checks import Check, CheckKind
from worker.health.probe import EAGER_LAST_S, ProbeMachine, ProbeResult, Verdict

PASS = ProbeResult(True)
FAIL = ProbeResult(False, "no")


def check(**more: object) -> Check:
    return Check(CheckKind.HTTP, **{"interval_s": 30.0, "retries": 3, **more})  # type: ignore[arg-type]  # the tests name real fields


def run_failing(machine: ProbeMachine, *, until_s: float) -> list[float]:
    """Fail every probe up to `until_s` or the verdict; return when each was due."""
    times: list[float] = []
    while machine.verdict is not Verdict.UNHEALTHY and machine.next_probe_s <= until_s:
        times.append(machine.next_probe_s)
        machine.record(FAIL, machine.next_probe_s)
    return times


def test_the_first_probe_is_at_once_and_a_pass_is_healthy() -> None:
    machine = ProbeMachine(check(), 100.0)
    assert (machine.next_probe_s, machine.verdict) == (100.0, Verdict.STARTING)
    machine.record(PASS, 100.5)
    assert (machine.verdict, machine.next_probe_s) == (Verdict.HEALTHY, 130.5)


def test_eager_probes_do_not_count() -> None:
    machine = ProbeMachine(check(), 0.0)
    times = run_failing(machine, until_s=1000.0)
    assert machine.verdict is Verdict.UNHEALTHY
    assert times[-1] == pytest.approx(90.0, abs=0.2)  # three intervals, as without eager probes
    assert times[:4] == pytest.approx([0.0, 0.05, 0.15, 0.35])
    assert machine.output == "no"


def test_failures_count_from_the_end_of_the_start_period() -> None:
    machine = ProbeMachine(check(start_period_s=60.0, start_interval_s=2.0), 0.0)
    times = run_failing(machine, until_s=1000.0)
    assert times[-1] == pytest.approx(150.0, abs=0.2)
    gaps = [b - a for a, b in itertools.pairwise(times) if b <= 60.0]
    assert max(gaps) <= 2.0


def test_failures_in_a_row_end_health_and_a_pass_forgives() -> None:
    machine = ProbeMachine(check(retries=2), 0.0)
    machine.record(PASS, 0.0)
    machine.record(FAIL, 30.0)
    machine.record(PASS, 60.0)
    verdicts = []
    for result, at_s in ((FAIL, 90.0), (FAIL, 120.0), (PASS, 150.0)):
        machine.record(result, at_s)
        verdicts.append(machine.verdict)
    assert verdicts == [Verdict.HEALTHY, Verdict.UNHEALTHY, Verdict.HEALTHY]


def test_a_quick_check_polls_quickly_and_ends_with_its_first_pass() -> None:
    machine = ProbeMachine(check(eager=True, once=True, retries=10**9), 0.0)
    times = run_failing(machine, until_s=10.0)
    assert times[:3] == pytest.approx([0.0, 0.01, 0.03])
    assert times[-1] - times[-2] == pytest.approx(EAGER_LAST_S)
    assert not machine.finished
    machine.record(PASS, 10.0)
    assert machine.finished


def test_a_task_taken_over_keeps_its_verdict_until_it_fails() -> None:
    machine = ProbeMachine(check(retries=1), 100.0, passed=True)
    assert (machine.verdict, machine.next_probe_s) == (Verdict.HEALTHY, 130.0)
    machine.record(FAIL, 130.0)
    assert machine.verdict is Verdict.UNHEALTHY
