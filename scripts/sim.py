"""Simulates clusters of Raft members from seeds, with everything going wrong, and judges what they did.

python -m scripts.sim                       fresh seeds for two minutes
python -m scripts.sim --minutes 60 --jobs 2
python -m scripts.sim --seed 7 --trace 60   one run again, with its last events; --shrink looks for a smaller one
python -m scripts.sim --plant NAME          with a bug planted; --planted plants each in turn and prints a table:
                                            what finds it first, or with --enough 5 what finds it five times
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time

from tests.sim.raft.campaign import Tally, report, run_seed, run_seeds, shrink
from tests.sim.raft.planted import BUGS
from tests.sim.raft.table import MOST_SEEDS, plant_all

DEFAULT_MINUTES = 2.0


def main() -> int:
    """Return 1 if a law was broken."""
    options = _arguments()
    if options.planted:
        return plant_all(options.seeds or MOST_SEEDS, enough=options.enough, jobs=options.jobs, say=_say)
    if options.seed is not None and not options.seeds:
        return _one(options)
    return _many(options)


def _one(options: argparse.Namespace) -> int:
    verdict = run_seed(options.seed, options.plant)
    if options.shrink and not verdict.passed:
        verdict = shrink(verdict, options.plant, _say)
    _say(report(verdict, options.trace))
    return int(not verdict.passed)


def _many(options: argparse.Namespace) -> int:
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    end_s = time.monotonic() + 60 * (options.minutes or (10**6 if options.seeds else DEFAULT_MINUTES))
    seeds = range(first, first + options.seeds) if options.seeds else itertools.count(first)
    tally = Tally()
    _say(f"seeds from {first} on")
    for verdict in run_seeds(seeds, options.plant, options.jobs):
        tally.add(verdict)
        if not verdict.passed:
            _say(report(verdict, options.trace))
            _say(f"  replay: make sim SEED={verdict.options.seed}")
        elif tally.runs % 100 == 0:
            _say(f"{tally}")
        if time.monotonic() > end_s:
            break
    _say(f"{tally}; the first seed was {first}")
    return int(tally.failed > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.sim", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="run this one; with --seeds the first of them")
    parser.add_argument("--seeds", type=int, default=0, help="how many")
    parser.add_argument("--minutes", type=float, default=0.0, help="how long to try fresh seeds")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--plant", default="", choices=("", *BUGS), metavar="BUG", help=f"one of {', '.join(BUGS)}")
    parser.add_argument("--planted", action="store_true", help="plant each bug in turn and print what found it")
    parser.add_argument(
        "--enough", type=int, default=1, help="with --planted: done with a bug that so many seeds found"
    )
    parser.add_argument("--trace", type=int, default=0, metavar="LINES", help="the last events of a run that failed")
    parser.add_argument("--shrink", action="store_true", help="look for a smaller run that fails alike")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
