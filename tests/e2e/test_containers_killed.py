"""Worker, shim and containerd killed at each step of containers' lives: all converges, nothing is left or lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from swarmpy.daemon import proc
from swarmpy.model.states import TaskState
from tests.support.container_node import lacking
from tests.support.container_rig import DEADLINE_S, Rig, until
from tests.support.container_tasks import task
from worker.containerd.runtime import namespace_of

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
]
RUNNING, FAILED, SHUTDOWN = TaskState.RUNNING, TaskState.FAILED, TaskState.SHUTDOWN
FOREVER = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        asyncio.run(rig.load())
        yield rig


@pytest.fixture(autouse=True)
async def nothing_is_left(rig: Rig) -> AsyncIterator[None]:
    yield
    await rig.clean()


class Child:
    """A worker process; leaving the context of `child` kills it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self.states: dict[str, str] = {}

    def say(self, line: str) -> None:
        self._stdin.write(f"{line}\n")
        self._stdin.flush()

    async def until(self, task_id: str, *states: str) -> str:
        """Read on until a task is in one of the states."""
        async with asyncio.timeout(DEADLINE_S):
            while self.states.get(task_id) not in states:
                line = await asyncio.to_thread(self._stdout.readline)
                assert line, f"the worker has ended; {self.states}"
                told, state, *error = line.split(maxsplit=2)
                self.states[told] = state
                assert state not in ("FAILED", "REJECTED"), error
        return self.states[task_id]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def child(rig: Rig) -> Iterator[Child]:
    words = (sys.executable, "-m", "tests.support.container_child", str(rig.state), str(rig.containerd.socket), rig.key)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        made = Child(process)
        try:
            yield made
        finally:
            made.kill()


def shims(rig: Rig) -> list[int]:
    needle = f"-namespace\0{namespace_of(rig.state)}\0".encode()
    found = []
    for pid in proc.all_pids():
        with contextlib.suppress(OSError):
            if needle in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def is_alive(pid: int) -> bool:
    stat = proc.read_stat(pid)
    return stat is not None and not stat.zombie


async def test_a_container_outlives_its_worker_and_is_taken_up_again(rig: Rig) -> None:
    with child(rig) as first:
        first.say("put one")
        await first.until("one", "RUNNING")
        first.kill()
    async with rig.worker() as worker:
        status = await worker.state_of("one", RUNNING)
        assert is_alive(status.pid)
        worker.stop(task("one", FOREVER, ports=(80,)))
        assert (await worker.state_of("one", SHUTDOWN)).exit_code == 0


async def test_an_exit_while_no_worker_runs_is_known_to_the_next(rig: Rig) -> None:
    async with rig.worker() as worker:
        worker.put(task("one", ("sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.05; done")))
        pid = (await worker.state_of("one", RUNNING)).pid
    os.kill(pid, signal.SIGUSR1)
    await until(lambda: not is_alive(pid), "it has ended")
    async with rig.worker() as worker:
        status = await worker.state_of("one", FAILED)
        assert (status.exit_code, status.error) == (9, "exited with code 9")


@pytest.mark.parametrize("delay_ms", range(0, 240, 30))
async def test_a_worker_killed_while_it_starts_one(rig: Rig, delay_ms: int) -> None:
    with child(rig) as first:
        first.say("put one")
        await first.until("one", "ACCEPTED", "PREPARING", "READY", "STARTING", "RUNNING")
        await asyncio.sleep(delay_ms / 1000)  # the moment of the kill, which is what differs
        first.kill()
    with child(rig) as second:
        second.say("put one")
        await second.until("one", "RUNNING")


@pytest.mark.parametrize("delay_ms", range(0, 120, 20))
async def test_a_worker_killed_while_it_removes_one(rig: Rig, delay_ms: int) -> None:
    with child(rig) as first:
        first.say("put one")
        await first.until("one", "RUNNING")
        first.say("remove one")
        await asyncio.sleep(delay_ms / 1000)  # the moment of the kill, which is what differs
        first.kill()


async def test_a_killed_shim_is_an_exit_and_leaves_nothing(rig: Rig) -> None:
    async with rig.worker() as worker:
        worker.put(task("one", FOREVER, ports=(80,)))
        pid = (await worker.state_of("one", RUNNING)).pid
        [shim] = await until(lambda: shims(rig), "its shim")
        os.kill(shim, signal.SIGKILL)
        status = await worker.state_of("one", FAILED)
        assert status.error
        worker.remove("one")
        await worker.gone("one")
        assert not is_alive(pid)


async def test_a_shim_killed_while_containerd_is_dead(rig: Rig) -> None:
    async with rig.worker() as worker:
        worker.put(task("one", FOREVER))
        pid = (await worker.state_of("one", RUNNING)).pid
        [shim] = await until(lambda: shims(rig), "its shim")
        rig.containerd.kill()
        os.kill(shim, signal.SIGKILL)
        rig.containerd.start()
        await worker.state_of("one", FAILED)
        worker.remove("one")
        await worker.gone("one")
        assert not is_alive(pid)


async def test_containers_outlive_containerd_and_exits_meanwhile_are_told(rig: Rig) -> None:
    async with rig.worker() as worker:
        worker.put(task("stays", FOREVER))
        worker.put(task("ends", ("sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.05; done")))
        stays = await worker.state_of("stays", RUNNING)
        ends = await worker.state_of("ends", RUNNING)
        rig.containerd.kill()
        os.kill(ends.pid, signal.SIGUSR1)
        await until(lambda: not is_alive(ends.pid), "it has ended")
        rig.containerd.start()
        assert (await worker.state_of("ends", FAILED)).exit_code == 9
        assert worker.runner.statuses["stays"].state == RUNNING
        assert is_alive(stays.pid)


async def test_a_start_while_containerd_is_away_waits_for_it(rig: Rig) -> None:
    async with rig.worker() as worker:
        rig.containerd.kill()
        worker.put(task("one", FOREVER))
        await until(lambda: "waiting" in worker.runner.statuses["one"].message, "it waits")
        rig.containerd.start()
        await worker.state_of("one", RUNNING)


async def test_what_no_record_stands_for_is_ended_and_deleted(rig: Rig) -> None:
    async with rig.worker() as worker:
        worker.put(task("stray", FOREVER, ports=(80,)))
        await worker.state_of("stray", RUNNING)
    (rig.state / "worker" / "tasks" / "stray.msgpack").unlink()
    await rig.clean()
