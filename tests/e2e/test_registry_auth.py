"""Services of images in a registry that asks for a password, on two nodes with a containerd each."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from scripts.cluster import Node
from scripts.cluster.node import PROGRAM
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task
from tests.support import docker_registry
from tests.support.container_node import lacking
from tests.support.docker_registry import USER, DockerRegistry
from tests.support.images import busybox_image, push
from tests.support.swarm import Swarm

REASON = lacking() or docker_registry.lacking()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(REASON), reason=REASON or "containers can be run"),
]
BASIC = {"Authorization": f"Basic {b64encode(f'{USER.username}:{USER.password}'.encode()).decode()}"}
CREATE = (
    "service",
    "create",
    "-d",
    "--name",
    "web",
    "--replicas",
    "2",
    "--update-monitor",
    "0s",
    "--restart-delay",
    "1s",
)
SLEEP = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")


class User:
    """Someone with a Docker configuration of their own, on one node."""

    def __init__(self, node: Node, config: Path) -> None:
        self._node, self._config = node, config

    async def __call__(self, *words: str, stdin: str = "") -> str:
        """Return all that a command that went well has printed."""
        command = [str(PROGRAM), "--state-dir", str(self._node.state_dir), *words]
        environ = {**self._node.environ, "DOCKER_CONFIG": str(self._config)}
        done = await asyncio.to_thread(
            subprocess.run, command, input=stdin, capture_output=True, text=True, env=environ, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    async def image(self) -> str:
        """Return the image of the service."""
        [document] = json.loads(await self("service", "inspect", "web"))
        return str(document["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])


async def test_nodes_pull_with_the_credentials_of_the_user(tmp_path: Path) -> None:
    swarm = Swarm(2, environ={**os.environ, "SWARMPY_CONTAINERD": ""})
    with DockerRegistry(password=True) as registry:
        async with swarm:
            user, name = User(swarm.nodes[0], tmp_path), f"{registry.host}/web:1"
            push(registry.url, "web", "1", busybox_image(env=("NUMBER=1",)), headers=BASIC)
            said = await user(*CREATE, name, *SLEEP)
            assert f"the digest of {name} is not known" in said
            refused = await swarm.until(lambda: _rejected(swarm), what="a task is rejected")
            assert "swarmpy login" in refused.error

            await user("login", "-u", USER.username, "--password-stdin", registry.host, stdin=f"{USER.password}\n")
            await user("service", "update", "-d", "--with-registry-auth", "web")
            first = await swarm.running("web", 2)
            assert len({task.node_id for task in first}) == 2
            assert await user.image() == name

            # From here on by digest: a tag that moves is followed when the image is named again.
            await user("service", "update", "-d", "--image", name, "web")
            await swarm.updated("web")
            pinned = await user.image()
            assert pinned.startswith(f"{name}@sha256:")
            push(registry.url, "web", "1", busybox_image(env=("NUMBER=2",)), headers=BASIC)
            await user("service", "update", "-d", "--env-add", "A=1", "web")
            await swarm.updated("web")
            assert await user.image() == pinned
            await user("service", "update", "-d", "--image", name, "web")
            await swarm.updated("web")
            assert await user.image() != pinned
            assert len(await swarm.running("web", 2)) == 2

            left = [path for node in swarm.nodes for path in _with(node.state_dir, USER.username.encode())]
            assert left == []
            await swarm.remove("web")


async def _rejected(swarm: Swarm) -> Task | None:
    return next((task for task in await swarm.tasks("web") if task.state is TaskState.REJECTED), None)


def _with(folder: Path, text: bytes) -> list[Path]:
    """Return the files of a node's manager and worker that hold a text."""
    folders = [folder / name for name in ("manager", "worker")]
    assert all(one.is_dir() for one in folders[1:]), list(folder.iterdir())
    files = (path for one in folders for path in one.glob("**/*") if path.is_file())
    return [path for path in files if text in path.read_bytes()]
