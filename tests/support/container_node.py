"""A real swarmpyd with a containerd of its own, a root file system of busybox, and a clean end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from swarmpy.daemon import proc
from swarmpy.errors import SwarmError
from tests.support.node_process import DEADLINE_S, NodeProcess, until
from worker.containerd.client import Containerd
from worker.containerd.ending import mounts_below, unmount_below
from worker.containerd.runtime import namespace_of, read_runtime
from worker.containerd.types import Container, Mount
from worker.network.ending import end_networks

BUSYBOX: Final = Path("/bin/busybox")
_NAMES: Final = ("sh", "sleep", "cat", "true")


def lacking() -> str:
    """Return why containers cannot be run here, empty if they can."""
    if os.geteuid() != 0:
        return "needs root: containers"
    programs = ("containerd", "containerd-shim-runc-v2", "runc", "busybox")
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    absent = [name for name in programs if not shutil.which(name, path=path)]
    return f"not installed: {', '.join(absent)} (Debian: containerd, runc, busybox-static)" if absent else ""


class ContainerNode(NodeProcess):
    """`start` waits for containerd too. Leaving the context ends all containers, whatever has been killed before."""

    def __init__(self, *options: str, **processes: list[str]) -> None:
        super().__init__("--containerd", "", *options, **processes)

    @property
    def socket(self) -> Path:
        return self.state / "run" / "containerd.sock"

    @property
    def namespace(self) -> str:
        return namespace_of(self.state)

    async def client(self) -> Containerd:
        """Return a client of the node's containerd, which answers."""
        socket = read_runtime(self.state).socket
        assert socket is not None, read_runtime(self.state).missing
        client = Containerd.connect(socket, self.namespace)
        try:
            await client.wait_until_serving(DEADLINE_S)
            await client.namespaces.ensure(self.namespace)
        except SwarmError:
            await client.close()
            raise
        return client

    def mounts(self) -> list[str]:
        """Return what is mounted below the state directory."""
        return mounts_below(self.state.resolve(), Path("/proc/self/mountinfo").read_text())

    def shims(self) -> list[int]:
        """Return the pids of the shims of this node's containers."""
        needle = f"-namespace\0{self.namespace}\0".encode()
        return [pid for pid in proc.all_pids() if needle in _command_line(pid)]

    def containers(self) -> list[int]:
        """Return the pids of the programs in this node's containers."""
        needle = f"SWARMPY_NAMESPACE={self.namespace}".encode()
        return [pid for pid in proc.all_pids() if needle in _environment(pid)]

    def shut_down(self) -> None:
        """End the node with its tasks, and wait for that."""
        assert self.daemon is not None
        with self.supervisor() as client:
            client.call("shutdown", tasks=True)
        self.daemon.wait(4 * DEADLINE_S)

    async def make_base(self, client: Containerd, driver: str = "overlayfs") -> None:
        """Make the committed snapshot "base", with busybox in it, and keep it."""
        snapshots = client.snapshots(driver)
        keep = {"containerd.io/gc.root": "test"}
        mounts = await snapshots.prepare("base-draft", labels=keep)
        fill(Path(mounts[0].source))
        await snapshots.commit("base", "base-draft", labels=keep)

    async def make(
        self, client: Containerd, name: str, command: Sequence[str], labels: Mapping[str, str] | None = None
    ) -> tuple[Mount, ...]:
        """Make a container on "base" and return the mounts of its root."""
        mounts = await client.snapshots("overlayfs").prepare(name, "base", {"containerd.io/gc.root": "test"})
        await client.containers.create(
            Container(
                id=name,
                labels=labels or {},
                spec=self.spec(name, command),
                snapshotter="overlayfs",
                snapshot_key=name,
            )
        )
        return mounts

    def spec(self, name: str, command: Sequence[str]) -> dict[str, object]:
        """Return the smallest OCI runtime spec that runs `command`."""
        env = ["PATH=/bin", f"SWARMPY_NAMESPACE={self.namespace}"]
        return {
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": list(command), "env": env, "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["ptmxmode=0666"]},
            ],
            "linux": {
                "cgroupsPath": f"/{self.namespace}/{name}",
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            },
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        def none_left() -> bool:
            pids = [*self.marked(), *self.shims(), *self.containers()]
            for pid in pids:
                proc.kill(pid)
            if self.daemon:
                self.daemon.poll()
            return not pids

        until(none_left, what="every process is killed")
        end_networks(self.state, self.namespace.removeprefix("swarmpy-"))
        unmount_below(self.state.resolve())
        for hierarchy in Path("/sys/fs/cgroup").rglob(self.namespace):
            for group in sorted(hierarchy.rglob("*"), reverse=True):
                if group.is_dir():
                    with contextlib.suppress(OSError):
                        group.rmdir()
            with contextlib.suppress(OSError):
                hierarchy.rmdir()
        super().__exit__(kind, error, trace)


def fill(root: Path) -> None:
    """Put busybox and what a container needs into an empty directory."""
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        (root / name).mkdir(exist_ok=True)
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    for name in _NAMES:
        (root / "bin" / name).symlink_to("busybox")


def kill_hard(pid: int) -> None:
    """Kill one process that this test started."""
    os.kill(pid, signal.SIGKILL)


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _environment(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""
