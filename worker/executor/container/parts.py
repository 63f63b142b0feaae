"""What the container executor needs of its neighbours: images, networks, containerd's containers and tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from swarmpy.model.endpoints import HostPort
from swarmpy.registry.credentials import Credentials
from worker.assignments import Assignment
from worker.containerd.types import Container, Event, Exited, Mount, Process
from worker.image.types import Image
from worker.network.attachment import Attachment


class Images(Protocol):
    """See `worker.image.images.Images`."""

    @property
    def snapshotter(self) -> str: ...
    async def ensure(self, reference: str, *, auth: Credentials | None = None) -> Image: ...
    async def snapshot(self, key: str, image: Image) -> tuple[Mount, ...]: ...
    async def mounts(self, key: str) -> tuple[Mount, ...]: ...
    async def drop(self, key: str) -> None: ...
    async def snapshots(self) -> tuple[str, ...]: ...


class Networks(Protocol):
    """Joins tasks to networks and publishes their host ports. Every call may be repeated after an interruption."""

    async def attach(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Attachment:
        """Make the task's namespace with all its links, and publish its ports on the node."""

    async def detach(self, task_id: str) -> None:
        """Take back everything that `attach` made; of an unknown task it is done already."""

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        """Take back what tasks that are not held have left behind. Never raises."""


class Containers(Protocol):
    """See `worker.containerd.containers.Containers`."""

    async def create(self, container: Container) -> Container: ...
    async def set_spec(self, container_id: str, spec: Mapping[str, object]) -> Container: ...
    async def list(self, *filters: str) -> tuple[Container, ...]: ...
    async def delete(self, container_id: str) -> None: ...


class Tasks(Protocol):
    """See `worker.containerd.tasks.Tasks`."""

    async def create(
        self,
        container_id: str,
        *,
        rootfs: Sequence[Mount],
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        terminal: bool = False,
    ) -> int: ...
    async def start(self, container_id: str, exec_id: str = "") -> int: ...
    async def kill(self, container_id: str, signal: int, *, exec_id: str = "") -> bool: ...
    async def wait(self, container_id: str, exec_id: str = "") -> Exited: ...
    async def delete(self, container_id: str) -> Exited: ...
    async def delete_process(self, container_id: str, exec_id: str) -> Exited: ...
    async def get(self, container_id: str, exec_id: str = "") -> Process: ...
    async def list(self) -> tuple[Process, ...]: ...
    async def resume(self, container_id: str) -> None: ...
    async def resize(self, container_id: str, width: int, height: int, *, exec_id: str = "") -> None: ...
    async def exec(
        self,
        container_id: str,
        exec_id: str,
        process: Mapping[str, object],
        *,
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        terminal: bool = False,
    ) -> None: ...


class Events(Protocol):
    """See `worker.containerd.events.Events`."""

    def subscribe(self, *filters: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]: ...


class Client(Protocol):
    """See `worker.containerd.client.Containerd`."""

    @property
    def containers(self) -> Containers: ...
    @property
    def tasks(self) -> Tasks: ...
    @property
    def events(self) -> Events: ...
