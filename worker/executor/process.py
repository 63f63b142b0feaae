"""Runs tasks as plain processes of this node, started by the task host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from swarmpy.errors import Code, SwarmError, not_supported
from swarmpy.model.endpoints import HostPort
from worker.assignments import Assignment
from worker.executor.container.files import HOSTNAME_CHARACTERS, ContainerFiles
from worker.executor.container.parts import Networks
from worker.executor.directories import TaskDirectories, disk_error
from worker.executor.host import HostLink, plain_exit
from worker.executor.limits import Cgroups
from worker.executor.node import NodeFacts
from worker.executor.plan import ProcessPlan, has_own_network, plan_process, target_ports
from worker.executor.ports import PortPool
from worker.executor.protocol import Listener, Started
from worker.health.checks import Check, CheckKind, HealthPlan, plan
from worker.health.probe import ProbeResult
from worker.health.probers import probe_http, probe_tcp
from worker.logs.format import Stream
from worker.logs.store import LogStore, TaskLog
from worker.network.attachment import Attachment
from worker.task.outcome import Exit, signal_number
from worker.taskhost.client import ExecRequest, StartRequest, TaskExit

MOST_PROBES: Final = 32
_LONGEST_OUTPUT_BYTES: Final = 4096
_log = structlog.get_logger()


class ProcessExecutor:
    """The executor of runtime PROCESS. See `worker.executor.protocol.Executor` for what its methods promise."""

    def __init__(
        self,
        *,
        link: HostLink,
        directories: TaskDirectories,
        logs: LogStore,
        ports: PortPool,
        cgroups: Cgroups,
        node: Callable[[], NodeFacts],
        may_switch: bool,
        networks: Networks | None = None,
    ) -> None:
        """
        Args:
            node: returns what tasks may know of the node, as of now.
            may_switch: whether the task host can start processes as other users.
            networks: joins tasks to networks; None where that cannot be done.
        """
        self._link = link
        self._directories = directories
        self._logs = logs
        self._ports = ports
        self._cgroups = cgroups
        self._node = node
        self._may_switch = may_switch
        self._networks = networks
        self._probing = asyncio.Semaphore(MOST_PROBES)

    async def run(self, listener: Listener) -> None:
        try:
            await self._link.run(listener, self._describe)
        finally:
            self._logs.close()

    def _describe(self, task_id: str, ended: TaskExit) -> Exit:
        log = self._logs.get(task_id)
        said = log.last_error_line() if log is not None else ""
        return replace(plain_exit(ended), oom_limit_bytes=self._cgroups.oom_limit(task_id), last_output=said)

    async def prepare(self, assignment: Assignment, held: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        process = self._plan(assignment, held)  # refuses before anything is made
        identity = process.identity
        owner = (identity.uid, identity.gid or 0) if identity.uid is not None else None
        self._directories.make(assignment.id, owner)
        self._open_log(assignment, owner)
        self._cgroups.create(assignment.id, assignment.version.task.limits)
        if held:
            self._ports.hold(held)
        ports = held or self._ports.pick(assignment.version.ports)
        if has_own_network(assignment):
            try:
                await self._attach(assignment, ports)
            except BaseException:
                if not held:
                    self._ports.release(ports)  # nobody else knows of them yet
                raise
        return ports

    async def _attach(self, assignment: Assignment, ports: tuple[HostPort, ...]) -> None:
        """Join the task's networks and write its name files."""
        if self._networks is None:
            raise not_supported("a process on networks on this node, which does not run as root")
        attachment = await self._networks.attach(assignment, ports)
        files = self._files(assignment.id)
        files.make()
        files.keep_attachment(attachment)
        hostname = assignment.id[:HOSTNAME_CHARACTERS]
        files.write_names(hostname, attachment, assignment.version.task.container.hosts)

    async def start(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> Started:
        process = self._plan(assignment, host_ports)
        log = self._open_log(assignment)
        request = StartRequest(
            id=assignment.id,
            argv=process.argv,
            env=process.env,
            cwd=process.cwd,
            uid=process.identity.uid,
            gid=process.identity.gid,
            groups=process.identity.groups,
            stdout=str(log.fifo(Stream.STDOUT)),
            stderr=str(log.fifo(Stream.STDERR)),
            ulimits=process.ulimits,
            cgroup_procs=self._cgroups.procs_files(assignment.id, assignment.version.task.limits),
            oom_score_adj=process.oom_score_adj,
            **self._apart(assignment),
        )
        host = self._link.host
        try:
            started = await host.start(request)
        except SwarmError as error:
            if error.code is not Code.ALREADY_EXISTS:
                raise
            # A former attempt, whose answer was lost, had started it.
            for row in await host.tasks():
                if row.id == assignment.id:
                    return Started(row.pid, row.start_time)
            raise
        return Started(started.pid, started.start_time)

    def stop_signal(self, assignment: Assignment) -> int:
        return signal_number(assignment.version.task.container.stop_signal)

    async def signal(self, task_id: str, number: int) -> None:
        await self._link.host.signal(task_id, number)

    def health_plan(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> HealthPlan:
        ports = target_ports(host_ports) if has_own_network(assignment) else host_ports
        return plan(assignment.version.task.container, ports)

    async def probe(self, assignment: Assignment, host_ports: tuple[HostPort, ...], check: Check) -> ProbeResult:
        if check.kind in (CheckKind.TCP, CheckKind.HTTP):
            attachment = self._attachment(assignment)
            address = attachment.address if attachment is not None else self._node().data_addr
            return await (probe_tcp if check.kind is CheckKind.TCP else probe_http)(check, address)
        async with self._probing:
            return await self._probe_command(assignment, host_ports, check)

    async def _probe_command(
        self, assignment: Assignment, host_ports: tuple[HostPort, ...], check: Check
    ) -> ProbeResult:
        """Run the check's command as the task itself would run: its environment, directory, user and limits."""
        try:
            process = self._plan(assignment, host_ports)
            request = ExecRequest(
                argv=check.argv,
                env=process.env,
                cwd=process.cwd,
                uid=process.identity.uid,
                gid=process.identity.gid,
                groups=process.identity.groups,
                cgroup_procs=self._cgroups.procs_files(assignment.id, assignment.version.task.limits),
                timeout_s=check.timeout_s,
                max_output=_LONGEST_OUTPUT_BYTES,
                **self._apart(assignment),
            )
            result = await self._link.host.exec(request)
        except SwarmError as error:
            return ProbeResult(False, f"the check could not be run: {error.message}")
        output = result.output.strip()
        if result.timed_out:
            return ProbeResult(False, output or f"the check took longer than {check.timeout_s:g} s")
        return ProbeResult(result.exit_code == 0, output or f"the check exited with code {result.exit_code}")

    def adopt(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        self._ports.hold(host_ports)
        try:
            self._directories.make(assignment.id, None)
            self._open_log(assignment)
        except SwarmError as error:
            # The task goes on without a log, as it would have on a full disk.
            _log.error("log of a running task cannot be taken up", task=assignment.id, error=str(error))

    async def release(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> None:
        self._logs.finish(assignment.id)
        if has_own_network(assignment):
            await self._detach(assignment.id)
        self._ports.release(host_ports)
        await self._cgroups.remove(assignment.id)
        await self._link.host.forget(assignment.id)

    async def remove(self, task_id: str) -> None:
        self._logs.finish(task_id)
        await self._detach(task_id)
        await self._cgroups.remove(task_id)
        await self._link.host.forget(task_id)
        await asyncio.to_thread(self._directories.remove, task_id)

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        for task_id in self._directories.present():
            if not is_held(task_id):  # asked late: tasks are assigned meanwhile
                await asyncio.to_thread(self._directories.remove, self._directories.set_aside(task_id))
        await self._cgroups.sweep(is_held)
        if self._networks is not None:
            await self._networks.sweep(is_held)

    async def _detach(self, task_id: str) -> None:
        if self._networks is not None:
            await self._networks.detach(task_id)

    def _files(self, task_id: str) -> ContainerFiles:
        return ContainerFiles(self._directories.task(task_id))

    def _attachment(self, assignment: Assignment) -> Attachment | None:
        """Return the task's place in the networks; None on the network of the node."""
        return self._files(assignment.id).attachment() if has_own_network(assignment) else None

    def _apart(self, assignment: Assignment) -> dict[str, Any]:
        """Return what has a program run in the task's namespace, with its name files in place of the machine's."""
        attachment = self._attachment(assignment)
        if attachment is None:
            return {}
        names = ("/etc/hosts", "/etc/resolv.conf")
        root = self._files(assignment.id).root
        return {"netns": attachment.netns, "binds": {name: str(root / Path(name).name) for name in names}}

    def _open_log(self, assignment: Assignment, owner: tuple[int, int] | None = None) -> TaskLog:
        try:
            return self._logs.open(assignment.id, assignment.version.task.log_driver, owner, name=assignment.name)
        except OSError as error:
            raise disk_error(self._directories.task(assignment.id), error) from error

    def _plan(self, assignment: Assignment, host_ports: tuple[HostPort, ...]) -> ProcessPlan:
        return plan_process(
            assignment,
            host_ports,
            self._node(),
            self._directories.work(assignment.id),
            may_switch=self._may_switch,
        )
