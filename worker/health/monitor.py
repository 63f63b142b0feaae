"""Drives one check of one running task: probe, tell the verdict, wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from swarmpy.clock import Clock
from worker.health.probe import ProbeMachine, ProbeResult, Verdict


async def watch(
    machine: ProbeMachine,
    probe: Callable[[], Awaitable[ProbeResult]],
    clock: Clock,
    tell: Callable[[Verdict, str], None],
) -> None:
    """Probe until cancelled, or until a check that is asked once has passed.

    Args:
        machine: says when, and what a result means.
        probe: asks once; returns within the check's timeout.
        clock: what the pace is kept by.
        tell: called after each probe with the verdict and the last failure's output.
    """
    while not machine.finished:
        delay_s = machine.next_probe_s - clock.monotonic()
        if delay_s > 0:
            await clock.sleep(delay_s)
        result = await probe()
        machine.record(result, clock.monotonic())
        tell(machine.verdict, machine.output)
