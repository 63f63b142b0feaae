"""The command line of the fault rounds."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import sys
import time

from scripts.faults.places import can_cut, can_fill
from scripts.faults.plan import Plan, draw
from scripts.faults.rounds import Outcome, run_round

DEFAULT_ROUNDS = 10
SHOWN_LINES = 40
GIVEN_UP = 130


def main() -> int:
    """Run rounds until one fails, they are over or are given up; return 1 if one failed."""
    options = _arguments()
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    cuts, fills = not options.loopback and can_cut(), not options.loopback and can_fill()
    if not (cuts and fills):
        print("no links are cut, or no disks filled: that takes root, iproute2 and util-linux")
    end_s = time.monotonic() + 60 * options.minutes
    print(f"rounds from seed {first} on", flush=True)
    for number in itertools.count():
        if number and (time.monotonic() >= end_s if options.minutes else number >= options.rounds):
            break
        plan = draw(first + number, managers=options.managers, can_cut=cuts, can_fill=fills)
        try:
            outcome = asyncio.run(_run(plan))
        except (KeyboardInterrupt, asyncio.CancelledError):
            print(f"round {number + 1}, seed {plan.seed}: given up")
            return GIVEN_UP
        print(f"round {number + 1}, seed {plan.seed}: {outcome}", flush=True)
        if outcome.wrong:
            print("\n".join(outcome.events[:SHOWN_LINES]))
            print("\n".join(f"WRONG: {line}" for line in outcome.wrong))
            again = f"--rounds 1 --seed {plan.seed} --managers {options.managers}" + " --loopback" * options.loopback
            print(f"logs: {outcome.kept}; again: python -m scripts.faults {again}")
            return 1
    return 0


async def _run(plan: Plan) -> Outcome:
    """Run a round that SIGTERM ends in good order, as SIGINT does."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_round(plan)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.faults", description="Real managers under faults.")
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS, help=f"how many ({DEFAULT_ROUNDS})")
    parser.add_argument("--minutes", type=float, default=0.0, help="how long, instead of how many")
    parser.add_argument("--seed", type=int, help="of the first round; the others follow it by one (drawn)")
    parser.add_argument("--managers", type=int, default=0, choices=(0, 3, 5), help="in every round; 0 draws it (0)")
    parser.add_argument("--loopback", action="store_true", help="as without root: cut no links and fill no disks")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
