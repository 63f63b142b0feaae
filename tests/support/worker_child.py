"""A worker as a process of its own, so that a test can kill it.

`python -m tests.support.worker_child STATE_DIR HOST:PORT`
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from tests.support.worker_parts import WorkerParts


async def main(state_dir: Path, manager: str) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(WorkerParts(state_dir, [manager]).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
