"""Containers that users start on a node: `swarmpy run` and the rest, with a real containerd and a registry."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.cluster import Node, until
from scripts.cluster.node import PROGRAM, Output
from tests.support import docker_registry
from tests.support.container_node import lacking
from tests.support.images import Entry, busybox_image, directory, push
from tests.support.single_node import single_node

REASON = lacking() or docker_registry.lacking()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(REASON), reason=REASON or "containers can be run"),
    pytest.mark.asyncio(loop_scope="module"),
]
FOREVER = "trap 'exit 0' TERM; echo begun; while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The name of an image with a web server, in a registry that runs."""
    with docker_registry.DockerRegistry() as registry:
        page = [directory("www"), Entry("www/index.html", data=b"hello\n")]
        cmd = ("httpd", "-f", "-p", "80", "-h", "/www")
        push(registry.url, "web", "1", busybox_image(cmd=cmd, files=page, exposed_ports=("80/tcp",)))
        yield f"{registry.host}/web:1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[Node]:
    """A node that is in no swarm; each test removes what it made."""
    async with single_node() as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def clean(node: Node) -> AsyncIterator[None]:
    yield
    left = (await node.cli("ps", "-aq")).out.split()
    if left:
        await node.cli("rm", "-f", *left)


async def state_of(node: Node, name: str) -> dict[str, object]:
    document = json.loads((await node.cli("container", "inspect", name)).out)[0]
    state = document["State"]
    assert isinstance(state, dict)
    return state


async def status_is(node: Node, name: str, wanted: str) -> None:
    """Wait for a container's state; it may be a command under way that will create it."""

    async def ask() -> bool:
        inspected = await node.cli("container", "inspect", name, check=False)
        return inspected.status == 0 and json.loads(inspected.out)[0]["State"]["Status"] == wanted

    await until(ask, what=f"{name} is {wanted}")


async def fed(node: Node, data: bytes, *words: str) -> Output:
    """Run a command with something on its standard input."""
    command = [str(PROGRAM), "--state-dir", str(node.state_dir), *words]
    done = await asyncio.to_thread(
        subprocess.run, command, input=data, capture_output=True, env=dict(node.environ), timeout=30, check=False
    )
    return Output(done.returncode, done.stdout.decode(), done.stderr.decode())


async def test_run_shows_both_streams_and_ends_with_the_programs_code(node: Node, image: str) -> None:
    done = await node.cli("run", "--rm", image, "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.status, done.out) == (3, "out\n")
    assert done.err.endswith("err\n")
    assert (await node.cli("ps", "-aq")).out == ""


async def test_what_cannot_be_run_has_dockers_exit_codes(node: Node, image: str) -> None:
    absent = await node.cli("run", "--rm", image, "no-such-program", check=False)
    assert (absent.status, "command not found" in absent.err) == (127, True)
    not_program = await node.cli("run", "--rm", image, "/www/index.html", check=False)
    assert (not_program.status, "not executable" in not_program.err) == (126, True)
    unknown = await node.cli("run", "--rm", f"{image}00", check=False)
    assert (unknown.status, unknown.err.count("Traceback")) == (125, 0)
    assert (await node.cli("ps", "-aq")).out == ""


async def test_standard_input_reaches_the_program(node: Node, image: str) -> None:
    text = b"".join(b"line %d\n" % number for number in range(20_000))
    done = await fed(node, text, "run", "-i", "--rm", image, "cat")
    assert (done.status, done.out) == (0, text.decode())


async def test_a_detached_one_is_listed_reached_and_removed(node: Node, image: str) -> None:
    made = (await node.cli("run", "-d", "--name", "web", "-P", image)).out.strip()
    [row] = (await node.cli("ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}")).out.splitlines()
    assert row == f"{made} web running"
    place = (await node.cli("port", "web", "80")).out.strip()
    host, _, port = place.partition(":")
    assert host == "0.0.0.0"

    async def page() -> bytes:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(node.address, int(port))
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer
        return b""

    async def ask() -> bool:
        return (await page()).endswith(b"hello\n")

    await until(ask, what="the port leads to the container")
    refused = await node.cli("rm", "web", check=False)
    assert (refused.status, "container is running" in refused.err) == (1, True)
    assert (await node.cli("rm", "-f", "web")).out == "web\n"
    assert (await node.cli("ps", "-aq")).out == ""


async def test_a_name_is_taken_once(node: Node, image: str) -> None:
    await node.cli("create", "--name", "one", image)
    again = await node.cli("create", "--name", "one", image, check=False)
    assert again.status == 1
    assert 'The container name "one" is already in use' in again.err
    await node.cli("rename", "one", "two")
    await node.cli("create", "--name", "one", image)


async def test_stop_start_and_what_was_written(node: Node, image: str) -> None:
    script = "cat /kept 2>/dev/null; echo kept > /kept; " + FOREVER
    await node.cli("run", "-d", "--name", "twice", image, "sh", "-c", script)

    async def began() -> bool:
        return "begun" in (await node.cli("logs", "twice")).out

    await until(began, what="its program says so")
    await node.cli("stop", "twice")
    assert (await state_of(node, "twice"))["ExitCode"] == 0
    await node.cli("start", "twice")

    async def both() -> bool:
        return (await node.cli("logs", "twice")).out == "begun\nkept\nbegun\n"

    await until(both, what="both runs are in the log")
    await node.cli("kill", "twice")
    assert (await state_of(node, "twice"))["ExitCode"] == 137
    assert (await node.cli("wait", "twice")).out == "137\n"


async def test_exec_attach_top_stats_and_pause(node: Node, image: str) -> None:
    await node.cli("run", "-d", "--name", "busy", "-e", "COLOUR=red", "-m", "64m", image, "sh", "-c", FOREVER)
    done = await node.cli(
        "exec", "-e", "SIZE=big", "-w", "/www", "busy", "sh", "-c", "echo $COLOUR $SIZE; pwd; exit 9", check=False
    )
    assert (done.status, done.out) == (9, "red big\n/www\n")
    echoed = await fed(node, b"typed\n", "exec", "-i", "busy", "cat")
    assert (echoed.status, echoed.out) == (0, "typed\n")
    assert "sh -c" in (await node.cli("top", "busy")).out
    figures = (await node.cli("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")).out
    assert figures.startswith("busy ")
    assert figures.strip().endswith("/ 64MiB")
    await node.cli("pause", "busy")
    assert (await state_of(node, "busy"))["Paused"] is True
    frozen = await node.cli("exec", "busy", "true", check=False)
    assert (frozen.status, "is paused" in frozen.err) == (1, True)
    await node.cli("unpause", "busy")
    await node.cli("exec", "busy", "true")


async def test_signals_are_passed_on_to_the_program(node: Node, image: str) -> None:
    script = "trap 'echo got; exit 5' TERM; echo begun; while :; do sleep 0.05; done"
    command = [
        str(PROGRAM),
        "--state-dir",
        str(node.state_dir),
        "run",
        "--rm",
        "--name",
        "told",
        image,
        "sh",
        "-c",
        script,
    ]
    process = await asyncio.create_subprocess_exec(
        *command, env=node.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGTERM)
        assert await process.stdout.read() == b"got\n"
        assert await process.wait() == 5


async def test_a_terminal_has_a_size_and_keys_that_leave(node: Node, image: str) -> None:
    ours, theirs = pty.openpty()
    command = [str(PROGRAM), "--state-dir", str(node.state_dir), "run", "-it", "--name", "term", image, "sh"]
    process = await asyncio.create_subprocess_exec(
        *command, env=node.environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        await status_is(node, "term", "running")
        os.write(ours, b"echo so$((1+1))far; tty\n")
        seen = await asyncio.to_thread(read_until, ours, b"/dev/pts/0")
        assert b"so2far" in seen
        os.write(ours, b"\x10\x11")
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(ours)
    assert (await state_of(node, "term"))["Running"] is True


def read_until(descriptor: int, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        seen += os.read(descriptor, 4096)
    return seen


async def test_files_are_copied_both_ways(node: Node, image: str, tmp_path: Path) -> None:
    await node.cli("create", "--name", "files", image)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "file").write_text("content\n")
    (tmp_path / "tree" / "link").symlink_to("deep/file")
    await node.cli("cp", str(tmp_path / "tree"), "files:/www")
    await node.cli("cp", "files:/www/tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "deep" / "file").read_text() == "content\n"
    assert (tmp_path / "back" / "link").readlink() == Path("deep/file")
    command = [str(PROGRAM), "--state-dir", str(node.state_dir), "cp", "files:/www/index.html", "-"]
    archive = await asyncio.to_thread(subprocess.run, command, env=dict(node.environ), capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as opened:
        member = opened.extractfile("index.html")
        assert member is not None and member.read() == b"hello\n"
    changed = (await node.cli("diff", "files")).out.splitlines()
    assert "A /www/tree/deep/file" in changed and "C /www" in changed
    absent = await node.cli("cp", "files:/no/such", str(tmp_path), check=False)
    assert (absent.status, "Could not find the file" in absent.err) == (1, True)


async def test_restart_rules(node: Node, image: str) -> None:
    await node.cli("run", "-d", "--restart", "on-failure:2", "--name", "fails", image, "sh", "-c", "echo x; exit 1")
    await status_is(node, "fails", "exited")
    document = json.loads((await node.cli("container", "inspect", "fails")).out)[0]
    assert (document["RestartCount"], document["State"]["ExitCode"]) == (2, 1)
    await node.cli("run", "-d", "--restart", "always", "--name", "stays", image, "sh", "-c", FOREVER)
    pid = (await state_of(node, "stays"))["Pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)

    async def again() -> bool:
        state = await state_of(node, "stays")
        return state["Status"] == "running" and state["Pid"] != pid

    await until(again, what="it runs again")
    await node.cli("stop", "stays")
    assert (await state_of(node, "stays"))["Status"] == "exited"


async def test_containers_outlive_worker_and_swarmpyd(node: Node, image: str) -> None:
    await node.cli("run", "-d", "--name", "lasts", image, "sh", "-c", FOREVER)
    pid = (await state_of(node, "lasts"))["Pid"]

    async def back() -> bool:
        with contextlib.suppress(RuntimeError):
            return (await state_of(node, "lasts"))["Pid"] == pid
        return False

    node.kill("worker")
    await until(back, what="the next worker knows the container")
    assert (await node.cli("exec", "lasts", "echo", "here")).out == "here\n"
    node.kill("swarmpyd")
    node.start()
    await node.ready()
    await until(back, what="the next swarmpyd's worker knows the container")
    assert (await node.cli("exec", "lasts", "echo", "here")).out == "here\n"
    await node.cli("stop", "lasts")


async def test_prune_removes_what_does_not_run(node: Node, image: str) -> None:
    await node.cli("run", image, "true")
    await node.cli("run", "-d", "--name", "goes-on", image)
    said = (await node.cli("container", "prune", "--force")).out
    assert said.startswith("Deleted Containers:\n")
    assert (await node.cli("ps", "-a", "--format", "{{.Names}}")).out == "goes-on\n"


async def test_bad_input_is_one_sentence(node: Node, image: str) -> None:
    for words, status, sentence in (
        (("run", "--restart", "sometimes", image), 2, "--restart"),
        (("run", "-p", "80:x", image), 2, "invalid port"),
        (("run", "-v", "a:b", image), 2, "not absolute"),
        (("run", "--rm", "--restart", "always", image), 125, "choose one"),
        (("run", "--privileged", image), 1, "not supported"),
        (("run", "IMAGE:UPPER", "x"), 125, "IMAGE"),
        (("stop", "nobody"), 1, "No such container: nobody"),
        (("exec", "nobody", "true"), 1, "No such container: nobody"),
        (("run",), 2, "missing argument"),
    ):
        done = await node.cli(*words, check=False)
        assert (done.status, sentence in done.err, "Traceback" in done.err) == (status, True, False), (words, done)
        assert len(done.err.strip().splitlines()) <= 2
    assert (await node.cli("ps", "-aq")).out == ""


async def test_a_copy_that_fails_halfway_ends(node: Node, image: str, tmp_path: Path) -> None:
    await node.cli("run", "-d", "--name", "source", image, "sh", "-c", FOREVER)
    failed = await node.cli("cp", "source:/sys/kernel/mm", str(tmp_path / "mm"), check=False)
    assert (failed.status, len(failed.err.splitlines())) == (1, 1), failed
    assert "cannot copy" in failed.err


async def test_a_node_in_no_swarm_says_what_it_runs_containers_with(node: Node) -> None:
    told = json.loads((await node.cli("info", "--format", "json")).out)
    assert told["ContainerRuntime"].startswith("containerd ")
    assert told["Driver"] == "overlayfs"
    assert "container" in told["Capabilities"]
