"""Many runs: seeds one after the other, what came of them, and a smaller run for one that failed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

from tests.sim.raft.options import FAULTS, Options, draw
from tests.sim.raft.planted import planted
from tests.sim.raft.simulation import Simulation, Verdict


def run_options(options: Options, bug: str = "") -> Verdict:
    """Run once, with a bug planted if one is named."""
    with planted(bug):
        return Simulation(options).run()


def run_seed(seed: int, bug: str = "") -> Verdict:
    return run_options(draw(seed), bug)


def run_seeds(seeds: Iterable[int], bug: str = "", jobs: int = 1) -> Iterator[Verdict]:
    """Run seeds, `jobs` at once in processes of their own, and yield the verdicts in the order of the seeds."""
    if jobs <= 1:
        for seed in seeds:
            yield run_seed(seed, bug)
        return
    ahead: list[Future[Verdict]] = []
    waiting = iter(seeds)
    with ProcessPoolExecutor(jobs) as pool:
        try:
            while True:
                ahead.extend(
                    pool.submit(run_seed, seed, bug) for seed in itertools.islice(waiting, 3 * jobs - len(ahead))
                )
                if not ahead:
                    return
                yield ahead.pop(0).result()
        finally:
            for future in ahead:
                future.cancel()


def smaller(options: Options) -> Iterator[Options]:
    """Yield runs that are simpler in one respect, the greatest savings first."""
    for fault in FAULTS:
        if fault in options.faults:
            less = dataclasses.replace(options, faults=options.faults - {fault})
            yield dataclasses.replace(less, snapshot_entries=0) if fault == "snapshot" else less
    for ticks in (options.chaos_ticks // 2, options.chaos_ticks * 3 // 4):
        yield dataclasses.replace(options, chaos_ticks=ticks)
    for members in range(1, options.members):
        yield dataclasses.replace(options, members=members)
    for clients in range(1, options.clients):
        yield dataclasses.replace(options, clients=clients)


def shrink(verdict: Verdict, bug: str = "", say: Callable[[str], object] = lambda _line: None) -> Verdict:
    """Return the failure of the smallest run found that breaks the same law; `verdict` itself if none does."""
    while True:
        for options in smaller(verdict.options):
            found = run_options(options, bug)
            if found.checker == verdict.checker:
                say(f"smaller: {options}")
                verdict = found
                break
        else:
            return verdict


@dataclass(slots=True)
class Tally:
    """What many runs came to."""

    runs: int = 0
    failed: int = 0
    undecided: int = 0
    events: int = 0
    answered: int = 0
    elections: int = 0
    entries: int = 0

    def add(self, verdict: Verdict) -> None:
        self.runs += 1
        self.failed += not verdict.passed
        self.undecided += verdict.undecided
        self.events += verdict.events
        self.answered += verdict.answered
        self.elections += verdict.elections
        self.entries += verdict.entries

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.failed} failed, {self.undecided} undecided: {self.events} events,"
            f" {self.elections} elections, {self.entries} entries applied, {self.answered} answers judged"
        )


def report(verdict: Verdict, lines: int = 0) -> str:
    """Return a verdict for people; with `lines`, that many of the last events."""
    head = f"{verdict.options}\n  {verdict.fingerprint}, {verdict.events} events, {verdict.answered} answers"
    if verdict.passed:
        return f"{head}: all laws held"
    trace = "\n".join(verdict.trace[-lines:]) + "\n" if lines else ""
    return f"{trace}{head}\n  FAILED {verdict.sentence}"
