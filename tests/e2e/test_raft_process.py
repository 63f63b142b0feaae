"""Real processes on a real disk: kill -9 at any point, and a file system that runs full."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30
ROUNDS = 12
WORDS = ("state", "ack", "refused")

pytestmark = pytest.mark.e2e


class Child:
    """One life of tests.support.raft_child, as its lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.state: list[int] = []

    async def line(self) -> list[str] | None:
        """Return the next line's words; None once the child's output has ended."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        words = line.decode().split()
        assert not line or (words and words[0] in WORDS), f"{line!r} is no line of the child's own"
        return words or None

    async def until(self, wanted: str, count: int) -> list[int]:
        """Read until `count` lines began with `wanted`; return what was acknowledged meanwhile."""
        acknowledged: list[int] = []
        async with asyncio.timeout(DEADLINE_S):
            while count > 0:
                words = await self.line()
                assert words, f"the child ended by itself, with status {await self._process.wait()}"
                count -= words[0] == wanted
                if words[0] == "ack":
                    acknowledged.append(int(words[1]))
        return acknowledged

    async def kill(self) -> list[int]:
        """Kill it; return what it had acknowledged but nobody had read yet."""
        self._process.kill()
        rest = []
        try:
            async with asyncio.timeout(DEADLINE_S):
                # Lines that acknowledge are shorter than PIPE_BUF, so a kill cuts none of them short.
                while words := await self.line():
                    if words[0] == "ack":
                        rest.append(int(words[1]))
        finally:
            await self._process.wait()
        return rest


@asynccontextmanager
async def child(directory: Path, round_number: int) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.raft_child", str(directory), str(round_number),
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, limit=1 << 24,
    )  # fmt: skip
    running = Child(process)
    try:
        async with asyncio.timeout(DEADLINE_S):
            words = await running.line()
        assert words and words[0] == "state", words
        running.state = [int(word) for word in words[1:]]
        yield running
    finally:
        if process.returncode is None:
            await running.kill()


@pytest.mark.slow
async def test_kill_at_any_point_loses_nothing_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(20)
    acknowledged: list[int] = []
    before: list[int] = []
    for round_number in range(1, ROUNDS + 1):
        async with child(tmp_path / "raft", round_number) as running:
            assert set(acknowledged) <= set(running.state)
            assert len(set(running.state)) == len(running.state), "nothing twice"
            assert running.state[: len(before)] == before, "what was seen stays, in its order"
            assert all(serial // 1_000_000 < round_number for serial in running.state), "nothing invented"
            before = running.state
            acknowledged += await running.until("ack", rng.randrange(1, 900))
            acknowledged += await running.kill()
    assert len(acknowledged) > 1000


@pytest.fixture
def small_fs(tmp_path: Path) -> Iterator[Path]:
    mount_point = tmp_path / "fs"
    mount_point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "swarmpy-test", str(mount_point)], check=True)
    yield mount_point
    subprocess.run(["umount", str(mount_point)], check=True)


@pytest.mark.root
async def test_a_full_file_system_refuses_and_recovers_without_a_restart(small_fs: Path) -> None:
    ballast = small_fs / "ballast"
    async with child(small_fs / "raft", 1) as running:
        acknowledged = await running.until("ack", 200)
        fill(ballast)
        acknowledged += await running.until("refused", 20)
        ballast.unlink()
        acknowledged += await running.until("ack", 300)
        fill(ballast)
        acknowledged += await running.until("refused", 1)
        acknowledged += await running.kill()
    ballast.unlink()
    async with child(small_fs / "raft", 2) as running:
        assert set(acknowledged) <= set(running.state)
        await running.until("ack", 20)


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            return
