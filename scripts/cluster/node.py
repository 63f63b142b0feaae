"""One node: a swarmpyd with everything that it starts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from scripts.cluster import processes
from scripts.cluster.waiting import until
from swarmpy.client import Client
from swarmpy.daemon.client import SupervisorClient, socket_path
from swarmpy.errors import SwarmError

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = Path(sys.executable).with_name("swarmpy")
STOP_TASKS: Final = ("--stop-tasks",)
STOP_DEADLINE_S: Final = 40.0
ANSWER_DEADLINE_S: Final = 60.0
COMMAND_DEADLINE_S: Final = 60.0


@dataclass(frozen=True)
class Place:
    """Where a node is on the network.

    Args:
        address: its own, as other nodes reach it.
        enter: a command that is given another one as its arguments, and becomes it, at this place.
        shared: whether other programs may listen at the address, too.
    """

    address: str
    enter: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Output:
    """What a command of the command line did."""

    status: int
    out: str
    err: str


class Node:
    """Made by `Cluster`, or alone for a node that is to be in no cluster. Processes are killed by pid only."""

    def __init__(
        self,
        name: str,
        place: Place,
        state_dir: Path,
        *,
        log_path: Path | None = None,
        options: Sequence[str] = STOP_TASKS,
        environ: Mapping[str, str] = os.environ,
        wrap: Sequence[str] = (),
    ) -> None:
        """
        Args:
            log_path: takes standard error of the node's processes; None is beside the state directory.
            options: of swarmpyd, beside state directory and address.
            environ: of its processes; `environ` may be changed before a restart.
            wrap: a command that is given swarmpyd's as its arguments, and becomes it.
        """
        self.name = name
        self.place = place
        self.state_dir = state_dir
        self.log_path = log_path or state_dir.with_name(f"{state_dir.name}.log")
        self.daemon: subprocess.Popen[bytes] | None = None
        self._mark = uuid.uuid4().hex
        self._options = tuple(options)
        self._wrap = tuple(wrap)
        self.environ: dict[str, str] = {**environ, "PYTHONPATH": str(ROOT)}
        self._client: Client | None = None

    @property
    def address(self) -> str:
        return self.place.address

    # Talking to it.

    @property
    def client(self) -> Client:
        """A client of this node that is kept until `close`; needs a running event loop."""
        if self._client is None:
            self._client = self.connect()
        return self._client

    def connect(self, *, timeout_s: float = 10.0) -> Client:
        """Return a new client of this node; needs a running event loop, and the caller closes it."""
        return Client.connect(state_dir=self.state_dir, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close the client that is kept."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def cli(self, *words: str, check: bool = True, timeout_s: float = COMMAND_DEADLINE_S) -> Output:
        """Run a command of the command line on this node.

        Raises:
            RuntimeError: its exit status is not 0, and `check` is set; TimeoutError: it does not end.
        """
        command = [str(PROGRAM), "--state-dir", str(self.state_dir), *words]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, env=self.environ, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None, "it has ended"
        if check and process.returncode:
            raise RuntimeError(f"`swarmpy {' '.join(words)}` on {self.name} failed: {err.decode().strip()}")
        return Output(process.returncode, out.decode(), err.decode())

    def supervisor(self) -> SupervisorClient:
        """Return a client of the node's swarmpyd; use it as a context manager."""
        return SupervisorClient(socket_path(self.state_dir))

    def status(self) -> dict[str, Any]:
        """Return what the supervisor says of its processes."""
        with self.supervisor() as client:
            return client.status()

    def log(self) -> str:
        """Return what the node's processes wrote to standard error."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    # Its life.

    def start(self) -> None:
        """Start swarmpyd; `ready` waits until the node answers. What a killed one left running is adopted."""
        command = [sys.executable, "-m", "swarmpy.daemon", "--state-dir", str(self.state_dir), "--addr", self.address]
        environ = {**self.environ, processes.MARK: self._mark, "SWARMPY_HOSTNAME": self.name}
        with self.log_path.open("ab") as log:
            # A session of its own: an interrupt at the terminal is for whoever runs the cluster, which then stops it.
            self.daemon = subprocess.Popen(
                [*self.place.enter, *self._wrap, *command, *self._options],
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Wait until the node's supervisor and worker answer.

        Raises:
            RuntimeError: swarmpyd ended instead; TimeoutError: it does not answer.
        """
        async with self.connect() as client:
            await until(lambda: self._answers(client), what=f"{self.name} answers", deadline_s=ANSWER_DEADLINE_S)

    async def _answers(self, client: Client) -> bool:
        if self.daemon is not None and self.daemon.poll() is not None:
            raise RuntimeError(f"swarmpyd of {self.name} ended:\n{self.log()}")
        try:
            await client.node.info(timeout_s=2.0)
            return self.daemon is None or bool(self.status()["pid"] == self.daemon.pid)
        except SwarmError:
            return False

    async def restart(self) -> None:
        """Stop the node as an operator does and start it again; returns when it answers."""
        await self.close()
        self.terminate()
        await asyncio.to_thread(self.stopped)
        self.start()
        await self.ready()

    def terminate(self) -> None:
        """Ask swarmpyd to stop; `stopped` waits for it."""
        self.thaw()
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()

    def stopped(self) -> list[str]:
        """Wait until swarmpyd has ended; return a line for everything that it left. Processes left are killed."""
        if self.daemon is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.wait(STOP_DEADLINE_S)
        left = self.leftovers()
        self.vanish()
        return left

    # Its processes.

    def pids(self) -> dict[str, int]:
        """Return the pids of the node's own processes that run, by name: swarmpyd, worker, manager and so on."""
        found = processes.recorded(self.state_dir)
        if self.daemon is not None and self.daemon.poll() is None:
            found["swarmpyd"] = self.daemon.pid
        return found

    def pid(self, process: str) -> int:
        """Return the pid of one of the node's own processes. RuntimeError: it does not run."""
        try:
            return self.pids()[process]
        except KeyError:
            raise RuntimeError(f"{process} of {self.name} does not run") from None

    def manager_pid(self) -> int:
        return self.pid("manager")

    def processes(self) -> list[int]:
        """Return the pids of everything that belongs to the node and runs, its tasks included."""
        return processes.of_node(self.state_dir, self._mark)

    def kill(self, process: str) -> int:
        """Kill one process of the node by SIGKILL, wait for its death, and return its pid."""
        pid = self.pid(process)
        os.kill(pid, signal.SIGKILL)
        if process == "swarmpyd" and self.daemon is not None:
            self.daemon.wait(STOP_DEADLINE_S)
        else:
            processes.await_true(lambda: not processes.runs(pid), f"{process} of {self.name} is dead")
        return pid

    def vanish(self) -> None:
        """Kill the whole node with its tasks, as a power cut would; the kernel keeps nothing of it either."""
        if "swarmpyd" in self.pids():
            self.kill("swarmpyd")  # first, so that it starts nothing again
        processes.kill_all(self.processes)
        for top in self.cgroups():
            for directory in (*sorted(filter(Path.is_dir, top.rglob("*")), reverse=True), top):
                processes.await_true(partial(_removed, directory), f"{directory} is empty")

    def freeze(self, process: str = "") -> None:
        """Stop one process, or all of the node, where it is, as an overloaded machine would; `thaw` lets it go on."""
        processes.send([self.pid(process)] if process else self.processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let everything that is frozen go on."""
        processes.send(self.processes(), signal.SIGCONT)

    def replace(self, process: str) -> None:
        """Have the supervisor stop and start one process in good order."""
        with self.supervisor() as client:
            client.call("restart", process=process)

    # What it leaves.

    def leftovers(self) -> list[str]:
        """Return a line for everything that a stopped node should not have left behind."""
        left = [f"process {pid}: {processes.command_of(pid)}" for pid in self.processes()]
        left += [f"cgroup {path}" for path in self.cgroups()]
        left += [f"UNIX socket {line.split()[-1]}" for line in self._table("unix") if str(self.state_dir) in line]
        if not self.place.shared:
            left += [f"listening on {self.address}:{port}" for port in self.listening_ports()]
        return [f"{self.name}: {line}" for line in left]

    def cgroups(self) -> list[Path]:
        """Return this node's directories in the machine's cgroup hierarchies."""
        key = hashlib.sha256(str(self.state_dir.resolve()).encode()).hexdigest()[:12]
        top = Path("/sys/fs/cgroup")
        return [*top.glob(f"swarmpy/{key}"), *top.glob(f"*/swarmpy/{key}")]

    def listening_ports(self) -> list[int]:
        """Return the TCP ports on which somebody listens at this node's address."""
        wanted = bytes(map(int, self.address.split(".")))[::-1].hex().upper()
        fields = (line.split() for line in self._table("tcp"))
        return sorted(int(f[1].split(":")[1], 16) for f in fields if f[1].startswith(wanted) and f[3] == "0A")

    def _table(self, name: str) -> list[str]:
        """Return the rows of a table of the kernel's network, at this node's place."""
        command = [*self.place.enter, "cat", f"/proc/self/net/{name}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]


def _removed(cgroup: Path) -> bool:
    """Remove a control group; return whether it is gone. One whose processes have just died is busy yet."""
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True
