"""A real cluster on this machine: nodes with their own addresses and state directories, and a clean end.

    async with dev_cluster(3) as cluster, cluster.client() as client:
        await client.services.create(...)

The benchmarks, the demo and the tests start their clusters here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from swarmpy.addresses import CONTROL_PORT
from swarmpy.client import Client, NodeInfo
from swarmpy.daemon import proc
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.states import NodeState

ROOT: Final = Path(__file__).resolve().parent.parent
START_DEADLINE_S: Final = 30.0
STOP_DEADLINE_S: Final = 40.0
LOOK_S: Final = 0.01
STOP_TASKS: Final = ("--stop-tasks",)
# By these the command lines of a node's processes are known.
MODULES: Final = frozenset({b"swarmpy.daemon", b"worker", b"worker.dataplane", b"manager"})
SCRIPTS: Final = (b"/swarmpyd", b"/daemon/lean.py", b"/taskhost/__main__.py")

T = TypeVar("T")


class DevNode:
    """One node: a swarmpyd with its state directory and its loopback address."""

    def __init__(
        self,
        name: str,
        address: str,
        state_dir: Path,
        *,
        options: Sequence[str] = STOP_TASKS,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """
        Args:
            options: of swarmpyd, beside state directory and address.
        """
        self.name = name
        self.address = address
        self.state_dir = state_dir
        self.log_path = state_dir.with_name(f"{state_dir.name}.log")
        self.daemon: subprocess.Popen[bytes] | None = None
        self._options = tuple(options)
        self._environment = {**environ, "SWARMPY_HOSTNAME": name, "PYTHONPATH": str(ROOT)}

    def launch(self) -> None:
        """Start swarmpyd; returns before it answers. Standard error goes to `log_path`."""
        command = [sys.executable, "-m", "swarmpy.daemon", "--state-dir", str(self.state_dir), "--addr", self.address]
        with self.log_path.open("ab") as log:
            # A session of its own: an interrupt at the terminal is for whoever runs the cluster, which then stops it.
            self.daemon = subprocess.Popen(
                [*command, *self._options], env=self._environment, stderr=log, start_new_session=True
            )

    async def ready(self) -> None:
        """Wait until the node answers.

        Raises:
            RuntimeError: swarmpyd ended instead; TimeoutError: it does not answer.
        """
        async with self.client() as client:
            await until(lambda: self._info(client), what=f"{self.name} answers")

    async def _info(self, client: Client) -> NodeInfo | None:
        if self.daemon is not None and self.daemon.poll() is not None:
            raise RuntimeError(f"swarmpyd of {self.name} ended:\n{self.log()}")
        try:
            return await client.node.info(timeout_s=1.0)
        except SwarmError:
            return None

    def client(self, *, timeout_s: float = 10.0) -> Client:
        """Return a client of this node; needs a running event loop, and the caller closes it."""
        return Client.connect(state_dir=self.state_dir, timeout_s=timeout_s)

    def processes(self) -> list[int]:
        """Return the pids of everything that belongs to the node, its tasks included."""
        return processes_of(self.state_dir)

    def pid(self, process: str) -> int:
        """Return the pid of `worker`, `dataplane`, `manager` or `taskhost`; 0 if it does not run."""
        marks = {"taskhost": b"taskhost/__main__.py", "manager": b"\0manager\0"}
        mark = marks.get(process, b"\0" + {"dataplane": "worker.dataplane"}.get(process, process).encode() + b"\0")
        return next((pid for pid in self.processes() if mark in _read(pid, "cmdline")), 0)

    def vanish(self) -> None:
        """Kill every process of the node, tasks included, as if the machine had lost its power."""
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.daemon is not None:
                self.daemon.poll()
        if self.daemon is not None:
            self.daemon.wait(STOP_DEADLINE_S)

    def terminate(self) -> None:
        """Ask swarmpyd to stop; `stopped` waits for it."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()

    def stopped(self) -> list[int]:
        """Wait until swarmpyd has ended; return the pids that it left, which are killed."""
        if self.daemon is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.wait(STOP_DEADLINE_S)
        left = self.processes()
        self.vanish()
        return left

    def log(self) -> str:
        """Return what the node's processes wrote to standard error."""
        return self.log_path.read_text() if self.log_path.exists() else ""


class DevCluster:
    """Nodes of one cluster; the first is its manager. Made by `dev_cluster`."""

    def __init__(self, root: Path, block: str, environ: Mapping[str, str] = os.environ) -> None:
        self.root = root
        self.block = block
        self._environ = environ
        self.nodes: list[DevNode] = []

    def __getitem__(self, place: int) -> DevNode:
        return self.nodes[place]

    def client(self, *, timeout_s: float = 10.0) -> Client:
        """Return a client of the manager; the caller closes it."""
        return self.nodes[0].client(timeout_s=timeout_s)

    def new_node(self, *, name: str = "", options: Sequence[str] = STOP_TASKS) -> DevNode:
        """Start a node that is in no cluster yet; returns before it answers."""
        number = len(self.nodes) + 1
        name = name or f"node{number}"
        node = DevNode(name, f"{self.block}.{number}", self.root / name, options=options, environ=self._environ)
        node.launch()
        self.nodes.append(node)
        return node

    async def init(self, spec: ClusterSpec | None = None) -> None:
        """Make the first node a manager."""
        await self.nodes[0].ready()
        async with self.client() as client:
            await client.node.init(spec or ClusterSpec())
            await until(lambda: _ready(client, 1), what="the manager's node is READY")

    async def join(self, nodes: Sequence[DevNode]) -> None:
        """Bring nodes into the cluster, together; returns when all are READY."""
        if not nodes:
            return
        async with self.client() as client:
            token = (await client.cluster.join_tokens()).tokens.worker
            before = sum(n.state is NodeState.READY for n in await client.nodes.list())

            async def one(node: DevNode) -> None:
                await node.ready()
                async with node.client() as its:
                    await its.node.join(f"{self.nodes[0].address}:{CONTROL_PORT}", token)

            async with asyncio.TaskGroup() as group:
                for node in nodes:
                    group.create_task(one(node))
            await until(lambda: _ready(client, before + len(nodes)), what="the nodes are READY")

    def stop(self) -> None:
        """Stop all nodes and their tasks.

        Raises:
            RuntimeError: something was left running, and was killed.
        """
        # Workers first: a manager that goes before them has them look for another one.
        for node in reversed(self.nodes):
            node.terminate()
        left = {node.name: pids for node in self.nodes if (pids := node.stopped())}
        if left:
            raise RuntimeError(f"these processes were left running: {left}")


@contextlib.asynccontextmanager
async def dev_cluster(
    count: int,
    *,
    spec: ClusterSpec | None = None,
    block: str = "",
    root: Path | None = None,
    options: Sequence[str] = STOP_TASKS,
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[DevCluster]:
    """Run a cluster of `count` nodes, the first a manager; stop it and remove its files at the end.

    Args:
        block: the first three numbers of the nodes' loopback addresses; empty takes ones that nobody uses.
        root: where the state directories go; None takes a temporary directory.
        options, environ: of every swarmpyd, beside its state directory and address.
    """
    # Not below a deep directory of the caller's: the path of a UNIX socket holds 107 bytes.
    directory = root or Path(tempfile.mkdtemp(prefix="swarmpy-"))
    directory.mkdir(parents=True, exist_ok=True)
    cluster = DevCluster(directory, block or free_block(count), environ)
    try:
        for _ in range(count):
            cluster.new_node(options=options)
        await cluster.init(spec)
        await cluster.join(cluster.nodes[1:])
        yield cluster
    finally:
        await asyncio.to_thread(cluster.stop)
        if root is None:
            await asyncio.to_thread(shutil.rmtree, directory)


def free_block(count: int) -> str:
    """Return three numbers such that the control port is free on `127.a.b.1` to `.count`.

    Addresses from 127.64 on are for the services' VIPs.
    """
    while True:
        block = f"127.{random.randint(2, 63)}.{random.randint(1, 254)}"
        try:
            for last in range(1, count + 1):
                with socket.socket() as probe:
                    probe.bind((f"{block}.{last}", CONTROL_PORT))
        except OSError:
            continue
        return block


async def until(ask: Callable[[], Awaitable[T]], *, what: str, deadline_s: float = START_DEADLINE_S) -> T:
    """Return the first true answer.

    Raises:
        TimeoutError: there was none in time.
    """
    end_s = time.monotonic() + deadline_s
    while not (answer := await ask()):
        if time.monotonic() > end_s:
            raise TimeoutError(f"did not come true in {deadline_s:g} s: {what}")
        await asyncio.sleep(LOOK_S)
    return answer


async def _ready(client: Client, count: int) -> bool:
    return sum(n.state is NodeState.READY for n in await client.nodes.list()) >= count


def processes_of(state_dir: Path) -> list[int]:
    """Return the pids of a node's processes, and of tasks whose output or working directory lies in its own."""
    return [
        pid for pid in proc.all_pids() if pid != os.getpid() and (_serves(pid, state_dir) or _lives_in(pid, state_dir))
    ]


def _serves(pid: int, state_dir: Path) -> bool:
    """Whether this is swarmpyd or a child of it, and not a client that names the directory too."""
    words = _read(pid, "cmdline").split(b"\0")
    argument = str(state_dir).encode()
    if argument not in words and b"--state-dir=" + argument not in words:
        return False
    return any(word in MODULES or word.endswith(SCRIPTS) for word in words)


def _lives_in(pid: int, directory: Path) -> bool:
    for link in ("cwd", "fd/1", "fd/2"):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/{link}").readlink().is_relative_to(directory):
                return True
    return False


def _read(pid: int, name: str) -> bytes:
    """Return a file of /proc/<pid>; empty if the process has ended. A zombie's command line is empty too."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
