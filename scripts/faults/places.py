"""The nodes of a round: their network, disks and clocks, which the faults work on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.cluster import ROOT, Block, Cluster, Namespaces, Node, can_make_namespaces
from scripts.faults.clock_hook.sitecustomize import OFFSET, VARIABLE
from scripts.faults.plan import Plan
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec

HOOK: Final = Path(__file__).with_name("clock_hook")
DISK_BYTES: Final = 384 * 1024 * 1024
"""Room for two segments of the log, of 64 MiB, and two snapshots with all that the nemesis writes to fill them."""
BALLAST: Final = "ballast"
SPEC: Final = ClusterSpec(heartbeat_period_s=1.0, snapshot_interval=300)
"""Snapshots come often, so that who was away is sent one."""


def can_cut() -> bool:
    """Tell whether links between nodes can be cut here: root and network namespaces."""
    return os.geteuid() == 0 and can_make_namespaces()


def can_fill() -> bool:
    """Tell whether a node can have a disk of its own here: root may mount one."""
    return os.geteuid() == 0


class Places:
    """A cluster's nodes with what can go wrong with each. Use it by `with`, around the cluster's life."""

    def __init__(self, root: Path, plan: Plan) -> None:
        """
        Args:
            root: an empty directory, which keeps the logs.
        """
        self.namespaces = Namespaces() if plan.can_cut else None
        self.small_disk = f"node{plan.managers}" if plan.can_fill else ""
        self._root = root
        self._stack = contextlib.ExitStack()
        self.cluster = Cluster(network=self.namespaces or Block(), spec=SPEC, root=root)
        self._count = plan.managers

    def __enter__(self) -> Places:
        with contextlib.ExitStack() as stack:
            stack.callback(self.cluster.network.close)
            if self.small_disk:
                stack.enter_context(_mounted(self._root / self.small_disk))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def start(self) -> None:
        """Start the nodes and make a cluster of them."""
        for number in range(1, self._count + 1):
            node = self.cluster.new_node()
            self._offset_file(node).write_bytes(OFFSET.pack(0.0))
            node.environ["PYTHONPATH"] = os.pathsep.join((str(HOOK), str(ROOT)))
            node.environ[VARIABLE] = str(self._offset_file(node))
            assert node.name == f"node{number}", "nodes are numbered as they come"
            node.start()
        await self.cluster.form(self._count)

    async def is_whole(self) -> bool:
        """Tell whether all managers are there and have a vote, and one leads."""
        try:
            rows = await self.cluster.rows()
        except SwarmError:
            return False
        managers = [row.manager for row in rows if row.manager is not None]
        are_well = all(manager.reachable and not manager.learner for manager in managers)
        return len(managers) == self._count and are_well and sum(manager.leader for manager in managers) == 1

    def number(self, node: Node) -> int:
        """Return the number of a node on the network."""
        return self.cluster.nodes.index(node) + 1

    def set_clock(self, node: Node, offset_s: float) -> None:
        """Let a node's wall clock be so far ahead of the machine's."""
        with self._offset_file(node).open("r+b") as file:
            file.write(OFFSET.pack(offset_s))

    def fill(self, node: Node) -> None:
        """Take all that is left of a small disk."""
        with contextlib.suppress(OSError), self._ballast(node).open("wb") as file:
            while True:
                file.write(bytes(64 * 1024))
                file.flush()

    def empty(self, node: Node) -> None:
        """Give back what `fill` took."""
        self._ballast(node).unlink(missing_ok=True)

    def heal(self) -> None:
        """Undo everything that was done to the network, the disks and the clocks, and wake who sleeps."""
        if self.namespaces is not None:
            self.namespaces.restore_all()
        for node in self.cluster.nodes:
            node.thaw()
            self.set_clock(node, 0.0)
            if node.name == self.small_disk:
                self.empty(node)

    def _ballast(self, node: Node) -> Path:
        return node.state_dir / BALLAST

    def _offset_file(self, node: Node) -> Path:
        return self._root / f"{node.name}.clock"


@contextlib.contextmanager
def _mounted(directory: Path) -> Iterator[None]:
    """Have a small disk at a directory, in memory."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "swarmpy-faults", directory], check=True)
    try:
        yield
    finally:
        # Lazily: what was cut short may have left a process behind that has it open, and it is to go with that one.
        subprocess.run(["umount", "--lazy", directory], check=True)
