"""The worker's client of the task host, for asyncio. It raises `SwarmError`.

It needs no task of its own: answers and exits are dealt with as they come in. When the task host goes, every
waiting call fails with UNAVAILABLE and `closed` is done; connect and subscribe again then, and exits that
were missed are pushed once more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from swarmpy.daemon.client import error_of
from swarmpy.errors import Code, SwarmError

SOCKET = "taskhost.sock"
_EXEC_MARGIN_S = 5.0  # beyond the probe's own timeout


def socket_path(state_dir: Path | str) -> Path:
    """Return where the task host of a state directory listens."""
    return Path(state_dir) / "run" / SOCKET


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """What to run. `stdout` and `stderr` are FIFOs; `ulimits` is name (as "nofile") to (soft, hard), -1 unlimited.

    With `netns`, the pin of a network namespace, the program is in it and sees the `binds` (name to source) in place of
    the machine's files.
    """

    id: str
    argv: Sequence[str]
    stdout: str
    stderr: str
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int | None = None
    gid: int | None = None
    groups: Sequence[int] = ()
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    cgroup_procs: Sequence[str] = ()
    oom_score_adj: int | None = None
    umask: int = 0o022
    netns: str | None = None
    binds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """A probe: killed with its process group after `timeout_s`, of its output the first `max_output` bytes kept."""

    argv: Sequence[str]
    timeout_s: float
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int | None = None
    gid: int | None = None
    groups: Sequence[int] = ()
    cgroup_procs: Sequence[str] = ()
    max_output: int = 4096
    netns: str | None = None
    binds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """The identity of a started task's leader; `start_time` is in clock ticks since boot."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class TaskExit:
    """`status` is a wait status (see os.waitstatus_to_exitcode), None when `lost`; `at_s` is wall seconds."""

    id: str
    pid: int
    status: int | None
    lost: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task as `list` shows it; `exit` is None while it runs. `started_at_s` is wall seconds."""

    id: str
    pid: int
    start_time: int
    started_at_s: float
    exit: TaskExit | None


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a probe ended; `exit_code` is minus the signal's number when a signal ended it."""

    exit_code: int
    timed_out: bool
    output: str


class TaskHostClient(asyncio.Protocol):
    """One connection; calls may overlap. `on_exit` is called for each exit after `subscribe`, in order."""

    def __init__(self, on_exit: Callable[[TaskExit], None], *, timeout_s: float) -> None:
        self._on_exit = on_exit
        self._timeout_s = timeout_s
        self._transport: asyncio.Transport | None = None
        self._read = bytearray()
        self._seq = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.closed: asyncio.Event = asyncio.Event()

    @classmethod
    async def connect(cls, path: Path, on_exit: Callable[[TaskExit], None], *, timeout_s: float = 10.0) -> Self:
        """Return a connected client; each of its calls must be answered within `timeout_s` seconds."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, client = await loop.create_unix_connection(lambda: cls(on_exit, timeout_s=timeout_s), str(path))
        except OSError as error:
            raise SwarmError(Code.UNAVAILABLE, f"cannot reach the task host at {path}: {error}") from error
        return client

    async def start(self, request: StartRequest) -> Started:
        """Start a task.

        Raises:
            SwarmError: NOT_FOUND, PERMISSION_DENIED or FAILED_PRECONDITION say why it does not run, and nothing
                is left of it; ALREADY_EXISTS, of a task that the host knows. After UNAVAILABLE it may run: ask `list`.
        """
        answer = await self._call(_operation("start", request), asdict(request))
        return Started(answer["pid"], answer["start_time"])

    async def signal(self, task_id: str, signum: int) -> bool:
        """Signal a task's process group; return whether there was anything to signal."""
        return bool((await self._call("signal", {"id": task_id, "signal": int(signum)}))["delivered"])

    async def tasks(self) -> list[TaskRow]:
        """Return the running tasks and the exited ones that are not forgotten."""
        return [_row(task) for task in (await self._call("list", {}))["tasks"]]

    async def forget(self, task_id: str) -> None:
        """Have an exited task dropped: its status is stored."""
        await self._call("forget", {"id": task_id})

    async def subscribe(self) -> None:
        """Hear of exits from now on, those that are not forgotten first."""
        await self._call("subscribe", {})

    async def exec(self, request: ExecRequest) -> ExecResult:
        """Run a probe to its end; cancelling the call does not stop it before its timeout."""
        answer = await self._call(
            _operation("exec", request), asdict(request), extra_s=request.timeout_s + _EXEC_MARGIN_S
        )
        return ExecResult(answer["exit_code"], answer["timed_out"], answer["output"])

    async def shutdown(self, *, grace_s: float = 10.0) -> None:
        """Have every task stopped by SIGTERM, by SIGKILL after `grace_s`, and the task host end itself."""
        await self._call("shutdown", {"grace_s": grace_s})

    async def close(self) -> None:
        """Close the connection; the tasks go on."""
        if self._transport:
            self._transport.close()
        await self.closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        *lines, rest = self._read.split(b"\n")
        self._read = rest
        for line in lines:
            self._received(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_gone())
        self._waiting.clear()
        self.closed.set()

    def _received(self, message: dict[str, Any]) -> None:
        if message.get("push") == "exit":
            self._on_exit(_exit(message))
            return
        waiting = self._waiting.pop(message.get("seq", 0), None)
        if waiting is None or waiting.done():
            return  # the caller has given up
        if message.get("ok"):
            waiting.set_result(message)
        else:
            waiting.set_exception(error_of(message))

    async def _call(self, op: str, fields: Mapping[str, object], *, extra_s: float = 0.0) -> dict[str, Any]:
        if self._transport is None:
            raise _gone()
        self._seq += 1
        seq = self._seq
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[seq] = waiting
        self._transport.write(json.dumps({**fields, "op": op, "seq": seq}).encode() + b"\n")
        try:
            async with asyncio.timeout(self._timeout_s + extra_s):
                return await waiting
        except TimeoutError as error:
            sentence = f"the task host did not answer {op!r} within {self._timeout_s + extra_s:g} s"
            raise SwarmError(Code.UNAVAILABLE, sentence) from error
        finally:
            self._waiting.pop(seq, None)


def _gone() -> SwarmError:
    return SwarmError(Code.UNAVAILABLE, "the connection to the task host is closed; it may be restarting, try again")


def _operation(name: str, request: StartRequest | ExecRequest) -> str:
    """Return an operation's name: a task host of before namespaces refuses it rather than leave the namespace out."""
    return f"{name}-in" if request.netns is not None else name


def _exit(message: Mapping[str, Any]) -> TaskExit:
    return TaskExit(message["id"], message["pid"], message["status"], message["lost"], message["at"])


def _row(task: Mapping[str, Any]) -> TaskRow:
    ended = _exit(task) if task["state"] == "exited" else None
    return TaskRow(task["id"], task["pid"], task["start_time"], task["started_at"], ended)
