"""Runs tasks as containers, through containerd, its shim and runc."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from typing import Final

import structlog

from swarmpy.clock import Clock
from swarmpy.daemon import proc
from swarmpy.errors import Code, SwarmError
from swarmpy.model import network
from swarmpy.model.endpoints import HostPort
from worker.assignments import Assignment
from worker.containerd.types import Exited, ProcessStatus
from worker.executor.container.bindings import Bindings
from worker.executor.container.ending import Ending
from worker.executor.container.failures import start_failure
from worker.executor.container.files import ContainerFiles
from worker.executor.container.health import image_health
from worker.executor.container.parts import Client, Images
from worker.executor.container.preparation import Preparation
from worker.executor.container.probes import Probes
from worker.executor.container.watch import Watch
from worker.executor.directories import TaskDirectories, disk_error
from worker.executor.limits import Cgroups
from worker.executor.plan import target_ports
from worker.executor.ports import PortPool
from worker.executor.protocol import Listener, Started
from worker.health.checks import Check, CheckKind, HealthPlan, plan
from worker.health.probe import ProbeResult
from worker.health.probers import probe_http, probe_tcp
from worker.image.config import ImageConfig
from worker.image.types import Image
from worker.logs.format import Stream
from worker.logs.store import LogStore, TaskLog
from worker.oci.command import argv
from worker.task.outcome import Exit, signal_number

MOST_STARTS: Final = 4
"""Starts at once: each is a shim and two runs of runc, which would only wait for each other."""

_SIGNALLED: Final = 128
_LATE_OUTPUT_S: Final = 0.02
_log = structlog.get_logger()


class ContainerExecutor:
    """The executor of runtime CONTAINER. See `worker.executor.protocol.Executor` for what its methods promise."""

    def __init__(
        self,
        *,
        client: Client,
        images: Images,
        preparation: Preparation,
        ending: Ending,
        directories: TaskDirectories,
        logs: LogStore,
        ports: PortPool,
        cgroups: Cgroups,
        data_addr: str,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """
        Args:
            data_addr: where containers on the node's own network are reached.
        """
        self._client = client
        self._images = images
        self._preparation = preparation
        self._ending = ending
        self._directories = directories
        self._logs = logs
        self._ports = ports
        self._cgroups = cgroups
        self._data_addr = data_addr
        self._clock = clock
        self._watch = Watch(client, clock, rng, start_time, self._describe)
        self._probes = Probes(client.tasks)
        self._bindings = Bindings(ports)
        self.window_sizes: dict[str, tuple[int, int]] = {}
        self._starting = asyncio.Semaphore(MOST_STARTS)
        self._configs: dict[str, ImageConfig] = {}
        self._signalled: set[str] = set()
        self._listener: Listener | None = None

    async def run(self, listener: Listener) -> None:
        self._listener = listener
        try:
            await self._watch.run(listener)
        finally:
            self._logs.close()

    async def _describe(self, task_id: str, exited: Exited) -> Exit:
        if exited.status and task_id not in self._signalled:
            # The shim tells of the exit before it has passed on the last words, which the sentence ends with.
            await self._clock.sleep(_LATE_OUTPUT_S)
        log = self._logs.get(task_id)
        return Exit(
            exited.status,
            exited.at_s or self._clock.now(),
            oom_limit_bytes=self._cgroups.oom_limit(task_id),
            last_output=log.last_error_line() if log is not None else "",
            by_signal=exited.status > _SIGNALLED,
        )

    async def prepare(self, assignment: Assignment, held: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        async with self._ending.alone(assignment.id):
            return await self._prepare(assignment, held)

    async def _prepare(self, assignment: Assignment, held: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        container = assignment.version.task.container
        signal_number(container.stop_signal)
        image = await self._image(assignment)
        argv(container, image.config)  # refuses before anything is made
        files = self._keep(assignment.id, image)
        root = await self._images.snapshot(assignment.id, image)
        user = await self._preparation.user(assignment, image, root)
        self._open_log(assignment, (user.uid, user.gid))
        mounts = await self._preparation.mounts(assignment, image, root)
        ports = self._take_ports(assignment, held)
        try:
            attached = await self._preparation.attach(assignment, files, ports)
            spec = self._preparation.spec(assignment, image, user, attached, mounts)
            files.keep_spec(spec)
            await self._preparation.record(assignment, image, spec)
        except BaseException:
            if not held:
                self._release_ports(assignment, ports)  # nobody else knows of them yet
            raise
        return ports

    def _release_ports(self, assignment: Assignment, ports: tuple[HostPort, ...]) -> None:
        if assignment.local:
            self._bindings.release(assignment, ports)
        else:
            self._ports.release(ports)

    async def create(self, assignment: Assignment) -> Image:
        """Make what a local container has before it is started: image, record and snapshot, and return the image.

        Raises:
            SwarmError: as `prepare` does.
        """
        signal_number(assignment.version.task.container.stop_signal)
        async with self._ending.alone(assignment.id):
            image = await self._image(assignment)
            argv(assignment.version.task.container, image.config)
            self._keep(assignment.id, image)
            await self._images.snapshot(assignment.id, image)
            await self._preparation.record(assignment, image, {})
        return image

    async def _image(self, assignment: Assignment) -> Image:
        """Return the task's image; one that may run again keeps the one that it began with."""
        known = self._files(assignment.id).image() if assignment.local else None
        return known or await self._preparation.image(assignment)

    def _keep(self, task_id: str, image: Image) -> ContainerFiles:
        self._directories.make(task_id, None)
        files = self._files(task_id)
        files.make()
        files.keep_image(image)
        self._configs[task_id] = image.config
        return files

    def _take_ports(self, assignment: Assignment, held: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        """Return the task's host ports. On the node's own network the container listens on its target ports itself."""
        if assignment.local:
            return self._bindings.take(assignment, held)
        if held:
            self._ports.hold(held)
            return held
        ports = assignment.version.ports
        if on_host_network(assignment):
            return tuple(HostPort(target=p.target, port=p.target, transport=p.transport) for p in ports)
        return self._ports.pick(ports)

    async def start(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Started:
        task_id = assignment.id
        log = self._open_log(assignment)
        tty = assignment.version.task.container.tty
        root = await self._images.mounts(task_id)
        async with self._starting:
            try:
                pid = await self._client.tasks.create(
                    task_id,
                    rootfs=root,
                    stdin=str(self._files(task_id).stdin()) if assignment.stdin else "",
                    stdout=str(log.fifo(Stream.STDOUT)),
                    stderr="" if tty else str(log.fifo(Stream.STDERR)),
                    terminal=tty,
                )
            except SwarmError as error:
                if error.code is not Code.ALREADY_EXISTS:
                    raise start_failure(error) from error
                return await self._go_on(task_id)
            return await self._run(task_id, pid)

    async def _run(self, task_id: str, pid: int) -> Started:
        """Run the program of a task that has been created, whose first process waits for that."""
        started = Started(pid, start_time(pid))
        self._watch.note(task_id, pid)
        size = self.window_sizes.pop(task_id, None)
        try:
            if size is not None:
                await self._client.tasks.resize(task_id, *size)
            await self._client.tasks.start(task_id)
        except SwarmError as error:
            raise start_failure(error) from error
        return started

    async def _go_on(self, task_id: str) -> Started:
        """A former attempt, whose answer was lost, had made the task: go on from there."""
        process = await self._client.tasks.get(task_id)
        self._watch.note(task_id, process.pid)
        if process.status is ProcessStatus.CREATED:
            return await self._run(task_id, process.pid)
        if process.status is ProcessStatus.STOPPED and self._listener is not None:
            await self._watch.tell(self._listener, task_id, process.exited or Exited(0, self._clock.now()))
        return Started(process.pid, start_time(process.pid))

    def stop_signal(self, assignment: Assignment) -> int:
        wanted = assignment.version.task.container.stop_signal
        config = self._config(assignment.id)
        return signal_number(wanted or (config.stop_signal if config is not None else ""))

    async def signal(self, task_id: str, number: int) -> None:
        self._signalled.add(task_id)
        delivered = await self._client.tasks.kill(task_id, number)
        if delivered and number == signal.SIGKILL:
            process = await self._client.tasks.get(task_id)
            if process.status is ProcessStatus.PAUSED:
                await self._client.tasks.resume(task_id)  # a frozen process dies when it thaws

    def health_plan(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> HealthPlan:
        container = assignment.version.task.container
        config = self._config(assignment.id)
        default = image_health(config.healthcheck) if config is not None and config.healthcheck is not None else None
        made = plan(container, target_ports(host_ports), image=default, any_port=True)
        return HealthPlan(made.health) if assignment.local else made  # nobody waits for its readiness

    async def probe(self, assignment: Assignment, host_ports: tuple[HostPort, ...], check: Check) -> ProbeResult:
        files = self._files(assignment.id)
        if check.kind in (CheckKind.COMMAND, CheckKind.SHELL):
            return await self._probes.run(assignment.id, files, check)
        attachment = files.attachment()
        address = attachment.address if attachment is not None and attachment.address else self._data_addr
        return await (probe_tcp if check.kind is CheckKind.TCP else probe_http)(check, address)

    def adopt(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        if assignment.local:
            self._bindings.hold(assignment, host_ports)
        else:
            self._ports.hold(host_ports)
        try:
            self._directories.make(assignment.id, None)
            self._open_log(assignment)
        except SwarmError as error:
            # The task goes on without a log, as it would have on a full disk.
            _log.error("log of a running container cannot be taken up", task=assignment.id, error=str(error))

    async def release(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        await self._ending.release(assignment.id)
        self._release_ports(assignment, host_ports)
        self._forget(assignment.id)

    async def remove(self, task_id: str) -> None:
        await self._ending.remove(task_id)
        self._forget(task_id)

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        await self._ending.sweep(is_held)

    def _forget(self, task_id: str) -> None:
        self._configs.pop(task_id, None)
        self._signalled.discard(task_id)
        self._watch.forget(task_id)

    def _files(self, task_id: str) -> ContainerFiles:
        return ContainerFiles(self._directories.task(task_id))

    def _config(self, task_id: str) -> ImageConfig | None:
        """Return the config of the image that the task was prepared with; None before that."""
        if task_id not in self._configs:
            config = self._files(task_id).image_config()
            if config is None:
                return None
            self._configs[task_id] = config
        return self._configs[task_id]

    def _open_log(self, assignment: Assignment, owner: tuple[int, int] | None = None) -> TaskLog:
        try:
            return self._logs.open(assignment.id, assignment.version.task.log_driver, owner)
        except OSError as error:
            raise disk_error(self._directories.task(assignment.id), error) from error


def on_host_network(assignment: Assignment) -> bool:
    """Whether the task has no network namespace of its own."""
    return any(attachment.target == network.HOST for attachment in assignment.version.task.networks)


def start_time(pid: int) -> int:
    """Return a process's start time in clock ticks since boot; 0 if it has gone."""
    stat = proc.read_stat(pid)
    return stat.start_time if stat is not None else 0
