"""Ends all containers of a node and takes their mounts away: `python -m worker.containerd.ending --state-dir DIR`.

swarmpyd runs it when the node ends with its tasks: it can itself not talk to containerd. The worker is gone by then.
Records of containers stay, with what they wrote, for the next worker to collect.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swarmpy.errors import Code, SwarmError
from worker.containerd.client import Containerd
from worker.containerd.runtime import namespace_of, read_runtime
from worker.containerd.types import Process, ProcessStatus
from worker.network.ending import end_networks

START_S: Final = 10.0
GRACE_S: Final = 10.0
KILL_S: Final = 5.0
STOP_SIGNAL_LABEL: Final = "swarmpy.stop-signal"
"""Label of a container that names another signal than SIGTERM, as a number."""
_MNT_DETACH: Final = 2


async def end_containers(client: Containerd, grace_s: float = GRACE_S) -> list[str]:
    """Stop and delete all tasks of the client's namespace; return a sentence for each that could not be."""
    tasks = await client.tasks.list()
    outcomes = await asyncio.gather(*(_end(client, task, grace_s) for task in tasks))
    return [sentence for sentence in outcomes if sentence]


async def _end(client: Containerd, task: Process, grace_s: float) -> str:
    name = task.container_id
    try:
        if task.status is not ProcessStatus.STOPPED:
            await _stop(client, task, grace_s)
        await client.tasks.delete(name)
    except SwarmError as error:
        return "" if error.code is Code.NOT_FOUND else error.message
    except TimeoutError:
        return f"container {name} has not ended {KILL_S:g} s after SIGKILL"
    return ""


async def _stop(client: Containerd, task: Process, grace_s: float) -> None:
    name = task.container_id
    if task.status is ProcessStatus.RUNNING:
        labels = (await client.containers.get(name)).labels
        await client.tasks.kill(name, int(labels.get(STOP_SIGNAL_LABEL) or signal.SIGTERM))
        try:
            async with asyncio.timeout(grace_s):
                await client.tasks.wait(name)
                return
        except TimeoutError:
            pass  # it had its time
    await client.tasks.kill(name, signal.SIGKILL, all_processes=True)
    async with asyncio.timeout(KILL_S):
        await client.tasks.wait(name)


def mounts_below(directory: Path, mountinfo: str) -> list[str]:
    """Return the mount points below a directory, the one on top first.

    Args:
        mountinfo: text of `/proc/self/mountinfo`.
    """
    points = [line.split(" ", 5)[4] for line in mountinfo.splitlines()]
    plain = [point.encode().decode("unicode_escape").encode("latin-1").decode() for point in points]
    return [point for point in reversed(plain) if point.startswith(f"{directory}/")]


def unmount_below(directory: Path) -> list[str]:
    """Unmount all below a directory, whoever uses it; return a sentence for each that could not be."""
    libc = ctypes.CDLL(None, use_errno=True)
    return [
        f"cannot unmount {point}: {os.strerror(ctypes.get_errno()).lower()}"
        for point in mounts_below(directory, Path("/proc/self/mountinfo").read_text())
        if libc.umount2(os.fsencode(point), _MNT_DETACH) != 0
    ]


async def _end_what_runs(state_dir: Path) -> list[str]:
    runtime = read_runtime(state_dir)
    problems: list[str] = []
    if runtime.socket is not None:
        try:
            async with Containerd.connect(runtime.socket, namespace_of(state_dir)) as client:
                await client.wait_until_serving(START_S)
                problems += await end_containers(client)
        except SwarmError as error:
            problems.append(error.message)
    return problems


def main(argv: Sequence[str] | None = None) -> int:
    """End the containers; return 1 if some are left, having said which."""
    parser = argparse.ArgumentParser(prog="worker.containerd.ending", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    given, _ = parser.parse_known_args(argv)  # it gets the options of swarmpyd's other children too
    problems = asyncio.run(_end_what_runs(given.state_dir))
    problems += end_networks(given.state_dir, namespace_of(given.state_dir).removeprefix("swarmpy-"))
    # Roots whose shim was killed, and pinned network namespaces. Nobody mounts disks in run/.
    problems += unmount_below(given.state_dir.resolve() / "run")
    for sentence in problems:
        sys.stderr.write(f"swarmpyd: {sentence}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
