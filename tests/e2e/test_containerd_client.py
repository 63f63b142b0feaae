"""The client against a real containerd: content, leases, snapshots, layers, images, containers and their processes."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import signal
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from swarmpy.errors import Code, SwarmError
from tests.support.container_node import ContainerNode, lacking
from worker.containerd.client import Containerd
from worker.containerd.types import (
    LAYER_GZIP,
    Descriptor,
    Event,
    ImageRecord,
    OtherEvent,
    ProcessStatus,
    SnapshotKind,
    TaskDelete,
    TaskExit,
    TaskOOM,
    TaskStart,
    content_resource,
    snapshot_resource,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
]

KEEP = {"containerd.io/gc.root": "test"}


@pytest.fixture(scope="module")
def node() -> Iterator[ContainerNode]:
    with ContainerNode() as node:
        node.start()
        yield node
        node.shut_down()
        assert node.mounts() == []


@pytest_asyncio.fixture
async def client(node: ContainerNode) -> AsyncIterator[Containerd]:
    async with await node.client() as client:
        if not await client.snapshots("overlayfs").exists("base"):
            await node.make_base(client)
        yield client


async def test_the_version_and_what_works(client: Containerd, node: ContainerNode) -> None:
    version = await client.version()
    assert [int(part) for part in version.version.partition("~")[0].split(".")[:2]] >= [1, 6]
    drivers = await client.introspection.snapshotters()
    assert drivers["native"] == ""
    assert "devmapper" not in drivers
    kinds = {plugin.id for plugin in await client.introspection.plugins() if plugin.type == "io.containerd.grpc.v1"}
    assert "cri" not in kinds
    assert {"tasks", "content", "snapshots"} <= kinds
    assert node.namespace in await client.namespaces.list()
    with pytest.raises(SwarmError) as caught:
        await client.namespaces.delete(node.namespace)
    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_a_write_is_taken_up_where_it_was_cut(client: Containerd) -> None:
    data = os.urandom(3 << 20)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with pytest.raises(RuntimeError):
        async with client.content.write("layer", total=len(data), expected=digest) as writer:
            assert await writer.write(data[:2_500_000]) == 2_500_000
            raise RuntimeError("cut")
    assert (await client.content.status("layer")).offset == 2_500_000
    async with client.content.write("layer", total=len(data), expected=digest) as writer:
        assert writer.offset == 2_500_000
        with pytest.raises(SwarmError) as caught:
            async with client.content.write("layer"):
                pass
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.retryable
        await writer.write(data[writer.offset :])
        assert await writer.commit(labels=KEEP) == digest
    info = await client.content.info(digest)
    assert (info.size_bytes, info.labels) == (len(data), KEEP)
    assert b"".join([piece async for piece in client.content.read(digest)]) == data
    assert b"".join([piece async for piece in client.content.read(digest, 100, 50)]) == data[100:150]
    with pytest.raises(SwarmError) as caught:
        await client.content.read_all(digest, 1000)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    with pytest.raises(SwarmError) as caught:
        async with client.content.write("again", expected=digest):
            pass
    assert caught.value.code is Code.ALREADY_EXISTS
    await client.content.delete(digest)
    assert not await client.content.exists(digest)


async def test_what_is_not_as_promised_is_refused(client: Containerd) -> None:
    wrong = f"sha256:{'0' * 64}"
    async with client.content.write("bad") as writer:
        await writer.write(b"abc")
        with pytest.raises(SwarmError) as caught:
            await writer.commit(digest=wrong)
        assert caught.value.code is Code.FAILED_PRECONDITION
    async with client.content.write("bad") as writer:
        with pytest.raises(SwarmError) as caught:
            await writer.commit(size=4)
        assert caught.value.code is Code.FAILED_PRECONDITION
    async with client.content.write("bad") as writer:
        await writer.restart()
        assert writer.offset == 0
    assert [ingest.ref for ingest in await client.content.ingests()] == ["bad"]
    await client.content.abort("bad")
    with pytest.raises(SwarmError) as caught:
        await client.content.status("bad")
    assert caught.value.code is Code.NOT_FOUND


async def test_small_blobs_and_their_labels(client: Containerd) -> None:
    digest = await client.content.put(b"{}", labels=KEEP)
    assert await client.content.put(b"{}", labels={"colour": "blue"}) == digest
    assert (await client.content.info(digest)).labels == {**KEEP, "colour": "blue"}
    assert (await client.content.set_labels(digest, {"colour": ""})).labels == KEEP
    assert await client.content.read_all(digest) == b"{}"
    assert digest in [info.digest for info in await client.content.list()]
    assert await client.content.put(b"", labels=KEEP) == f"sha256:{hashlib.sha256(b'').hexdigest()}"


async def test_a_lease_keeps_what_nothing_refers_to(client: Containerd) -> None:
    await client.leases.ensure("pull", {"who": "test"})
    await client.leases.ensure("pull")
    with pytest.raises(SwarmError) as caught:
        await client.leases.create("pull")
    assert caught.value.code is Code.ALREADY_EXISTS
    leased = client.leased("pull")
    digest = await leased.content.put(b"leased")
    await leased.snapshots("overlayfs").prepare("leased", "base")
    held = await client.leases.resources("pull")
    assert {content_resource(digest), snapshot_resource("overlayfs", "leased")} <= set(held)
    [lease] = await client.leases.list()
    assert (lease.id, lease.labels) == ("pull", {"who": "test"})
    other = await client.leases.create("other", expires_at_s=4e9)
    assert other.labels["containerd.io/gc.expire"].startswith("2096-")
    await client.leases.add("other", content_resource(digest))
    await client.leases.delete("pull", sync=True)
    assert await client.content.exists(digest)
    assert not await client.snapshots("overlayfs").exists("leased")
    await client.leases.remove("other", content_resource(digest))
    await client.leases.delete("other", sync=True)
    assert not await client.content.exists(digest)


@pytest.mark.parametrize("driver", ["overlayfs", "native"])
async def test_snapshots(client: Containerd, driver: str) -> None:
    snapshots = client.snapshots(driver)
    mounts = await snapshots.prepare("draft", labels=KEEP)
    (Path(mounts[0].source) / "file").write_bytes(b"x" * 10_000)
    assert await snapshots.mounts("draft") == mounts
    assert (await snapshots.stat("draft")).kind is SnapshotKind.ACTIVE
    await snapshots.commit("layer-1", "draft", KEEP)
    assert (await snapshots.usage("layer-1")).size_bytes >= 10_000
    await snapshots.prepare("above", "layer-1", KEEP)
    assert "ro" in (await snapshots.view("look", "layer-1", KEEP))[0].options
    assert (await snapshots.stat("above")).parent == "layer-1"
    with pytest.raises(SwarmError) as caught:
        await snapshots.remove("layer-1")
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert (await snapshots.set_labels("above", {"colour": "red"})).labels == {**KEEP, "colour": "red"}
    assert [one.name for one in await snapshots.list("labels.colour==red")] == ["above"]
    for key in ("look", "above", "layer-1"):
        await snapshots.remove(key)
    await snapshots.cleanup()
    assert not await snapshots.exists("layer-1")


async def test_layers_there_and_back(client: Containerd) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("etc/motd")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    packed = gzip.compress(archive.getvalue())
    layer = Descriptor(LAYER_GZIP, await client.content.put(packed, labels=KEEP), len(packed))
    snapshots = client.snapshots("overlayfs")
    mounts = await snapshots.prepare("unpack", labels=KEEP)
    applied = await client.diff.apply(layer, mounts)
    assert applied.digest == f"sha256:{hashlib.sha256(archive.getvalue()).hexdigest()}"
    assert (Path(mounts[0].source) / "etc" / "motd").read_text() == "hello"
    await snapshots.commit("unpacked", "unpack", KEEP)
    changed = await snapshots.prepare("changed", "unpacked", KEEP)
    upper = next(option for option in changed[0].options if option.startswith("upperdir="))
    (Path(upper.partition("=")[2]) / "new").write_text("new")
    made = await client.diff.compare(await snapshots.view("v", "unpacked", KEEP), changed, labels=KEEP)
    with tarfile.open(fileobj=io.BytesIO(await client.content.read_all(made.digest))) as tar:
        assert "new" in tar.getnames()
        assert "etc/motd" not in tar.getnames()


async def test_images(client: Containerd) -> None:
    manifest = await client.content.put(b'{"schemaVersion":2}', labels=KEEP)
    target = Descriptor("application/vnd.oci.image.manifest.v1+json", manifest, 19)
    image = ImageRecord("registry.test/web:1", target, {"a": "b"})
    assert (await client.images.put(image)).target == target
    changed = await client.images.put(ImageRecord(image.name, target, {"c": "d"}))
    assert changed.labels == {"c": "d"}
    with pytest.raises(SwarmError, match=r"cannot name image registry\.test/web:1") as caught:
        await client.images.create(image)
    assert caught.value.code is Code.ALREADY_EXISTS
    assert [one.name for one in await client.images.list()] == [image.name]
    await client.images.delete(image.name, sync=True)
    with pytest.raises(SwarmError) as caught:
        await client.images.get(image.name)
    assert caught.value.code is Code.NOT_FOUND


async def test_the_life_of_a_container(client: Containerd, node: ContainerNode) -> None:
    program = ("sh", "-c", "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.05; done")
    mounts = await node.make(client, "life", program, {"kind": "test"})
    record = await client.containers.get("life")
    assert (record.labels, record.snapshot_key) == ({"kind": "test"}, "life")
    assert record.spec == json.loads(json.dumps(node.spec("life", program)))
    assert (await client.containers.set_labels("life", {"kind": "new"})).labels == {"kind": "new"}
    assert [one.id for one in await client.containers.list("labels.kind==new")] == ["life"]
    output = node.directory / "out"
    os.mkfifo(output)
    reader = os.open(output, os.O_RDWR | os.O_NONBLOCK)
    try:
        async with client.events.subscribe('topic~="^/tasks/"') as events:
            pid = await client.tasks.create("life", rootfs=mounts, stdout=str(output), stderr=str(output))
            assert (await client.tasks.get("life")).status is ProcessStatus.CREATED
            assert await client.tasks.start("life") == pid
            assert await first(events, TaskStart) == pid
            [task] = await client.tasks.list()
            assert (task.container_id, task.status, task.stdout) == ("life", ProcessStatus.RUNNING, str(output))
            assert pid in await client.tasks.pids("life")
            metrics = (await client.tasks.metrics("life"))["life"]
            assert metrics.memory_bytes > 0
            assert metrics.pids >= 1
            assert metrics.memory_limit_bytes == 0
            await client.tasks.update("life", {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}})
            limited = (await client.tasks.metrics())["life"]
            assert (limited.memory_limit_bytes, limited.pids_limit) == (64 << 20, 50)
            await client.tasks.pause("life")
            assert (await client.tasks.get("life")).status is ProcessStatus.PAUSED
            await client.tasks.resume("life")
            with pytest.raises(SwarmError) as caught:
                await client.tasks.delete("life")
            assert caught.value.code is Code.FAILED_PRECONDITION
            waiting = asyncio.create_task(client.tasks.wait("life"))
            assert await client.tasks.kill("life", signal.SIGTERM)
            assert (await waiting).status == 7
            assert await first(events, TaskExit) == pid
            assert not await client.tasks.kill("life", signal.SIGKILL)
            ended = await client.tasks.get("life")
            assert ended.exited is not None
            assert ended.exited.status == 7
            await client.tasks.delete("life")
            assert await first(events, TaskDelete) == pid
        assert os.read(reader, 100) == b"hello\nbye\n"
    finally:
        os.close(reader)
    await client.containers.delete("life")
    with pytest.raises(SwarmError) as caught:
        await client.containers.delete("life")
    assert caught.value.code is Code.NOT_FOUND
    await client.snapshots("overlayfs").remove("life")


async def first(events: AsyncIterator[Event], kind: type[TaskStart | TaskExit | TaskDelete]) -> int:
    """Return the pid of the next event of this kind that is about a container's first process."""
    async with asyncio.timeout(15):
        async for event in events:
            if isinstance(event, kind) and not (isinstance(event, TaskExit | TaskDelete) and event.exec_id):
                return event.pid
    raise AssertionError(f"no {kind.__name__}")


async def test_further_processes(client: Containerd, node: ContainerNode) -> None:
    mounts = await node.make(client, "execs", ("sleep", "1000"))
    await client.tasks.create("execs", rootfs=mounts)
    await client.tasks.start("execs")
    process = {"args": ["sh", "-c", "cat; exit 3"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    given, taken = node.directory / "in", node.directory / "exec-out"
    os.mkfifo(given)
    os.mkfifo(taken)
    ends = [os.open(given, os.O_RDWR | os.O_NONBLOCK), os.open(taken, os.O_RDWR | os.O_NONBLOCK)]
    try:
        with pytest.raises(SwarmError, match="give both outputs or none"):
            await client.tasks.exec("execs", "e1", process, stdin=str(given), stdout=str(taken))
        await client.tasks.exec("execs", "e1", process, stdin=str(given), stdout=str(taken), stderr=str(taken))
        await client.tasks.start("execs", "e1")
        assert (await client.tasks.get("execs", "e1")).exec_id == "e1"
        os.write(ends[0], b"typed")
        os.close(ends.pop(0))
        await client.tasks.close_stdin("execs", exec_id="e1")
        assert (await client.tasks.wait("execs", "e1")).status == 3
        assert (await client.tasks.delete_process("execs", "e1")).status == 3
        assert os.read(ends[0], 100) == b"typed"
        await client.tasks.exec(
            "execs", "e2", {**process, "args": ["sleep", "1000"], "terminal": True}, stdout=str(taken), terminal=True
        )
        await client.tasks.start("execs", "e2")
        await client.tasks.resize("execs", 132, 50, exec_id="e2")
        assert await client.tasks.kill("execs", signal.SIGKILL, exec_id="e2")
        assert (await client.tasks.wait("execs", "e2")).status == 137
        await client.tasks.delete_process("execs", "e2")
    finally:
        for end in ends:
            os.close(end)
    assert await client.tasks.kill("execs", signal.SIGKILL, all_processes=True)
    assert (await client.tasks.wait("execs")).status == 137
    await client.tasks.delete("execs")
    await client.containers.delete("execs")


async def test_running_out_of_memory_is_told(client: Containerd, node: ContainerNode) -> None:
    hungry = ("sh", "-c", 'sleep 0.2; a=xxxxxxxx; while :; do a="$a$a"; done')
    mounts = await node.make(client, "oom", hungry)
    spec = node.spec("oom", hungry)
    linux = spec["linux"]
    assert isinstance(linux, dict)
    linux["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    await client.containers.set_spec("oom", spec)
    await client.tasks.create("oom", rootfs=mounts)
    async with client.events.subscribe() as events:
        await client.tasks.start("oom")
        async with asyncio.timeout(15):
            seen = [event async for event in _until(events, TaskOOM)]
    assert seen[-1].container_id == "oom"
    assert (await client.tasks.wait("oom")).status == 137
    await client.tasks.delete("oom")
    await client.containers.delete("oom")


async def _until(events: AsyncIterator[Event], kind: type[TaskOOM]) -> AsyncIterator[TaskOOM]:
    async for event in events:
        if isinstance(event, kind):
            yield event
            return


async def test_events_of_other_namespaces_are_not_ours(client: Containerd, node: ContainerNode) -> None:
    other = Containerd.connect(node.socket, "somebody-else")
    async with other, client.events.subscribe() as events:
        await other.namespaces.ensure("somebody-else")
        digest = await other.content.put(b"theirs")
        target = Descriptor("application/json", digest, 6)
        await other.images.put(ImageRecord("theirs", target))
        await client.images.put(
            ImageRecord("ours", Descriptor("application/json", await client.content.put(b"ours"), 4))
        )
        async with asyncio.timeout(15):
            event = await anext(events)
        assert isinstance(event, OtherEvent)
        assert event.topic == "/images/create"
        assert [image.name for image in await client.images.list()] == ["ours"]
        await other.images.delete("theirs", sync=True)
        await client.images.delete("ours", sync=True)
        await other.namespaces.delete("somebody-else")
