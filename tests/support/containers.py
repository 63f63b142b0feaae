"""A containerd, images and networks that live in memory, for tests of the container executor."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from swarmpy.errors import Code, SwarmError, not_found
from swarmpy.model.endpoints import HostPort
from swarmpy.registry.credentials import Credentials
from worker.assignments import Assignment
from worker.containerd.types import Container, Event, Exited, Mount, Process, ProcessStatus, TaskExit
from worker.image.config import ImageConfig
from worker.image.types import Image
from worker.network.attachment import Attachment

AWAY = SwarmError(Code.UNAVAILABLE, "containerd does not answer")


def image(name: str = "web:1", **config: Any) -> Image:
    """Return an image; `config` is the `config` object of its configuration."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["serve"], **config},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    raw = json.dumps(document).encode()
    return Image(name, "sha256:1", "sha256:2", "sha256:3", "sha256:chain", ImageConfig.decode(raw, name), raw, 1)


class FakeImages:
    """Images by reference; `keys` are the snapshots that there are."""

    snapshotter = "fake"

    def __init__(self) -> None:
        self.images: dict[str, Image] = {"web:1": image()}
        self.keys: set[str] = set()

    async def ensure(self, reference: str, *, auth: Credentials | None = None) -> Image:
        if reference not in self.images:
            raise not_found(f"there is no image {reference}")
        return self.images[reference]

    async def snapshot(self, key: str, image: Image) -> tuple[Mount, ...]:
        self.keys.add(key)
        return (Mount("bind", f"/snapshots/{key}", ("rbind",)),)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        if key not in self.keys:
            raise not_found(f"there is no snapshot {key}")
        return (Mount("bind", f"/snapshots/{key}", ("rbind",)),)

    async def drop(self, key: str) -> None:
        self.keys.discard(key)

    async def snapshots(self) -> tuple[str, ...]:
        return tuple(sorted(self.keys))


class FakeNetworks:
    """Notes who is attached with which ports. `errors` are raised by the next attachments."""

    def __init__(self) -> None:
        self.attached: dict[str, tuple[HostPort, ...]] = {}
        self.errors: list[SwarmError] = []
        self.attaching: Callable[[], None] = lambda: None

    async def attach(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Attachment:
        self.attaching()
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        self.attached[assignment.id] = host_ports
        return Attachment(f"/run/netns/{assignment.id}", "172.18.0.2")

    async def detach(self, task_id: str) -> None:
        self.attached.pop(task_id, None)

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        self.attached = {task_id: ports for task_id, ports in self.attached.items() if is_held(task_id)}


@dataclass
class FakeContainerd:
    """Records, tasks and events. `errors` maps a call (`create`, `start`, `delete`...) to what it raises next.

    `noted` is told of each call before it is done."""

    records: dict[str, Container] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    errors: dict[str, list[SwarmError]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    away: bool = False
    noted: Callable[[str], None] = lambda call: None

    def __post_init__(self) -> None:
        self._pids = itertools.count(100)
        self._subscribers: list[asyncio.Queue[Event | None]] = []
        self.containers = _Records(self)
        self.tasks = _Tasks(self)
        self.events = _Events(self)

    def note(self, call: str, container_id: str) -> None:
        self.calls.append(f"{call} {container_id}")
        self.noted(self.calls[-1])
        if self.away:
            raise AWAY
        if self.errors.get(call):
            raise self.errors[call].pop(0)

    def next_pid(self) -> int:
        return next(self._pids)

    def end(self, container_id: str, status: int, *, pid: int | None = None) -> None:
        """End a container's process, and tell of it; of another `pid` only tell."""
        process = self.processes[container_id]
        exited = Exited(status, 5.0)
        if pid is None:
            self.processes[container_id] = replace(process, status=ProcessStatus.STOPPED, exited=exited)
        self.tell(TaskExit(container_id, "", process.pid if pid is None else pid, status, 5.0))

    def tell(self, event: Event) -> None:
        for queue in self._subscribers:
            queue.put_nowait(event)

    def drop_connections(self) -> None:
        for queue in self._subscribers:
            queue.put_nowait(None)

    def subscribe(self) -> asyncio.Queue[Event | None]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._subscribers.append(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Event | None]) -> None:
        self._subscribers.remove(queue)


class _Records:
    def __init__(self, containerd: FakeContainerd) -> None:
        self._containerd = containerd

    async def create(self, container: Container) -> Container:
        self._containerd.note("record", container.id)
        if container.id in self._containerd.records:
            raise SwarmError(Code.ALREADY_EXISTS, f"{container.id} is there")
        self._containerd.records[container.id] = container
        return container

    async def set_spec(self, container_id: str, spec: Mapping[str, object]) -> Container:
        self._containerd.note("set-spec", container_id)
        made = replace(self._containerd.records[container_id], spec=spec)
        self._containerd.records[container_id] = made
        return made

    async def list(self, *filters: str) -> tuple[Container, ...]:
        self._containerd.note("records", "")
        return tuple(self._containerd.records.values())

    async def delete(self, container_id: str) -> None:
        self._containerd.note("unrecord", container_id)
        if self._containerd.records.pop(container_id, None) is None:
            raise not_found(f"there is no container {container_id}")


class _Tasks:
    def __init__(self, containerd: FakeContainerd) -> None:
        self._containerd = containerd

    def _process(self, container_id: str) -> Process:
        process = self._containerd.processes.get(container_id)
        if process is None:
            raise not_found(f"container {container_id} has no task")
        return process

    async def create(
        self,
        container_id: str,
        *,
        rootfs: Sequence[Mount],
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        terminal: bool = False,
    ) -> int:
        self._containerd.note("create", container_id)
        if container_id in self._containerd.processes:
            raise SwarmError(Code.ALREADY_EXISTS, f"{container_id} has a task")
        pid = self._containerd.next_pid()
        status = ProcessStatus.CREATED
        made = Process(container_id, "", pid, status, stdin, stdout, stderr, terminal, None)
        self._containerd.processes[container_id] = made
        return pid

    async def start(self, container_id: str, exec_id: str = "") -> int:
        self._containerd.note("start", container_id)
        process = self._process(container_id)
        self._containerd.processes[container_id] = replace(process, status=ProcessStatus.RUNNING)
        return process.pid

    async def kill(self, container_id: str, signal: int, *, exec_id: str = "") -> bool:
        self._containerd.note(f"kill-{signal}", container_id)
        process = self._containerd.processes.get(container_id)
        if process is None or process.status is ProcessStatus.STOPPED:
            return False
        self._containerd.end(container_id, 128 + signal)
        return True

    async def wait(self, container_id: str, exec_id: str = "") -> Exited:
        exited = self._process(container_id).exited
        assert exited is not None, "it has ended"
        return exited

    async def delete(self, container_id: str) -> Exited:
        self._containerd.note("delete", container_id)
        process = self._process(container_id)
        if process.status is ProcessStatus.RUNNING:
            raise SwarmError(Code.FAILED_PRECONDITION, f"{container_id} runs")
        del self._containerd.processes[container_id]
        return process.exited or Exited(0, 0.0)

    async def delete_process(self, container_id: str, exec_id: str) -> Exited:
        raise not_found(f"there is no process {exec_id}")

    async def get(self, container_id: str, exec_id: str = "") -> Process:
        self._containerd.note("get", container_id)
        return self._process(container_id)

    async def list(self) -> tuple[Process, ...]:
        self._containerd.note("list", "")
        return tuple(self._containerd.processes.values())

    async def resume(self, container_id: str) -> None:
        self._containerd.note("resume", container_id)

    async def resize(self, container_id: str, width: int, height: int, *, exec_id: str = "") -> None:
        self._containerd.note("resize", container_id)

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
    ) -> None:
        self._containerd.note("exec", container_id)


class _Events:
    def __init__(self, containerd: FakeContainerd) -> None:
        self._containerd = containerd

    @asynccontextmanager
    async def subscribe(self, *filters: str) -> AsyncIterator[AsyncIterator[Event]]:
        self._containerd.note("subscribe", "")
        queue = self._containerd.subscribe()
        try:
            yield _told(queue)
        finally:
            self._containerd.unsubscribe(queue)


async def _told(queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
    while (event := await queue.get()) is not None:
        yield event
    raise AWAY
