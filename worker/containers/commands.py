"""Commands that a user runs in a container beside its own program."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from swarmpy.errors import SwarmError, invalid, precondition
from swarmpy.ids import new_id
from swarmpy.model.container import ContainerStatus
from worker.containerd.types import Exited
from worker.containers.desk import Desk
from worker.containers.life import start_code
from worker.containers.pipes import Input, Output
from worker.containers.sessions import End, Event, Send, Session
from worker.executor.container.failures import start_failure
from worker.executor.container.rootfs import read_accounts
from worker.logs.format import Stream
from worker.oci.spec import exec_process
from worker.oci.users import resolve
from worker.task.outcome import signal_number

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Executing:
    """`env` holds `KEY=value`; an empty `workdir` or `user` is the container's own."""

    ref: str
    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    stdin: bool = False
    detach: bool = False
    size: tuple[int, int] | None = None


class Command:
    """One command in one container; it goes on when whoever started it leaves."""

    def __init__(self, desk: Desk, container_id: str, asked: Executing) -> None:
        self._desk = desk
        self._tasks = desk.containers.client.tasks
        self._id = container_id
        self._exec_id = f"exec-{new_id(os.urandom)}"
        self._asked = asked
        self._files = desk.files(container_id)
        self.output: Output | None = None
        self.stdin: Input | None = None

    async def start(self, process: Mapping[str, Any]) -> None:
        """
        Raises:
            SwarmError: it cannot be run; the sentence says why.
        """
        asked = self._asked
        paths = {"stdin": "", "stdout": "", "stderr": ""}
        if not asked.detach:
            stdout, stderr = self._files.fifos(self._exec_id)
            outputs = {Stream.STDOUT: stdout} if asked.tty else {Stream.STDOUT: stdout, Stream.STDERR: stderr}
            self.output = Output(outputs)
            paths.update(stdout=str(stdout), stderr="" if asked.tty else str(stderr))
            if asked.stdin:
                stdin = stdout.with_name("stdin")
                os.mkfifo(stdin, 0o600)
                self.stdin = Input(stdin)
                paths["stdin"] = str(stdin)
        try:
            await self._tasks.exec(self._id, self._exec_id, process, terminal=asked.tty, **paths)
            try:
                if asked.size is not None and asked.tty:
                    await self._tasks.resize(self._id, *asked.size, exec_id=self._exec_id)
                await self._tasks.start(self._id, self._exec_id)
            except BaseException:
                await asyncio.shield(self._forget())
                raise
        except SwarmError as error:
            self._close()
            raise start_failure(error) from error
        except BaseException:
            self._close()
            raise

    async def end(self) -> Exited:
        """Wait for the command's end, and take back what it had."""
        try:
            exited = await self._wait()
            if self.output is not None:
                self.output.flow()
            await self._forget()  # what the shim has yet to copy it copies before
            return exited
        finally:
            self._close()

    async def _wait(self) -> Exited:
        while True:
            try:
                return await self._tasks.wait(self._id, self._exec_id)
            except SwarmError as error:
                if not error.retryable:  # the container has ended with all that ran in it
                    return Exited(128 + signal.SIGKILL, 0.0)
                await asyncio.sleep(0.1)

    async def resize(self, width: int, height: int) -> None:
        await self._tasks.resize(self._id, width, height, exec_id=self._exec_id)

    async def signal(self, number_or_name: str) -> None:
        await self._tasks.kill(self._id, signal_number(number_or_name), exec_id=self._exec_id)

    async def close_stdin(self) -> None:
        await self._tasks.close_stdin(self._id, exec_id=self._exec_id)

    async def _forget(self) -> None:
        with suppress(SwarmError):
            await self._tasks.delete_process(self._id, self._exec_id)

    def _close(self) -> None:
        if self.stdin is not None:
            self.stdin.close()
        if self.output is not None:
            self.output.finish()
        self._files.remove_fifos(self._exec_id)


async def execute(
    desk: Desk,
    asked: Executing,
    events: AsyncIterator[Event],
    begin: Callable[[bool], Awaitable[None]],
    send: Send,
) -> End:
    """Run a command in a container that runs; return how it ended.

    Raises:
        SwarmError: NOT_FOUND; FAILED_PRECONDITION, the container does not run; INVALID_ARGUMENT.
    """
    container = desk.running(asked.ref)
    if container.state.status is ContainerStatus.PAUSED:
        raise precondition(f"container {asked.ref} is paused, unpause the container before exec")
    if not asked.command:
        raise invalid("a command is needed: give the program and its arguments")
    process = await _process(desk, container.id, container.state.pid, asked)
    command = Command(desk, container.id, asked)
    try:
        await command.start(process)
    except SwarmError as error:
        return End(start_code(error.message), error.message)
    ended: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()

    async def see_to_the_end() -> None:
        exited = await command.end()
        if not ended.done():
            ended.set_result(exited)

    desk.keeper.spawn(see_to_the_end())
    if command.output is None or command.output.tap is None:
        return End()
    try:
        await begin(asked.tty)
        if await Session(command, command.stdin, events).serve(command.output.tap, send):
            return End()
        return End((await ended).status)
    finally:
        command.output.leave()
        if command.stdin is not None and not asked.tty and not ended.done():
            command.stdin.close()
            with suppress(SwarmError):
                await command.close_stdin()


async def _process(desk: Desk, container_id: str, pid: int, asked: Executing) -> dict[str, Any]:
    """Return the OCI process of a command."""
    spec = await asyncio.to_thread(desk.files(container_id).spec)
    if spec is None:
        raise precondition(f"container {asked.ref} has lost its runtime spec; start it again")
    process = exec_process(spec, asked.command, terminal=asked.tty)
    env = _env(process["env"], asked.env, tty=asked.tty)
    if asked.user:
        accounts = await desk.containers.rootfs.within_process(pid, read_accounts)
        user = resolve(asked.user, (), accounts)
        process["user"] = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)}
        env["HOME"] = user.home
    process["env"] = [f"{name}={value}" for name, value in env.items()]
    if asked.workdir:
        process["cwd"] = asked.workdir
    return process


def _env(present: Sequence[str], wanted: Sequence[str], *, tty: bool) -> dict[str, str]:
    env = dict(pair.partition("=")[::2] for pair in present)
    if tty:
        env.setdefault("TERM", "xterm")
    env.update(pair.partition("=")[::2] for pair in wanted)
    return env
