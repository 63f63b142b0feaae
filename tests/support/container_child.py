"""A worker of a rig as a process of its own, to be killed: `python -m tests.support.container_child STATE SOCKET KEY`.

Reads `put ID`, `stop ID` and `remove ID`, one a line, on standard input; prints `ID STATE ERROR` for each status that
it would report, and `ID GONE`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import structlog

from swarmpy.model.task import TaskStatus
from tests.support.container_rig import RigWorker
from tests.support.container_tasks import task


async def main(state: str, socket: str, key: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is the answer
    worker = RigWorker(Path(state), Path(socket), key)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        group.create_task(obey(worker))
        await tell(worker)


async def obey(worker: RigWorker) -> None:
    """Do what standard input says."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode():
        word, task_id = line.split()
        assignment = task(task_id, ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"), ports=(80,))
        if word == "put":
            worker.put(assignment)
        elif word == "stop":
            worker.stop(assignment)
        else:
            worker.remove(task_id)


async def tell(worker: RigWorker) -> None:
    """Print what changes, having taken note of it as a manager does."""
    told: dict[str, TaskStatus] = {}
    while True:
        worker.acknowledge()
        now = dict(worker.runner.statuses)
        for task_id, status in now.items():
            if told.get(task_id) != status:
                sys.stdout.write(f"{task_id} {status.state.name} {status.error}\n")
        for task_id in told.keys() - now.keys():
            sys.stdout.write(f"{task_id} GONE\n")
        sys.stdout.flush()
        told = now
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
