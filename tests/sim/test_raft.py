"""A slice of the Raft simulation: seeds that are always the same, some that are new each time, and that they replay.

`make sim` runs many more, `make sim SEED=7` one of them again; `make sim-planted` shows that it finds what it should.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.sim.raft import table
from tests.sim.raft.campaign import report, run_seed
from tests.sim.raft.planted import BUGS, planted

FIXED_SEEDS: Final = 75
BATCH: Final = 15
FRESH_CPU_S: Final = 25.0
FRESH_REAL_S: Final = 40.0
ROOT: Final = Path(__file__).resolve().parents[2]
FIRST_FRESH: Final = int(os.environ.get("SWARMPY_SEED") or random.SystemRandom().randrange(10**9))
# Found by the table of planted bugs, each within a few seeds.
QUICKLY_FOUND: Final = (
    "answer-first",
    "commit-unstored",
    "damage-torn",
    "match-guessed",
    "pre-vote-term",
    "snapshot-requests",
    "vote-forgotten",
    "vote-unsynced",
)


def no_law_is_broken(seed: int) -> None:
    verdict = run_seed(seed)
    assert verdict.passed, f"replay: make sim SEED={seed}\n{report(verdict, 40)}"


@pytest.mark.parametrize("first", range(1, FIXED_SEEDS + 1, BATCH))
def test_seeds_that_are_always_the_same(first: int) -> None:
    for seed in range(first, first + BATCH):
        no_law_is_broken(seed)


def test_fresh_seeds() -> None:
    """As many as processor time buys, one at least; on a machine that is busy with other things, fewer."""
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    for seed in itertools.count(FIRST_FRESH):
        no_law_is_broken(seed)
        if time.process_time() - began_cpu_s > FRESH_CPU_S or time.monotonic() - began_s > FRESH_REAL_S:
            return


@pytest.mark.parametrize("bug", QUICKLY_FOUND)
def test_a_planted_bug_is_found(bug: str) -> None:
    assert table.try_bug(bug, range(1, 40), enough=1).caught == 1


def test_every_planted_bug_still_fits_the_product() -> None:
    for bug in BUGS:
        with planted(bug):
            pass


def test_a_seed_replays_bit_for_bit() -> None:
    """In other processes, too, whose sets and dictionaries are in another order."""
    script = (
        "from tests.sim.raft.campaign import run_seed\nfor seed in range(900, 906): print(run_seed(seed).fingerprint)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": order},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for order in ("1", "2")
    }
    assert len(runs) == 1, "two runs of the same seeds differ"
    assert next(iter(runs)).split() == [run_seed(seed).fingerprint for seed in range(900, 906)]
