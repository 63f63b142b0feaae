"""Commands run in a container beside its own, as health checks are: bounded in time and output."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from pathlib import Path
from typing import Any, Final

from swarmpy.errors import Code, SwarmError
from worker.executor.container.failures import start_failure
from worker.executor.container.files import ContainerFiles
from worker.executor.container.parts import Tasks
from worker.health.checks import Check
from worker.health.probe import ProbeResult
from worker.oci.spec import exec_process

MOST_PROBES: Final = 16
_MOST_OUTPUT_BYTES: Final = 4096
_READ_BYTES: Final = 65536
_KILL_WITHIN_S: Final = 5.0
_AGAIN_S: Final = 0.01


class Probes:
    """Runs the commands of health checks; a bounded number at once."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._probing = asyncio.Semaphore(MOST_PROBES)

    async def run(self, task_id: str, files: ContainerFiles, check: Check) -> ProbeResult:
        """Run a check's command once, as the container's own program runs."""
        spec = await asyncio.to_thread(files.spec)
        if spec is None:
            return ProbeResult(False, "the check could not be run: the container's spec is gone")
        async with self._probing:
            return await self._probe(task_id, files, check, exec_process(spec, check.argv))

    async def _probe(self, task_id: str, files: ContainerFiles, check: Check, process: dict[str, Any]) -> ProbeResult:
        # The same name each time: what a former worker left of it is found and ended before it runs again.
        exec_id = f"probe-{hashlib.sha256(repr(check.argv).encode()).hexdigest()[:16]}"
        stdout, stderr = files.fifos(exec_id)
        output = _Output((stdout, stderr))
        try:
            result = await self._judge(task_id, exec_id, process, check, (str(stdout), str(stderr)))
            # What the shim has yet to copy it copies before it forgets the command. A cancelled probe (the container
            # has ended, or the worker ends) leaves that to the container's end or to the next probe of this name.
            await self._end(task_id, exec_id)
            said = output.text()
        finally:
            output.close()
            files.remove_fifos(exec_id)
        return ProbeResult(result.passed, said or result.output)

    async def _judge(
        self, task_id: str, exec_id: str, process: dict[str, Any], check: Check, fifos: tuple[str, str]
    ) -> ProbeResult:
        try:
            async with asyncio.timeout(check.timeout_s):
                await self._start(task_id, exec_id, process, fifos)
                exited = await self._tasks.wait(task_id, exec_id)
        except TimeoutError:
            return ProbeResult(False, f"the check took longer than {check.timeout_s:g} s")
        except SwarmError as error:
            return ProbeResult(False, f"the check could not be run: {start_failure(error).message}")
        return ProbeResult(exited.status == 0, f"the check exited with code {exited.status}")

    async def _start(self, task_id: str, exec_id: str, process: dict[str, Any], fifos: tuple[str, str]) -> None:
        stdout, stderr = fifos
        while True:
            try:
                await self._tasks.exec(task_id, exec_id, process, stdout=stdout, stderr=stderr)
                break
            except SwarmError as error:
                if error.code is not Code.ALREADY_EXISTS:
                    raise
            # A former worker's, or the last one: a busy shim may refuse to forget what has only just ended.
            await self._end(task_id, exec_id)
            await asyncio.sleep(_AGAIN_S)
        await self._tasks.start(task_id, exec_id)

    async def _end(self, task_id: str, exec_id: str) -> None:
        """Kill the command if it still runs, and have the shim forget it; one that is gone is no error."""
        try:
            if await self._kill(task_id, exec_id):
                async with asyncio.timeout(_KILL_WITHIN_S):
                    await self._tasks.wait(task_id, exec_id)
            await self._tasks.delete_process(task_id, exec_id)
        except (SwarmError, TimeoutError):
            # The container has ended with all that ran in it, or the next probe of this name meets it again.
            return

    async def _kill(self, task_id: str, exec_id: str) -> bool:
        """Return whether there was something to kill; a command that was made and never started cannot be signalled."""
        try:
            return await self._tasks.kill(task_id, signal.SIGKILL, exec_id=exec_id)
        except SwarmError as error:
            if error.code is Code.FAILED_PRECONDITION:
                return False
            raise


class _Output:
    """What a command says, from its FIFOs, the first 4 KiB kept; the rest is read and dropped, so that it can go on."""

    def __init__(self, fifos: tuple[Path, ...]) -> None:
        self._kept = bytearray()
        self._loop = asyncio.get_running_loop()
        self._open: list[int] = []
        for path in fifos:
            # Open for writing too, or it would end between two writers.
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._open.append(descriptor)
            self._loop.add_reader(descriptor, self._read, descriptor)

    def text(self) -> str:
        for descriptor in self._open:
            self._read(descriptor)
        return self._kept.decode("utf-8", "replace").strip()

    def close(self) -> None:
        for descriptor in self._open:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._open.clear()

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        self._kept += data[: _MOST_OUTPUT_BYTES - len(self._kept)]
