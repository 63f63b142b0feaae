"""A containerd alone, without a node around it: its own root, its own socket, gone at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.node_process import DEADLINE_S
from worker.containerd.client import Containerd
from worker.containerd.ending import unmount_below

NAMESPACE: Final = "swarmpy-tests"
DISABLED: Final = (
    "io.containerd.grpc.v1.cri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
)


def lacking() -> str:
    """Return why a containerd cannot be run here, empty if it can."""
    if os.geteuid() != 0:
        return "needs root: containerd"
    return "" if shutil.which("containerd") else "not installed: containerd (Debian: containerd)"


class ContainerdProcess:
    """Leaving the context kills it and deletes all that it kept. `place`: a directory for it, such as a small disk."""

    def __init__(self, place: Path | None = None) -> None:
        self._given = place
        self.place = place or Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.place / "containerd.sock"

    def __enter__(self) -> Self:
        if self._given is None:
            self.place = Path(tempfile.mkdtemp(prefix="ctd-"))
        disabled = ", ".join(f'"{name}"' for name in DISABLED)
        (self.place / "config.toml").write_text(
            f'version = 2\nroot = "{self.place}/root"\nstate = "{self.place}/state"\ndisabled_plugins = [{disabled}]\n'
            f'[grpc]\n  address = "{self.socket}"\n[ttrpc]\n  address = "{self.socket}.ttrpc"\n'
        )
        self.start()
        return self

    def start(self) -> None:
        command = ["containerd", "--config", str(self.place / "config.toml"), "--log-level", "error"]
        with (self.place / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self._process is not None, "started"
        self._process.kill()
        self._process.wait()

    async def client(self) -> Containerd:
        """Return a client of the tests' namespace, once containerd answers."""
        client = Containerd.connect(self.socket, NAMESPACE)
        await client.wait_until_serving(DEADLINE_S)
        await client.namespaces.ensure(NAMESPACE)
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        unmount_below(self.place)
        for path in self.place.iterdir() if self._given else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self._given is None:
            shutil.rmtree(self.place)
