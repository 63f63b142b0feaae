"""The worker's word on which tasks have a network namespace in which the data plane is to serve names."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from worker.backoff import full_jitter_s
from worker.dataplane.protocol import (
    Message,
    TaskGone,
    TaskNamespace,
    Tasks,
    TaskServed,
    encode,
    worker_decoder,
)

WAIT_S: Final = 1.0
_RETRY_BASE_S: Final = 0.05
_RETRY_CAP_S: Final = 2.0
_READ_BYTES: Final = 64 * 1024
log = structlog.get_logger()


class TaskNames:
    """Tells the data plane at `path` of task namespaces, and again whenever it is connected anew.

    Until `replace` has said all there are, the data plane is told of additions only, and goes on with what it has
    kept. One object lives as long as the worker; `run` must be under way.
    """

    def __init__(self, path: Path, *, clock: Clock, rng: random.Random, wait_s: float = WAIT_S) -> None:
        """
        Args:
            wait_s: how long `serve` waits for the data plane.
        """
        self._path = path
        self._clock = clock
        self._rng = rng
        self._wait_s = wait_s
        self._tasks: dict[str, TaskNamespace] = {}
        self._gone: set[str] = set()
        self._complete = False
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, namespace: TaskNamespace) -> str:
        """Have names served in a task's namespace; return why they are not yet, empty if they are.

        May be repeated, also with something changed. Whatever is returned, the data plane goes on trying.
        """
        task_id = namespace.task_id
        self._tasks[task_id] = namespace
        self._gone.discard(task_id)
        answer = self._waiting.get(task_id)
        if answer is None or answer.done():
            answer = self._waiting[task_id] = asyncio.get_running_loop().create_future()
        self._send(namespace)
        try:
            async with asyncio.timeout(self._wait_s):
                return await asyncio.shield(answer)
        except TimeoutError:
            return f"the data plane has not answered for {self._wait_s:g} s"
        finally:
            if self._waiting.get(task_id) is answer:
                del self._waiting[task_id]

    def forget(self, task_id: str) -> None:
        """Have names served no longer; to be called before the namespace is removed. Of an unknown task: no error."""
        self._tasks.pop(task_id, None)
        if not self._complete:
            self._gone.add(task_id)
        self._send(TaskGone(task_id=task_id))

    def replace(self, namespaces: Iterable[TaskNamespace]) -> None:
        """Say all namespaces that there are: those of other tasks are let go of."""
        self._tasks = {namespace.task_id: namespace for namespace in namespaces}
        self._gone.clear()
        self._complete = True
        self._send(Tasks(tasks=tuple(self._tasks.values())))

    async def run(self) -> None:
        """Keep connected until cancelled."""
        failures = 0
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError as error:
                failures += 1
                if failures == 1:
                    log.info("no data plane to serve names in tasks yet", error=str(error))
            else:
                failures = 0
                await self._serve(reader, writer)
            delay_s = full_jitter_s(failures, self._rng, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
            await self._clock.sleep(max(0.001, delay_s))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            self._say_all()
            decoder = worker_decoder()
            while data := await reader.read(_READ_BYTES):
                for message in decoder.feed(data):
                    if isinstance(message, TaskServed):
                        self._take(message)
        except OSError:
            pass  # the next connection says everything again
        except SwarmError as error:
            log.error("the data plane's answer about tasks cannot be read", error=error.message)
        finally:
            self._writer = None
            writer.close()

    def _say_all(self) -> None:
        if self._complete:
            self._send(Tasks(tasks=tuple(self._tasks.values())))
            return
        for namespace in self._tasks.values():
            self._send(namespace)
        for task_id in self._gone:
            self._send(TaskGone(task_id=task_id))

    def _take(self, message: TaskServed) -> None:
        if message.problem:
            log.warning("names are not served inside a task yet", task=message.task_id, error=message.problem)
        answer = self._waiting.get(message.task_id)
        if answer is not None and not answer.done():
            answer.set_result(message.problem)

    def _send(self, message: Message) -> None:
        # What is said is small and rare, and said again in full if the connection breaks over it.
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))
