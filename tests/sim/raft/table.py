"""Plants every bug in turn and says which law found it, and how soon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tests.sim.raft import bugs_core, bugs_node
from tests.sim.raft.campaign import run_seeds
from tests.sim.raft.planted import BUGS

FIRST_SEED: Final = 1
MOST_SEEDS: Final = 400
"""Tried with a bug planted before it counts as missed; the one that hides best took 173."""
PLANTED_BY: Final = (bugs_core, bugs_node)  # they enter their bugs as they are imported


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one bug. `first` is how many seeds it took, 0 if it was never found."""

    bug: str
    sentence: str
    seeds: int
    caught: int
    first: int
    checkers: tuple[tuple[str, int], ...]


def try_bug(name: str, seeds: Iterable[int], jobs: int = 1, enough: int = 1) -> Row:
    """Run seeds with one bug planted, until it was found often enough."""
    runs, first, checkers = 0, 0, Counter[str]()
    for verdict in run_seeds(seeds, name, jobs):
        runs += 1
        if not verdict.passed:
            first = first or runs
            checkers[verdict.checker] += 1
            if checkers.total() == enough:
                break
    return Row(name, BUGS[name].sentence, runs, checkers.total(), first, tuple(checkers.most_common()))


def plant_all(seeds: int, *, enough: int, jobs: int, say: Callable[[str], object]) -> int:
    """Print the table, as Markdown; return 1 if a bug was not found.

    Args:
        seeds: tried at most with each bug.
        enough: a bug that was found by so many of them is done.
    """
    say("| bug planted | what it does | seeds run | caught | first at | by |")
    say("|---|---|---|---|---|---|")
    missed = []
    for name in sorted(BUGS):
        row = try_bug(name, range(FIRST_SEED, FIRST_SEED + seeds), jobs, enough)
        by = ", ".join(f"{checker} ({count})" for checker, count in row.checkers[:3])
        say(f"| {row.bug} | {row.sentence} | {row.seeds} | {row.caught} | {row.first or '-'} | {by or 'MISSED'} |")
        if not row.caught:
            missed.append(name)
    say(f"\n{len(BUGS) - len(missed)} of {len(BUGS)} found" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return int(bool(missed))
