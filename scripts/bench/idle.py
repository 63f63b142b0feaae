"""What an idle worker-only node costs: memory of all its processes, and its share of a core.

python -m scripts.bench idle [--windows 5] [--window-s 6]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Final

from scripts.bench.report import Row, median, report, table
from scripts.cluster import Cluster

RSS_TARGET_MB: Final = 110.0
CPU_TARGET_PERCENT: Final = 1.0
DOCKER_RSS_MB: Final = 126.0
"""dockerd and containerd of Docker 20.10.24, idle, in swarm mode."""
SETTLE_S: Final = 5.0


def cpu_s(pids: list[int]) -> float:
    """Return the processor time of all threads of these processes, in seconds."""
    spent_ns = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            spent_ns += int((thread / "schedstat").read_text().split()[0])
    return spent_ns / 1e9


def memory_mb(pid: int) -> tuple[float, float]:
    """Return the resident and the proportional size of a process, in MB (10**6 bytes)."""
    sizes = dict.fromkeys(("Rss", "Pss"), 0.0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024 / 1e6
    return sizes["Rss"], sizes["Pss"]


async def measure(windows: int, window_s: float) -> None:
    async with Cluster(workers=1, environ=environment()) as cluster:
        node = cluster[1]
        await asyncio.sleep(SETTLE_S)
        pids = node.processes()
        shares = []
        for _ in range(windows):
            began_s, spent_s = time.perf_counter(), cpu_s(pids)
            await asyncio.sleep(window_s)
            shares.append(100 * (cpu_s(pids) - spent_s) / (time.perf_counter() - began_s))
        sizes = {pid: memory_mb(pid) for pid in pids}
        names = {pid: name for name, pid in node.pids().items()}
        rows: list[Row] = [(names[pid], *size) for pid, size in sizes.items()]
    rss, pss = (sum(column) for column in zip(*sizes.values(), strict=True))
    share = median(shares)
    table(["process", "RSS MB", "PSS MB"], [*rows, ("all", rss, pss), ("target", RSS_TARGET_MB, None)])
    print(f"share of a core: {share:.2f} % (windows: {', '.join(f'{s:.2f}' for s in shares)}; at most 1)")
    print(f"Docker Swarm (constant): {DOCKER_RSS_MB:g} MB resident, dockerd and containerd")
    report("idle_rss", rss, DOCKER_RSS_MB, "MB", pss_mb=round(pss, 1))
    report("idle_cpu", share, None, "% of a core")


def environment() -> dict[str, str]:
    """Return an environment in which compiled modules are kept, as after an installation."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=6.0)
    given = parser.parse_args()
    asyncio.run(measure(given.windows, given.window_s))
    return 0


if __name__ == "__main__":
    sys.exit(main())
