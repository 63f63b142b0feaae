"""What a worker loads before any of its tasks is on a network."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_without_tasks_on_networks_does_not_hold_what_changes_links() -> None:
    heavy = ("pyroute2", "worker.network.machine", "worker.network.nft.sock")
    code = f"import sys, worker.engine, worker.member, worker.network.networks; print(sys.modules.keys() & {heavy})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
