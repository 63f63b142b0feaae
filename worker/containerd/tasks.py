"""Tasks: containers that run. An empty `exec_id` means a container's first process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from swarmpy.errors import Code, SwarmError, invalid, precondition
from worker.containerd.api import task_pb2
from worker.containerd.api import tasks_pb2 as pb
from worker.containerd.api.tasks_pb2_grpc import TasksStub
from worker.containerd.containers import oci_object, runc_options
from worker.containerd.metrics import read_metrics
from worker.containerd.mounts import to_messages
from worker.containerd.transport import SLOW_S, Transport, seconds
from worker.containerd.types import Exited, Mount, Process, ProcessStatus, RuncOptions, TaskMetrics

_STATUS: Final = {
    task_pb2.CREATED: ProcessStatus.CREATED,
    task_pb2.RUNNING: ProcessStatus.RUNNING,
    task_pb2.STOPPED: ProcessStatus.STOPPED,
    task_pb2.PAUSED: ProcessStatus.PAUSED,
    task_pb2.PAUSING: ProcessStatus.PAUSING,
}
_ALIVE: Final = frozenset({ProcessStatus.RUNNING, ProcessStatus.PAUSED, ProcessStatus.PAUSING})


class Tasks:
    """The tasks of one namespace. Each call names a container, and fails with NOT_FOUND if it has no task."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = TasksStub(transport.channel)

    async def create(
        self,
        container_id: str,
        *,
        rootfs: Sequence[Mount],
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        terminal: bool = False,
        runc: RuncOptions | None = None,
    ) -> int:
        """Make the task of a container, up to but not including its program; return the pid that the program gets.

        Args:
            rootfs: what the shim mounts as the root; nothing if the spec's root path is mounted already.
            stdin, stdout, stderr: paths of FIFOs, which the shim opens; all empty for /dev/null. One output needs the
                other, unless there is a terminal, which has standard output only.
            runc: other options than the container's.
        """
        _check_streams(container_id, stdin, stdout, stderr, terminal=terminal)
        request = pb.CreateTaskRequest(
            container_id=container_id,
            rootfs=to_messages(rootfs),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            terminal=terminal,
            options=None if runc is None else runc_options(runc),
        )
        what = f"create the task of container {container_id}"
        return (await self._transport.call(self._stub.Create, request, what, SLOW_S)).pid

    async def start(self, container_id: str, exec_id: str = "") -> int:
        """Run the program of a task or process that has been created; return its pid."""
        request = pb.StartRequest(container_id=container_id, exec_id=exec_id)
        what = f"start {_name(container_id, exec_id)}"
        return (await self._transport.call(self._stub.Start, request, what, SLOW_S)).pid

    async def kill(self, container_id: str, signal: int, *, exec_id: str = "", all_processes: bool = False) -> bool:
        """Send a signal; return False if there is nothing left to take it."""
        request = pb.KillRequest(container_id=container_id, exec_id=exec_id, signal=signal, all=all_processes)
        try:
            await self._transport.call(self._stub.Kill, request, f"signal {_name(container_id, exec_id)}")
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return False
            raise
        return True

    async def wait(self, container_id: str, exec_id: str = "") -> Exited:
        """Wait, as long as it takes, until the process has ended; UNAVAILABLE if containerd goes: call again."""
        request = pb.WaitRequest(container_id=container_id, exec_id=exec_id)
        what = f"wait for {_name(container_id, exec_id)}"
        answer = await self._transport.call(self._stub.Wait, request, what, None)
        return Exited(answer.exit_status, seconds(answer.exited_at))

    async def delete(self, container_id: str) -> Exited:
        """Delete a stopped task: unmounts its root and ends its shim. FAILED_PRECONDITION while it runs."""
        request = pb.DeleteTaskRequest(container_id=container_id)
        what = f"delete the task of container {container_id}"
        try:
            answer = await self._transport.call(self._stub.Delete, request, what, SLOW_S)
        except SwarmError as error:
            # The shim says that it runs in words only.
            if error.code is Code.INTERNAL and (await self.get(container_id)).status in _ALIVE:
                raise precondition(error.message) from error
            raise
        return Exited(answer.exit_status, seconds(answer.exited_at))

    async def delete_process(self, container_id: str, exec_id: str) -> Exited:
        """Forget a further process that has ended."""
        request = pb.DeleteProcessRequest(container_id=container_id, exec_id=exec_id)
        what = f"delete {_name(container_id, exec_id)}"
        answer = await self._transport.call(self._stub.DeleteProcess, request, what, SLOW_S)
        return Exited(answer.exit_status, seconds(answer.exited_at))

    async def get(self, container_id: str, exec_id: str = "") -> Process:
        """Return what the runtime says of one process."""
        request = pb.GetRequest(container_id=container_id, exec_id=exec_id)
        answer = await self._transport.call(self._stub.Get, request, f"look up {_name(container_id, exec_id)}")
        return _process(answer.process, container_id, exec_id)

    async def list(self) -> tuple[Process, ...]:
        """Return the first process of each task."""
        answer = await self._transport.call(self._stub.List, pb.ListTasksRequest(), "list tasks", SLOW_S)
        return tuple(_process(message, message.container_id or message.id, "") for message in answer.tasks)

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
        """Make a further process of a running task; `start` runs it.

        Args:
            process: `process` of an OCI runtime spec.
        """
        _check_streams(container_id, stdin, stdout, stderr, terminal=terminal)
        request = pb.ExecProcessRequest(
            container_id=container_id,
            exec_id=exec_id,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            terminal=terminal,
            spec=oci_object("Process", process),
        )
        await self._transport.call(self._stub.Exec, request, f"create {_name(container_id, exec_id)}", SLOW_S)

    async def resize(self, container_id: str, width: int, height: int, *, exec_id: str = "") -> None:
        """Set the size of a process's terminal, in characters."""
        request = pb.ResizePtyRequest(container_id=container_id, exec_id=exec_id, width=width, height=height)
        await self._transport.call(
            self._stub.ResizePty, request, f"resize the terminal of {_name(container_id, exec_id)}"
        )

    async def close_stdin(self, container_id: str, *, exec_id: str = "") -> None:
        """Have the shim let go of its writing end, so that the process reads the end of its input."""
        request = pb.CloseIORequest(container_id=container_id, exec_id=exec_id, stdin=True)
        await self._transport.call(
            self._stub.CloseIO, request, f"close the standard input of {_name(container_id, exec_id)}"
        )

    async def pause(self, container_id: str) -> None:
        """Freeze all processes of a task."""
        request = pb.PauseTaskRequest(container_id=container_id)
        await self._transport.call(self._stub.Pause, request, f"pause container {container_id}")

    async def resume(self, container_id: str) -> None:
        """Let a frozen task go on."""
        request = pb.ResumeTaskRequest(container_id=container_id)
        await self._transport.call(self._stub.Resume, request, f"resume container {container_id}")

    async def pids(self, container_id: str) -> tuple[int, ...]:
        """Return all processes of a task, as the host numbers them."""
        request = pb.ListPidsRequest(container_id=container_id)
        answer = await self._transport.call(self._stub.ListPids, request, f"list the processes of {container_id}")
        return tuple(process.pid for process in answer.processes)

    async def update(self, container_id: str, resources: Mapping[str, object]) -> None:
        """Change the limits of a running task.

        Args:
            resources: `linux.resources` of an OCI runtime spec.
        """
        request = pb.UpdateTaskRequest(container_id=container_id, resources=oci_object("LinuxResources", resources))
        await self._transport.call(self._stub.Update, request, f"change the limits of container {container_id}")

    async def metrics(self, *container_ids: str) -> Mapping[str, TaskMetrics]:
        """Return figures of these tasks, or of all; those that are gone are left out."""
        request = pb.MetricsRequest(filters=[f"id=={json.dumps(name)}" for name in container_ids])
        answer = await self._transport.call(self._stub.Metrics, request, "read the figures of tasks", SLOW_S)
        return {metric.id: read_metrics(metric.id, seconds(metric.timestamp), metric.data) for metric in answer.metrics}


def _check_streams(container_id: str, stdin: str, stdout: str, stderr: str, *, terminal: bool) -> None:
    """Refuse what the shim would fail over only once the process is to run."""
    if (stdin or stdout or stderr) and not (stdout and (stderr or terminal)):
        raise invalid(f"container {container_id} is given a part of its standard streams: give both outputs or none")


def _name(container_id: str, exec_id: str) -> str:
    return f"process {exec_id} of container {container_id}" if exec_id else f"container {container_id}"


def _process(message: task_pb2.Process, container_id: str, exec_id: str) -> Process:
    status = _STATUS.get(message.status, ProcessStatus.UNKNOWN)
    stopped = status is ProcessStatus.STOPPED
    return Process(
        container_id=container_id,
        exec_id=exec_id,
        pid=message.pid,
        status=status,
        stdin=message.stdin,
        stdout=message.stdout,
        stderr=message.stderr,
        terminal=message.terminal,
        exited=Exited(message.exit_status, seconds(message.exited_at)) if stopped else None,
    )
