"""A real task host in a temporary state directory, ended with all its tasks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from swarmpy.errors import SwarmError
from worker.taskhost.client import TaskHostClient, socket_path

DEADLINE_S = 15.0


def node_key(state_dir: Path) -> str:
    """Return what the cgroups of the node with this state directory are called."""
    return hashlib.sha256(str(state_dir).encode()).hexdigest()[:12]


def remove_groups(state_dir: Path) -> None:
    """Remove the cgroups of a worker that was killed before it could."""
    for group in Path("/sys/fs/cgroup").glob(f"*/swarmpy/{node_key(state_dir)}"):
        group.rmdir()
    for top in Path("/sys/fs/cgroup").glob("*/swarmpy"):
        with contextlib.suppress(OSError):  # another node's groups are in it
            top.rmdir()


class TaskHostProcess:
    """`directory` is the state directory: short, for the sockets in it, and open to other users' tasks."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="swp-"))
        self.directory.chmod(0o711)
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.shut_down()
        finally:
            shutil.rmtree(self.directory)
            remove_groups(self.directory)

    async def start(self) -> None:
        """Start the process and wait until it answers."""
        command = [sys.executable, "-m", "worker.taskhost", "--state-dir", str(self.directory)]
        self._process = await asyncio.to_thread(subprocess.Popen, command)
        deadline_s = time.monotonic() + DEADLINE_S
        while not await self._answers():
            assert time.monotonic() < deadline_s, "the task host does not answer"
            await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            client = await TaskHostClient.connect(socket_path(self.directory), lambda _: None)
        except SwarmError:
            return False
        await client.close()
        return True

    async def kill(self) -> None:
        """Kill the task host as a crash would; its tasks go on."""
        assert self._process is not None, "it was started"
        self._process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)

    async def shut_down(self) -> None:
        """End all tasks and the task host."""
        assert self._process is not None, "it was started"
        if self._process.poll() is None:
            client = await TaskHostClient.connect(socket_path(self.directory), lambda _: None)
            with contextlib.suppress(SwarmError):
                await client.shutdown(grace_s=0.2)
            await client.close()
        await asyncio.to_thread(self._process.wait, DEADLINE_S)
