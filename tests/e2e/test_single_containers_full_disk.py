"""Single containers on a node whose disk is full: nothing hangs, and what takes space can be ended and removed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.cluster import Cluster, Node
from tests.support.container_node import lacking
from tests.support.images import busybox_image, write_layout_tar

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


@contextmanager
def small_disk() -> Iterator[Path]:
    place = tempfile.mkdtemp(prefix="swarmpy-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], check=True)
    try:
        yield Path(place)
    finally:
        subprocess.run(["umount", place], check=True)
        Path(place).rmdir()


def fill_up(place: Path) -> Path:
    """Leave not a byte."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while out.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


async def test_a_full_disk_refuses_what_is_new_and_lets_go_what_is_there(tmp_path: Path) -> None:
    write_layout_tar(tmp_path / "web.tar", {"web:1": busybox_image(cmd=("sh", "-c", FOREVER))})
    with small_disk() as place:
        environ = {**os.environ, "SWARMPY_CONTAINERD": ""}
        cluster = Cluster(environ=environ, state_dirs={"node1": place / "node"})
        node = cluster.new_node(name="node1")
        node.start()
        try:
            await node.ready()
            await node.cli("image", "import", str(tmp_path / "web.tar"))
            for name in ("stopped", "killed", "paused", "removed"):
                await node.cli("run", "-d", "--name", name, "web:1")
            await node.cli("pause", "paused")
            filler = await asyncio.to_thread(fill_up, place)
            await with_a_full_disk(node)
            filler.unlink()
            await node.cli("rm", "-f", "stopped", "killed", "paused")
            assert (await node.cli("run", "--rm", "web:1", "echo", "back")).out == "back\n"
            assert (await node.cli("ps", "-aq")).out == ""
        finally:
            await cluster.close()
            await asyncio.to_thread(cluster.stop)
            await asyncio.to_thread(cluster.discard)


async def with_a_full_disk(node: Node) -> None:
    refused = await node.cli("run", "-d", "--name", "newcomer", "web:1", check=False)
    assert (refused.status, "No space left on device" in refused.err) == (125, True), refused
    for words in (("stop", "stopped"), ("kill", "killed"), ("unpause", "paused"), ("rm", "-f", "removed")):
        await node.cli(*words)
    found = json.loads((await node.cli("container", "inspect", "stopped", "killed", "paused")).out)
    assert [one["State"]["Status"] for one in found] == ["exited", "exited", "running"]
    listed = (await node.cli("ps", "-a", "--format", "{{.Names}}")).out.split()
    assert sorted(listed) == ["killed", "paused", "stopped"]
