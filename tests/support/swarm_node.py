"""One real node of a test's cluster: a swarmpyd with everything that it starts, and a clean end.

Killed processes are always named by pid: those that carry the node's mark in their environment, and its tasks, which
carry the state directory in theirs, in their arguments or as their working directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from swarmpy.client import Client
from swarmpy.daemon import proc
from swarmpy.daemon.client import SupervisorClient, socket_path
from tests.support.node_process import MARK, runs

STOP_DEADLINE_S: Final = 30.0
KEEP_LOGS_VARIABLE: Final = "SWARMPY_TEST_LOGS"
"""Names a directory that the nodes' logs are copied to, for a failure that has to be looked into."""


class SwarmNode:
    """Made by `Swarm`, or alone for a node that is to be in no cluster. `client` needs a running event loop.

    Args:
        state: its state directory, if it is not to have one of its own.
        wrap: a command that is given swarmpyd's as its arguments, and becomes it.
    """

    def __init__(self, name: str, addr: str, *, state: Path | None = None, wrap: Sequence[str] = ()) -> None:
        # Not pytest's directory: its path may be too long for a UNIX socket.
        self.directory = Path(tempfile.mkdtemp(prefix="swarmpy-"))
        self.state = state or self.directory / "state"
        self.name = name
        self.addr = addr
        self.wrap = wrap
        self.mark = uuid.uuid4().hex
        self.daemon: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """A client of this node, closed when the node stops."""
        if self._client is None:
            self._client = Client.connect(state_dir=self.state)
        return self._client

    def start(self) -> None:
        """Start swarmpyd; its worker answers a moment later."""
        env = {**os.environ, MARK: self.mark, "SWARMPY_HOSTNAME": self.name}
        options = ["--state-dir", str(self.state), "--addr", self.addr, "--stop-tasks"]
        with (self.directory / "log").open("ab") as log:
            command = [*self.wrap, sys.executable, "-m", "swarmpy.daemon", *options]
            self.daemon = subprocess.Popen(command, env=env, stderr=log)

    def status(self) -> dict[str, Any]:
        """Return what the supervisor says of its processes."""
        with SupervisorClient(socket_path(self.state)) as client:
            return client.status()

    def pid(self, process: str) -> int:
        """Return the pid of a process of this node that runs."""
        pid = self.status()["processes"][process]["pid"]
        assert isinstance(pid, int), f"{process} of {self.name} does not run"
        return pid

    def kill(self, process: str) -> int:
        """Kill one process of the node by SIGKILL, wait for its death, and return its pid."""
        pid = self.pid(process)
        os.kill(pid, signal.SIGKILL)
        _await(lambda: not runs(pid), f"{process} of {self.name} is dead")
        return pid

    def restart(self, process: str) -> None:
        """Have the supervisor stop and start one process in good order."""
        with SupervisorClient(socket_path(self.state)) as client:
            client.call("restart", process=process)

    def kill_supervisor(self) -> None:
        """Kill swarmpyd itself; what it started goes on, and `start` adopts it."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait(STOP_DEADLINE_S)

    def kill_all(self) -> None:
        """Kill the whole node with its tasks, as a power cut would."""
        self.kill_supervisor()  # first, so that it starts nothing again
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # so that no process sees another one die before it

        def none_left() -> bool:
            pids = self.processes()
            for pid in pids:
                proc.kill(pid)
            return not pids

        _await(none_left, f"everything of {self.name} is killed")

    def processes(self) -> list[int]:
        """Return every process of this node, tasks among them, that is not a zombie."""
        mark, state = f"{MARK}={self.mark}".encode(), str(self.state).encode()

        def is_ours(pid: int) -> bool:
            try:
                at = Path(f"/proc/{pid}")
                environ = (at / "environ").read_bytes()
                if mark in environ or state in environ or state in (at / "cmdline").read_bytes():
                    return True
                return str((at / "cwd").readlink()).encode().startswith(state)
            except OSError:
                return False  # gone in between, or somebody else's

        return [pid for pid in proc.all_pids() if pid != os.getpid() and is_ours(pid) and runs(pid)]

    async def close(self) -> None:
        """Close the client, which belongs to the event loop."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def stop(self) -> None:
        """Stop the node as an operator does, with its tasks."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(STOP_DEADLINE_S)

    def leftovers(self) -> list[str]:
        """Return a line for everything that a stopped node should not have left behind."""
        left = [f"process {pid}: {_command(pid)}" for pid in self.processes()]
        left += [f"cgroup {path}" for path in self.cgroups()]
        left += [f"UNIX socket {line.split()[-1]}" for line in _lines("unix") if str(self.state) in line]
        left += [f"listening on {self.addr}:{port}" for port in listening_ports(self.addr)]
        return left

    def cgroups(self) -> list[Path]:
        """Return this node's directories in the machine's cgroup hierarchies."""
        key = hashlib.sha256(str(self.state.resolve()).encode()).hexdigest()[:12]
        top = Path("/sys/fs/cgroup")
        return [*top.glob(f"swarmpy/{key}"), *top.glob(f"*/swarmpy/{key}")]

    def discard(self) -> None:
        """Remove the node's directory; whatever still runs is killed first."""
        if self.daemon is not None:
            self.kill_all()
        self.forget()

    def forget(self) -> None:
        """Remove the node's directory only, for a node that never came to run."""
        if keep := os.environ.get(KEEP_LOGS_VARIABLE):
            Path(keep).mkdir(parents=True, exist_ok=True)
            shutil.copy(self.directory / "log", Path(keep) / f"{self.addr}-{self.name}.log")
        shutil.rmtree(self.directory)

    def log(self) -> str:
        """Return what the node's processes wrote to standard error."""
        return (self.directory / "log").read_text()


def listening_ports(addr: str) -> list[int]:
    """Return the TCP ports on which somebody listens at an IPv4 address of this machine."""
    wanted = socket.inet_aton(addr)[::-1].hex().upper()
    fields = (line.split() for line in _lines("tcp"))
    return sorted(int(f[1].split(":")[1], 16) for f in fields if f[1].startswith(wanted) and f[3] == "0A")


def accepts(host: str, port: int) -> bool:
    """Tell whether somebody listens there: quicker than the machine's table, which may be long."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def _lines(table: str) -> list[str]:
    return Path(f"/proc/net/{table}").read_text().splitlines()[1:]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + STOP_DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"did not come true in {STOP_DEADLINE_S:g} s: {what}"
        time.sleep(0.01)
