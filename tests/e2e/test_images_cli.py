"""Images, volumes and logins by the command line, on a real node with a registry."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.cluster import Node
from scripts.cluster.node import PROGRAM, Output
from tests.support import docker_registry
from tests.support.container_node import lacking
from tests.support.docker_registry import USER, DockerRegistry
from tests.support.images import busybox_image, push
from tests.support.single_node import single_node

REASON = lacking() or docker_registry.lacking()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(REASON), reason=REASON or "containers can be run"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with DockerRegistry() as running:
        for number in ("1", "2"):
            push(running.url, "web", number, busybox_image(env=("PATH=/bin", f"NUMBER={number}")))
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[Node]:
    """A node that is in no swarm; each test removes what it made."""
    async with single_node() as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def clean(node: Node) -> AsyncIterator[None]:
    yield
    for words in (("ps", "-aq"), ("volume", "ls", "-q")):
        left = (await node.cli(*words)).out.split()
        if left:
            await node.cli(*(("rm", "-f") if words[0] == "ps" else ("volume", "rm")), *left)
    await node.cli("image", "prune", "-af")


async def fed(node: Node, data: bytes, config: Path, *words: str) -> Output:
    """Run a command with something on its standard input, and a Docker configuration of its own."""
    command = [str(PROGRAM), "--state-dir", str(node.state_dir), *words]
    environ = {**node.environ, "DOCKER_CONFIG": str(config)}
    done = await asyncio.to_thread(
        subprocess.run, command, input=data, capture_output=True, env=environ, timeout=60, check=False
    )
    return Output(done.returncode, done.stdout.decode(), done.stderr.decode())


async def test_pull_list_tag_inspect_and_remove(node: Node, registry: DockerRegistry) -> None:
    name = f"{registry.host}/web:1"
    first = (await node.cli("image", "pull", name)).out.splitlines()
    assert first[0] == f"1: Pulling from {registry.host}/web"
    assert first[-2:] == [f"Status: Downloaded newer image for {name}", name]
    again = (await node.cli("image", "pull", name)).out
    assert "Already exists" in again and "Pull complete" not in again
    assert f"Status: Image is up to date for {name}" in again
    await node.cli("image", "tag", name, "mine:x")
    rows = (await node.cli("images", "--format", "{{.Repository}}:{{.Tag}}")).out.splitlines()
    assert sorted(rows) == sorted([name, "mine:x"])
    [document] = json.loads((await node.cli("image", "inspect", "mine:x")).out)
    assert "NUMBER=1" in document["Config"]["Env"]
    assert sorted(document["RepoTags"]) == sorted([name, "mine:x"])
    assert document["GraphDriver"]["Name"] == "overlayfs"
    await node.cli("run", "-d", "--name", "user", "mine:x", "sleep", "1000")
    await node.cli("image", "rm", "mine:x")
    used = await node.cli("image", "rm", name, check=False)
    assert (used.status, "in use" in used.err or "used by" in used.err) == (1, True), used
    await node.cli("rm", "-f", "user")
    assert "Deleted: sha256:" in (await node.cli("image", "rm", name)).out
    assert (await node.cli("images", "-q")).out == ""


async def test_an_archive_goes_out_and_comes_back(node: Node, registry: DockerRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/web:1"
    await node.cli("pull", "-q", name)
    archive = tmp_path / "web.tar"
    await node.cli("image", "save", "-o", str(archive), name)
    await node.cli("image", "prune", "-af")
    assert (await node.cli("image", "import", str(archive))).out == f"Loaded image: {name}\n"
    assert (await node.cli("run", "--rm", "--pull", "never", name, "sh", "-c", "echo $NUMBER")).out == "1\n"
    await node.cli("image", "tag", name, f"{registry.host}/copied:y")
    assert "y: digest: sha256:" in (await node.cli("push", f"{registry.host}/copied:y")).out
    (tmp_path / "text").write_text("no archive\n")
    bad = await node.cli("image", "import", str(tmp_path / "text"), check=False)
    assert (bad.status, len(bad.err.splitlines())) == (1, 1)
    assert "cannot be read as a tar file" in bad.err


DOCKERFILE = """
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "/bin"]
ARG WHO=world
RUN echo "hello $WHO" > /greeting
FROM base
LABEL a=b
HEALTHCHECK CMD true
CMD ["cat", "/greeting"]
"""


@pytest.mark.skipif(shutil.which("buildah") is None, reason="not installed: buildah (Debian: buildah)")
async def test_a_dockerfile_is_built(node: Node, registry: DockerRegistry, tmp_path: Path) -> None:
    context, storage = tmp_path / "context", tmp_path / "storage.conf"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "Bad").write_text("FROM scratch\nCOPY nothere /\n")
    shutil.copy(shutil.which("busybox") or "", context / "busybox")
    storage.write_text(
        f"[storage]\ndriver = 'vfs'\nrunroot = '{tmp_path}/buildah-run'\ngraphroot = '{tmp_path}/buildah'\n"
    )

    async def build(*words: str) -> Output:
        command = [str(PROGRAM), "--state-dir", str(node.state_dir), "image", "build", *words]
        environ = {**node.environ, "CONTAINERS_STORAGE_CONF": str(storage)}
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, env=environ, timeout=110, check=False
        )
        return Output(done.returncode, done.stdout, done.stderr)

    built = await build("-q", "-t", "my/built:1", "-t", "also:2", "--build-arg", "WHO=swarm", str(context))
    assert (built.status, built.out) == (0, "my/built:1\nalso:2\n"), built
    assert (await node.cli("run", "--rm", "my/built:1")).out == "hello swarm\n"
    [document] = json.loads((await node.cli("image", "inspect", "also:2")).out)
    assert document["Config"]["Labels"]["a"] == "b"
    assert document["Config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    failed = await build("-t", "bad", "-f", str(context / "Bad"), str(context))
    assert (failed.status, "nothere" in failed.err, "buildah has failed" in failed.err) == (1, True, True), failed
    missing = await build("-t", "bad", "-f", str(context / "None"), str(context))
    assert (missing.status, missing.err) == (
        1,
        f"Error: there is no Dockerfile {context / 'None'}: give its path from the present directory\n",
    )


async def test_volumes_outlive_containers_and_go_when_unused(node: Node, registry: DockerRegistry) -> None:
    name = f"{registry.host}/web:2"
    await node.cli("volume", "create", "--label", "a=b", "data")
    await node.cli("run", "-v", "data:/d", "--name", "writer", name, "sh", "-c", "echo kept > /d/file")
    used = await node.cli("volume", "rm", "data", check=False)
    assert (used.status, "is in use" in used.err) == (1, True)
    await node.cli("rm", "writer")
    assert (await node.cli("run", "--rm", "-v", "data:/d:ro", name, "cat", "/d/file")).out == "kept\n"
    [document] = json.loads((await node.cli("volume", "inspect", "data")).out)
    assert (Path(document["Mountpoint"]) / "file").read_text() == "kept\n"
    await node.cli("volume", "prune", "-f")
    assert (await node.cli("volume", "ls", "-q", "-f", "label=a=b")).out == "data\n"
    assert "data" in (await node.cli("volume", "prune", "-af")).out
    absent = await node.cli("volume", "inspect", "data", check=False)
    assert (absent.status, absent.out.strip()) == (1, "[]")


async def test_a_registry_with_a_password(node: Node, tmp_path: Path) -> None:
    with DockerRegistry(password=True) as closed:
        from base64 import b64encode

        basic = b64encode(f"{USER.username}:{USER.password}".encode()).decode()
        push(closed.url, "secret", "1", busybox_image(), headers={"Authorization": f"Basic {basic}"})
        name = f"{closed.host}/secret:1"
        refused = await fed(node, b"", tmp_path, "pull", name)
        assert refused.status == 1
        wrong = await fed(node, b"wrong\n", tmp_path, "login", "-u", USER.username, "--password-stdin", closed.host)
        assert (wrong.status, (tmp_path / "config.json").exists()) == (1, False)
        right = await fed(
            node, f"{USER.password}\n".encode(), tmp_path, "login", "-u", USER.username, "--password-stdin", closed.host
        )
        assert (right.status, right.out) == (0, "Login Succeeded\n")
        assert (await fed(node, b"", tmp_path, "pull", "-q", name)).out == f"{name}\n"
        assert (await fed(node, b"", tmp_path, "run", "--rm", name, "true")).status == 0
        await fed(node, b"", tmp_path, "logout", closed.host)
        assert closed.host not in (tmp_path / "config.json").read_text()
