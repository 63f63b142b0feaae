"""Calls about the containers of this node."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

from swarmpy.api.v1 import containers_pb2 as pb
from swarmpy.client.call import Caller
from swarmpy.client.results import LogLine
from swarmpy.client.sessions import ContainerSession
from swarmpy.model.base import Model
from swarmpy.model.container import Container, ContainerConfig, RestartRule
from swarmpy.wire.convert import fill, from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.containers_pb2_grpc import ContainersAsyncStub  # a name of the stubs only

PULL_TIMEOUT_S: Final = 24 * 3600.0
STOP_TIMEOUT_S: Final = 24 * 3600.0
"""How long a container may take to stop is its own business."""
START_TIMEOUT_S: Final = 90.0
COPY_BYTES: Final = 256 * 1024
M = TypeVar("M", bound=Model)


class Pull(enum.IntEnum):
    """When an image is asked for at its registry."""

    MISSING = 0
    ALWAYS = 1
    NEVER = 2


class WaitFor(enum.IntEnum):
    NOT_RUNNING = 0
    NEXT_EXIT = 1
    REMOVED = 2


class PullStep(Model, frozen=True):
    """How far a part of a pull is; `digest` is empty for the image as a whole."""

    reference: str = ""
    digest: str = ""
    stage: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


class ContainerFigures(Model, frozen=True):
    """What a container uses. `cpu_ratio` 1 is one core; the rest are counts since its start."""

    id: str = ""
    name: str = ""
    cpu_ratio: float = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    pids: int = 0
    running: bool = False


class ContainerProcess(Model, frozen=True):
    """A process in a container, by its numbers on the node. `started_at` is wall seconds."""

    pid: int = 0
    parent_pid: int = 0
    user: str = ""
    started_at: float = 0.0
    cpu_s: float = 0.0
    terminal: str = ""
    command: str = ""


class FileStat(Model, frozen=True):
    """A file in a container; `mode` has its kind, too."""

    name: str = ""
    size_bytes: int = 0
    mode: int = 0
    directory: bool = False
    link_target: str = ""


class FileChange(Model, frozen=True):
    """`kind` is A (added), C (changed) or D (deleted)."""

    kind: str = ""
    path: str = ""


class Containers:
    """`client.containers`. A `ref` is an id, a name, or a unique prefix of an id."""

    def __init__(self, stub: ContainersAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def create(
        self,
        config: ContainerConfig,
        *,
        name: str = "",
        pull: Pull = Pull.MISSING,
        credentials: tuple[str, str, str] = ("", "", ""),
        watch: Callable[[PullStep], None] | None = None,
    ) -> Container:
        """Make a container without starting it; its image is pulled if that is needed.

        Args:
            credentials: user name, password and identity token for the registry.
            watch: told how the pull goes on.
        """
        username, password, token = credentials
        request = pb.CreateContainerRequest(
            name=name,
            pull=pb.PullPolicy.ValueType(pull),
            username=username,
            password=password,
            identity_token=token,
        )
        request.config.SetInParent()
        fill(request.config, config)
        made: Container | None = None
        answers = self._call.stream(lambda: self._stub.Create(request), _same, PULL_TIMEOUT_S)
        async with aclosing(answers):
            async for answer in answers:
                if answer.WhichOneof("answer") == "step":
                    if watch is not None:
                        watch(_plain(answer.step, PullStep))
                else:
                    made = from_proto(answer.container, Container)
        assert made is not None, "the last answer has the container"
        return made

    async def start(self, ref: str) -> Container:
        """Start a container, and return it once its program runs."""
        return await self._change(self._stub.Start, pb.ContainerRequest(ref=ref), START_TIMEOUT_S)

    async def stop(self, ref: str, *, timeout_s: float | None = None, signal: str = "") -> Container:
        """Stop a container and wait until it has ended; `timeout_s` None is its own, below zero without end."""
        return await self._change(self._stub.Stop, _stopping(ref, timeout_s, signal), STOP_TIMEOUT_S)

    async def restart(self, ref: str, *, timeout_s: float | None = None, signal: str = "") -> Container:
        return await self._change(self._stub.Restart, _stopping(ref, timeout_s, signal), STOP_TIMEOUT_S)

    async def kill(self, ref: str, signal: str = "") -> Container:
        """Send a signal, SIGKILL if none is named."""
        return await self._change(self._stub.Kill, pb.KillContainerRequest(ref=ref, signal=signal))

    async def pause(self, ref: str) -> Container:
        return await self._change(self._stub.Pause, pb.ContainerRequest(ref=ref))

    async def unpause(self, ref: str) -> Container:
        return await self._change(self._stub.Unpause, pb.ContainerRequest(ref=ref))

    async def rename(self, ref: str, name: str) -> Container:
        return await self._change(self._stub.Rename, pb.RenameContainerRequest(ref=ref, name=name))

    async def update(self, ref: str, restart: RestartRule) -> Container:
        """Give a container another restart rule."""
        request = pb.UpdateContainerRequest(ref=ref)
        request.restart.SetInParent()
        fill(request.restart, restart)
        return await self._change(self._stub.Update, request)

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> str:
        """Delete a container and return its id; one that runs with `force` only."""
        request = pb.RemoveContainerRequest(ref=ref, force=force, volumes=volumes)
        return (await self._call(self._stub.Remove, request, START_TIMEOUT_S)).id

    async def list(self, *, every: bool = False, sizes: bool = False) -> list[Container]:
        """Return the containers that run, or all, the newest first."""
        answer = await self._call(self._stub.List, pb.ListContainersRequest(all=every, sizes=sizes))
        return [from_proto(one, Container) for one in answer.containers]

    async def get(self, ref: str, *, size: bool = False) -> Container:
        return await self._change(self._stub.Get, pb.GetContainerRequest(ref=ref, size=size))

    async def wait(self, ref: str, condition: WaitFor = WaitFor.NOT_RUNNING) -> int:
        """Wait for a container's end, or its removal, and return its exit code."""
        request = pb.WaitContainerRequest(ref=ref, condition=pb.WaitCondition.ValueType(condition))
        return (await self._call(self._stub.Wait, request, STOP_TIMEOUT_S)).exit_code

    async def top(self, ref: str) -> Sequence[ContainerProcess]:
        answer = await self._call(self._stub.Top, pb.ContainerRequest(ref=ref))
        return [_plain(one, ContainerProcess) for one in answer.processes]

    async def stats(
        self, refs: Sequence[str] = (), *, interval_s: float = 0.0
    ) -> AsyncGenerator[Sequence[ContainerFigures]]:
        """Yield figures of containers (none named: of those that run), once or every `interval_s` seconds."""
        request = pb.ContainerStatsRequest(refs=refs, interval_s=interval_s)
        async with aclosing(self._call.stream(lambda: self._stub.Stats(request), _same)) as answers:
            async for answer in answers:
                yield [_plain(one, ContainerFigures) for one in answer.figures]

    async def logs(
        self, ref: str, *, follow: bool = False, tail: int | None = None, since: float = 0.0, until: float = 0.0
    ) -> AsyncGenerator[Sequence[LogLine]]:
        """Yield the lines of a container's log; `since` and `until` are wall seconds, 0 for no limit."""
        request = pb.ContainerLogsRequest(ref=ref, follow=follow, since=since, until=until)
        if tail is not None:
            request.tail = tail
        async with aclosing(self._call.stream(lambda: self._stub.Logs(request), _same)) as answers:
            async for answer in answers:
                yield [
                    LogLine(task_id="", node_id="", at=line.at, data=line.data, stderr=line.stderr)
                    for line in answer.lines
                ]

    async def attach(
        self,
        ref: str,
        *,
        start: bool = False,
        stdin: bool = False,
        output: bool = True,
        stderr: bool | None = None,
        size: tuple[int, int] | None = None,
    ) -> ContainerSession:
        """Attach to a container, starting it once its output is listened to if `start` says so."""
        errors = output if stderr is None else stderr
        begin = pb.AttachBegin(ref=ref, start=start, stdin=stdin, stdout=output, stderr=errors, size=_size(size))
        return await self._session(pb.StreamRequest(attach=begin))

    async def exec(
        self,
        ref: str,
        command: Sequence[str],
        *,
        env: Sequence[str] = (),
        workdir: str = "",
        user: str = "",
        tty: bool = False,
        stdin: bool = False,
        detach: bool = False,
        size: tuple[int, int] | None = None,
    ) -> ContainerSession:
        """Run a command in a container that runs."""
        begin = pb.ExecBegin(
            ref=ref,
            command=command,
            env=env,
            workdir=workdir,
            user=user,
            tty=tty,
            stdin=stdin,
            detach=detach,
            size=_size(size),
        )
        return await self._session(pb.StreamRequest(exec=begin))

    async def stat(self, ref: str, path: str, *, follow: bool = False) -> FileStat:
        """Return what a path in a container is."""
        request = pb.CopyOutRequest(ref=ref, path=path, follow_link=follow, stat_only=True)
        async with aclosing(self._call.stream(lambda: self._stub.CopyOut(request), _same)) as answers:
            async for answer in answers:
                return _plain(answer.stat, FileStat)
        raise AssertionError("the first answer has it")

    async def copy_out(self, ref: str, path: str, *, follow: bool = False) -> AsyncGenerator[bytes]:
        """Yield a tar archive with a file of a container, or a directory with all in it."""
        request = pb.CopyOutRequest(ref=ref, path=path, follow_link=follow)
        async with aclosing(self._call.stream(lambda: self._stub.CopyOut(request), _same)) as answers:
            async for answer in answers:
                if answer.WhichOneof("answer") == "data":
                    yield answer.data

    async def copy_in(
        self, ref: str, path: str, pieces: AsyncIterator[bytes], *, rename: str = "", owners: bool = False
    ) -> None:
        """Unpack a tar archive in a directory of a container; `rename` is what its top entry is called there."""

        async def requests() -> AsyncIterator[pb.CopyInRequest]:
            begin = pb.CopyInBegin(ref=ref, path=path, rename=rename, archive=owners)
            yield pb.CopyInRequest(begin=begin)
            async for piece in pieces:
                for at in range(0, len(piece), COPY_BYTES):
                    yield pb.CopyInRequest(data=piece[at : at + COPY_BYTES])

        async def send(
            request: Callable[[], AsyncIterator[pb.CopyInRequest]], *, timeout: float | None = None
        ) -> pb.CopyInResponse:
            return await self._stub.CopyIn(request(), timeout=timeout)

        await self._call(send, requests, STOP_TIMEOUT_S)

    async def diff(self, ref: str) -> Sequence[FileChange]:
        """Return what a container has changed in its image's files."""
        answer = await self._call(self._stub.Diff, pb.ContainerRequest(ref=ref))
        return [_plain(one, FileChange) for one in answer.changes]

    async def _session(self, first: pb.StreamRequest) -> ContainerSession:
        await self._call.check()
        return ContainerSession(self._stub.Attach, first)

    async def _change(self, method: Any, request: Any, timeout_s: float | None = None) -> Container:
        answer = await self._call(method, request, timeout_s)
        return from_proto(answer.container, Container)


def _stopping(ref: str, timeout_s: float | None, signal: str) -> pb.StopContainerRequest:
    request = pb.StopContainerRequest(ref=ref, signal=signal)
    if timeout_s is not None:
        request.timeout_s = timeout_s
    return request


def _size(size: tuple[int, int] | None) -> pb.WindowSize:
    width, height = size or (0, 0)
    return pb.WindowSize(width=width, height=height)


def _same(answer: Any) -> Any:
    return answer


def _plain(message: Any, kind: type[M]) -> M:
    """Return the struct with a message's fields, all of them plain."""
    return kind(**{name: getattr(message, name) for name in kind.__struct_fields__})
