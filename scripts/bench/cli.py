"""How long the command line takes from the shell, the interpreter's start included.

python -m scripts.bench cli [--rounds 15] [--services 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from scripts.bench.cluster import process_spec
from scripts.bench.report import cell, median, report, table
from scripts.cluster import Cluster
from swarmpy.client import Client

TARGET_MS: Final = {"--help": 120.0, "service ls": 200.0}
AT_ONCE: Final = 16


async def create_services(client: Client, count: int) -> None:
    """Create services of no tasks."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with slots:
            await client.services.create(process_spec(f"service-{number:04}", replicas=0))

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


def run_once(state_dir: Path, words: list[str], lines: int) -> float:
    """Run a command; return its milliseconds. It must succeed and print at least so many lines."""
    # Compiled modules are kept, as after an installation.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began_s = time.perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("swarmpy"), "--state-dir", state_dir, *words],
        env=kept,
        capture_output=True,
        text=True,
        check=True,
    )
    took_ms = (time.perf_counter() - began_s) * 1000
    if len(done.stdout.splitlines()) < lines:
        raise RuntimeError(f"swarmpy {' '.join(words)} printed fewer than {lines} lines:\n{done.stdout[:2000]}")
    return took_ms


async def measure(rounds: int, services: int) -> None:
    commands = {"--help": 5, "service ls": services + 1}
    times: dict[str, list[float]] = {}
    async with Cluster() as cluster:
        await create_services(cluster.client, services)
        for text, lines in commands.items():
            run_once(cluster[0].state_dir, text.split(), lines)  # the first compiles
            times[text] = [run_once(cluster[0].state_dir, text.split(), lines) for _ in range(rounds)]
    table(
        ["command", "median ms", "least", "most", "target ms"],
        [(f"swarmpy {text}", median(t), min(t), max(t), TARGET_MS[text]) for text, t in times.items()],
    )
    print(
        f"{services} services, {rounds} rounds; ours starts an interpreter each time ({cell(median(bare()))} ms bare)"
    )
    for text, taken in times.items():
        report("cli_" + text.replace(" ", "_").strip("-"), median(taken), None, "ms")


def bare() -> list[float]:
    """Return the milliseconds of starting an interpreter that does nothing."""
    times = []
    for _ in range(5):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        times.append((time.perf_counter() - began_s) * 1000)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--services", type=int, default=1000)
    given = parser.parse_args()
    asyncio.run(measure(given.rounds, given.services))
    return 0


if __name__ == "__main__":
    sys.exit(main())
