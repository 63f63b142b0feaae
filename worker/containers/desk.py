"""What a user may do with the containers of this node; those of services can be looked at, and run commands in."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, invalid, precondition
from swarmpy.ids import new_id
from swarmpy.model.container import Container, ContainerConfig, RestartKind, RestartRule
from swarmpy.model.endpoints import Transport
from swarmpy.model.states import Runtime
from swarmpy.registry.credentials import Credentials
from worker.assignments import Assignment
from worker.containers import life, names
from worker.containers.keeper import START_WITHIN_S, Keeper
from worker.containers.record import Record
from worker.containers.view import Seen, of_service, of_user, resolve
from worker.executor.container.assembly import Containers
from worker.executor.container.files import ContainerFiles
from worker.image.config import ImageConfig
from worker.image.types import PullEvent
from worker.logs.store import LogStore
from worker.oci.command import argv
from worker.task.outcome import signal_number
from worker.task.runner import TaskRunner

_TRANSPORTS: Final = {"tcp": Transport.TCP, "udp": Transport.UDP}
_SIGKILL: Final = 9


class Desk:
    """The containers of a node for its users. A `ref` is an id, a name, or a unique prefix of an id."""

    def __init__(
        self, keeper: Keeper, containers: Containers, runner: TaskRunner, logs: LogStore, clock: Clock
    ) -> None:
        self.keeper = keeper
        self.containers = containers
        self.logs = logs
        self.clock = clock
        self._runner = runner

    # Looking.

    def list(self, *, every: bool = False) -> list[Container]:
        """Return the containers that run, or all, the newest first."""
        mine = [self._of_user(record) for record in self.keeper.records.values() if every or record.is_running]
        tasks = [self._of_service(task) for task in self._service_tasks().values()]
        found = mine + [one for one in tasks if every or one.state.pid]
        return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)

    def find(self, ref: str) -> str:
        """Return the id of a container, of a user or of a service.

        Raises:
            SwarmError: NOT_FOUND; INVALID_ARGUMENT, several ids begin so.
        """
        known = {record.id: record.name for record in self.keeper.records.values()}
        known.update((task.id, task.name) for task in self._service_tasks().values())
        return resolve(ref, known)

    def get(self, ref: str) -> Container:
        container_id = self.find(ref)
        record = self.keeper.records.get(container_id)
        return self._of_user(record) if record is not None else self._of_service(self._service_tasks()[container_id])

    def running(self, ref: str) -> Container:
        """Return a container that runs.

        Raises:
            SwarmError: NOT_FOUND; FAILED_PRECONDITION, it does not run.
        """
        container = self.get(ref)
        if not container.state.pid:
            raise precondition(f"container {ref} is not running")
        return container

    def own(self, ref: str, what: str) -> Record:
        """Return a user's container.

        Raises:
            SwarmError: NOT_FOUND; FAILED_PRECONDITION, it belongs to a service, which would make another.
        """
        container_id = self.find(ref)
        record = self.keeper.records.get(container_id)
        if record is None:
            service = self._service_tasks()[container_id].version.name
            raise precondition(
                f"cannot {what} {ref}: it is a task of the service {service};"
                f" use `swarmpy service scale`, `update` or `rm` on {service}"
            )
        return record

    async def written_bytes(self, container_id: str) -> int:
        """Return the size of what a container has written into its own layer."""
        try:
            return (await (await self.containers.images.open()).usage(container_id)).size_bytes
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return 0
            raise

    def is_live(self, container_id: str) -> bool:
        """Tell whether a container's log may still grow."""
        record = self.keeper.records.get(container_id)
        if record is None:
            return self._runner.is_live(container_id)
        return record.is_live or bool(record.next_run_at) or not self._runner.may_run_again(container_id)

    def files(self, container_id: str) -> ContainerFiles:
        return ContainerFiles(self.logs.directory(container_id).parent)

    # Changing.

    async def create(
        self,
        name: str,
        config: ContainerConfig,
        *,
        pull: bool | None = None,
        auth: Credentials | None = None,
        watch: Callable[[PullEvent], None] | None = None,
    ) -> Container:
        """Make a container without starting it.

        Args:
            pull: True asks the registry even if the image is here, False never; None only if it is not here.
            watch: told how a pull goes on.

        Raises:
            SwarmError: ALREADY_EXISTS, the name is taken; NOT_FOUND, there is no such image; and what is wrong with the
                rest.
        """
        await self.keeper.ready.wait()
        taken = {record.name for record in self.keeper.records.values()}
        name = names.check(name) if name else names.made_up(self.keeper.rng, taken)
        self._refuse_taken(name)
        _check(config)
        images = await self.containers.images.open()
        reference = config.task.container.image
        if pull is False and not await self._is_here(reference):
            raise SwarmError(Code.NOT_FOUND, f"No such image: {reference}; leave --pull never out to have it pulled")
        await images.ensure(reference, auth=auth, refresh=pull is True, watch=watch)
        record = Record(
            id=new_id(os.urandom), name=name, config=config, created_at=self.clock.now(), bindings=config.ports
        )
        self._refuse_taken(name)
        self.keeper.add(record)
        try:
            image = await self.containers.executor.create(life.assignment(record))
        except BaseException:
            await asyncio.shield(self.keeper.remove(record.id))
            raise
        made = self.keeper.change(
            record,
            image_id=image.config_digest,
            command=argv(config.task.container, image.config),
            bindings=life.bindings_of(config, _exposed(image.config)),
            has_check=self._has_check(record),
        )
        return self._of_user(made)

    async def start(self, ref: str) -> Container:
        """Start a container and wait until its program runs; of one that runs it is done already.

        Raises:
            SwarmError: FAILED_PRECONDITION, it cannot be started; the sentence says why.
        """
        record = self.own(ref, "start")
        if record.removing:
            raise precondition(f"container {record.name} is being removed")
        if record.is_live and record.wanted:
            return self._of_user(record)
        await self.keeper.until(record.id, lambda: self.keeper.is_idle(record.id))
        run = self.keeper.begin(self.keeper.get(record.id).id, by_user=True).run
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await self.keeper.until(record.id, lambda: self._is_decided(record.id, run))
        except TimeoutError as error:
            status = self.keeper.status(record.id)
            self.keeper.withdraw(record.id)
            said = status.message if status is not None else "nothing is known of it"
            sentence = f"container {record.name} does not start within {START_WITHIN_S:g} s ({said})"
            raise SwarmError(Code.DEADLINE_EXCEEDED, sentence, retryable=False) from error
        now = self.keeper.records.get(record.id)
        if now is not None and now.started_run < run:
            raise precondition(now.error or f"container {record.name} was stopped before it was started")
        return self._of_user(now or record)

    def _is_decided(self, container_id: str, run: int) -> bool:
        record = self.keeper.records.get(container_id)
        return record is None or record.started_run >= run or record.ended_run >= run

    async def stop(self, ref: str, *, timeout_s: float | None = None, stop_signal: str = "") -> Container:
        """Stop a container by its stop signal, and after the time by SIGKILL; wait until it has ended.

        Args:
            timeout_s: None takes the container's own, below zero is without end.
        """
        record = self.own(ref, "stop")
        signal_number(stop_signal)
        await self._thaw(record)
        self.keeper.withdraw(record.id, grace_s=timeout_s, stop_signal=stop_signal)
        await self.keeper.until(record.id, lambda: self.keeper.is_idle(record.id))
        return self._of_user(self.keeper.records.get(record.id, record))

    async def restart(self, ref: str, *, timeout_s: float | None = None, stop_signal: str = "") -> Container:
        record = self.own(ref, "restart")
        with self.keeper.keeping(record.id):
            await self.stop(record.id, timeout_s=timeout_s, stop_signal=stop_signal)
            return await self.start(record.id)

    async def kill(self, ref: str, signal: str) -> Container:
        """Send a signal to a container's first process. One that is to end it holds off restarts."""
        record = self.own(ref, "kill")
        number = signal_number(signal or "SIGKILL")
        if not record.is_running:
            raise precondition(f"cannot kill container {ref}: container {record.id[:12]} is not running")
        ends = number in (_SIGKILL, self.containers.executor.stop_signal(life.assignment(record)))
        if ends:
            record = self.keeper.note(record, wanted=False, by_hand=True)
        await self.containers.executor.signal(record.id, number)
        if number == _SIGKILL:
            await self.keeper.until(record.id, lambda: self.keeper.is_idle(record.id))
        return self._of_user(self.keeper.records.get(record.id, record))

    async def pause(self, ref: str) -> Container:
        record = self.own(ref, "pause")
        if not record.is_running:
            raise precondition(f"container {ref} is not running")
        if record.paused:
            raise precondition(f"container {ref} is already paused")
        await self.containers.client.tasks.pause(record.id)
        return self._of_user(self.keeper.change(self.keeper.get(record.id), paused=True))

    async def unpause(self, ref: str) -> Container:
        record = self.own(ref, "unpause")
        if not record.paused:
            raise precondition(f"container {ref} is not paused")
        await self._thaw(record)
        return self._of_user(self.keeper.get(record.id))

    async def _thaw(self, record: Record) -> None:
        if record.paused:
            await self.containers.client.tasks.resume(record.id)
            self.keeper.note(self.keeper.get(record.id), paused=False)

    def rename(self, ref: str, name: str) -> Container:
        record = self.own(ref, "rename")
        name = names.check(name)
        self._refuse_taken(name)
        return self._of_user(self.keeper.change(record, name=name))

    def update(self, ref: str, rule: RestartRule) -> Container:
        """Give a container another restart rule."""
        record = self.own(ref, "update")
        config = msgspec.structs.replace(record.config, restart=rule)
        _check(config)
        return self._of_user(self.keeper.change(record, config=config))

    async def remove(self, ref: str, *, force: bool = False) -> Record:
        """Delete a container, one that runs with `force` only."""
        record = self.own(ref, "remove")
        if record.is_live and not force:
            state = "paused" if record.paused else "running"
            raise precondition(
                f'cannot remove container "{record.name}": container is {state}:'
                " stop the container before removing or force remove"
            )
        if record.is_live:
            self.keeper.withdraw(record.id, grace_s=0.0, stop_signal="SIGKILL")
            await self.keeper.until(record.id, lambda: self.keeper.is_idle(record.id))
        if self._is_kept(record):
            await self.keeper.remove(record.id)
        return record

    # Helpers.

    def _service_tasks(self) -> Mapping[str, Assignment]:
        assigned = self._runner.assignments
        return {i: a for i, a in assigned.items() if a.version.task.runtime is Runtime.CONTAINER}

    def _of_user(self, record: Record) -> Container:
        return of_user(record, self.keeper.status(record.id) if self._is_kept(record) else None, self._seen(record.id))

    def _is_kept(self, record: Record) -> bool:
        return record.id in self.keeper.records

    def _of_service(self, task: Assignment) -> Container:
        return of_service(task, self._runner.statuses[task.id], self._seen(task.id))

    def _seen(self, container_id: str) -> Seen:
        attachment = self.files(container_id).attachment()
        path = self.logs.directory(container_id) / "json.log"
        return Seen(attachment.address if attachment is not None else "", str(path) if path.exists() else "")

    def _refuse_taken(self, name: str) -> None:
        for record in self.keeper.records.values():
            if record.name == name:
                raise SwarmError(
                    Code.ALREADY_EXISTS,
                    f'Conflict. The container name "{name}" is already in use by container "{record.id[:12]}":'
                    " remove (or rename) that container to be able to reuse that name",
                )

    async def _is_here(self, reference: str) -> bool:
        images = await self.containers.images.open()
        return await images.is_here(reference)

    def _has_check(self, record: Record) -> bool:
        return self.containers.executor.health_plan(life.assignment(record), ()).health is not None


def _exposed(config: ImageConfig) -> tuple[tuple[int, Transport], ...]:
    ports = []
    for text in config.exposed_ports:
        number, _, protocol = text.partition("/")
        if number.isdigit() and (protocol or "tcp") in _TRANSPORTS:
            ports.append((int(number), _TRANSPORTS[protocol or "tcp"]))
    return tuple(ports)


def _check(config: ContainerConfig) -> None:
    rule = config.restart
    if config.auto_remove and rule.kind is not RestartKind.NO:
        raise invalid("a container cannot be removed by --rm when it ends and restarted by --restart: choose one")
    if rule.most and rule.kind is not RestartKind.ON_FAILURE:
        raise invalid("the number of restarts means something for --restart on-failure only")
    if not config.task.container.image:
        raise invalid("an image is needed")
    if not math.isfinite(config.task.container.stop_grace_period_s):
        raise invalid("the stop timeout is not a number")
