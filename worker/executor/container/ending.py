"""Takes back what a container held, in the order in which an interruption leaves nothing unnamed behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakValueDictionary

import structlog

from swarmpy.errors import Code, SwarmError
from worker.executor.container.parts import Client, Images, Networks
from worker.executor.directories import TaskDirectories
from worker.executor.limits import Cgroups
from worker.logs.store import LogStore
from worker.volumes import Volumes

MOST_ENDINGS: Final = 8
_KILL_WITHIN_S: Final = 10.0
_log = structlog.get_logger()


class Ending:
    """Releases and removes containers. A step that was interrupted is done again; of nothing it is done already."""

    def __init__(
        self,
        *,
        client: Client,
        images: Images,
        networks: Networks,
        volumes: Volumes,
        directories: TaskDirectories,
        logs: LogStore,
        cgroups: Cgroups,
    ) -> None:
        self._client = client
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._directories = directories
        self._logs = logs
        self._cgroups = cgroups
        self._ending = asyncio.Semaphore(MOST_ENDINGS)
        self._alone: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def release(self, task_id: str) -> None:
        """Take back processes, network and log readers of a container that has ended; its files stay to be looked at.

        Raises:
            SwarmError: UNAVAILABLE, something is busy or containerd is away; to be called again.
        """
        async with self._ending:
            self._logs.flow(task_id)
            await self._end_task(task_id)
            self._logs.finish(task_id)  # after the task: the shim has passed on all that was said by then
            await self._networks.detach(task_id)
            await self._cgroups.remove(task_id)

    async def remove(self, task_id: str) -> None:
        """Delete everything of a container.

        Raises:
            SwarmError: UNAVAILABLE, something is busy or containerd is away; to be called again.
        """
        await self.release(task_id)
        await _unless_gone(self._client.containers.delete(task_id))
        await self._images.drop(task_id)
        await asyncio.to_thread(self._volumes.remove_of, task_id)
        # The directory goes last: as long as it is there, the task is found by a sweep.
        await asyncio.to_thread(self._directories.remove, task_id)

    def alone(self, task_id: str) -> asyncio.Lock:
        """Return the lock under which a task is prepared or swept away: a task may come while its left-overs go."""
        lock = self._alone.get(task_id)
        if lock is None:
            lock = self._alone[task_id] = asyncio.Lock()
        return lock

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        """Delete what tasks that are not held have left; what cannot be deleted now is said, and met again later."""
        try:
            records = {container.id for container in await self._client.containers.list()}
            processes = {process.container_id for process in await self._client.tasks.list()}
            snapshots = set(await self._images.snapshots())
            volumes = {volume.task_id for volume in await asyncio.to_thread(self._volumes.list) if volume.task_id}
            for task_id in sorted(records | processes | snapshots | volumes):
                async with self.alone(task_id):
                    if not is_held(task_id):  # asked late: tasks are assigned meanwhile
                        await self.remove(task_id)
        except SwarmError as error:
            _log.warning("left-over container", error=error.message)
        await self._networks.sweep(is_held)
        await self._cgroups.sweep(is_held)

    async def _end_task(self, task_id: str) -> None:
        """Have containerd forget the task, with its shim, mounts and groups; kill first what still runs."""
        try:
            await self._client.tasks.delete(task_id)
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return
            if error.code is not Code.FAILED_PRECONDITION:
                raise
        else:
            return
        if await self._client.tasks.kill(task_id, signal.SIGKILL):
            try:
                async with asyncio.timeout(_KILL_WITHIN_S):
                    await self._client.tasks.wait(task_id)
            except TimeoutError as error:
                sentence = f"container {task_id} does not end, although it was killed; looking again later"
                raise SwarmError(Code.UNAVAILABLE, sentence) from error
        await _unless_gone(self._client.tasks.delete(task_id))


async def _unless_gone(call: Awaitable[object]) -> None:
    """Await a deletion; of what is not there it is done already."""
    try:
        await call
    except SwarmError as error:
        if error.code is not Code.NOT_FOUND:
            raise
