"""Images in a real containerd: pulled from a registry that misbehaves, unpacked, shared, kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
import pytest_asyncio

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.credentials import Credentials
from swarmpy.registry.platforms import Platform
from tests.support.containerd_process import ContainerdProcess, lacking
from tests.support.image_room import DRIVER, big, clear, make, mounted
from tests.support.images import Entry, ImageBuilder, busybox_image, index
from tests.support.registries import Lie, ScriptedRegistry, Stall, Status, Truncate
from worker.containerd.client import Containerd
from worker.containerd.types import Container
from worker.image.fetch import ingest_ref
from worker.image.types import Image, PullEvent, Stage, image_labels

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containerd can be run"),
]


@pytest.fixture(scope="module")
def containerd() -> Iterator[ContainerdProcess]:
    with ContainerdProcess() as process:
        yield process


@pytest_asyncio.fixture
async def client(containerd: ContainerdProcess) -> AsyncIterator[Containerd]:
    client = await containerd.client()
    try:
        yield client
        await clear(client)
    finally:
        await client.close()


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as registry:
        yield registry


async def test_pulled_unpacked_and_ready_for_a_container(
    client: Containerd, registry: ScriptedRegistry, tmp_path: Path
) -> None:
    built = index(
        busybox_image(files=[Entry("hello", b"world", 0o640, uid=1000, gid=1000)], env=("A=b",)),
        busybox_image(platform="linux/arm64"),
    )
    registry.add("library/web", "1", built)
    images = make(client)
    image = await images.ensure(f"{registry.host}/library/web:1")
    assert (image.name, image.digest) == (f"{registry.host}/library/web:1", built.digest)
    assert image.config.env == ("A=b",)
    with mounted(await images.snapshot("task", image), tmp_path / "root") as root:
        found = (root / "hello").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1000, 1000, 0o640)
        shown = await asyncio.create_subprocess_exec("chroot", root, "/bin/cat", "/hello", stdout=PIPE)
        assert (await shown.communicate())[0] == b"world"
        (root / "written").write_bytes(bytes(100_000))
    assert (await images.usage("task")).size_bytes >= 100_000
    assert await images.snapshot("task", image) == await images.mounts("task")
    assert await images.snapshots() == ("task",)
    await images.drop("task")
    await images.drop("task")
    assert await images.snapshots() == ()
    assert await client.leases.list() == ()
    asked = len(registry.requests)
    assert await images.ensure(f"{registry.host}/library/web:1") == image
    assert await images.ensure(f"{registry.host}/library/web:9@{built.digest}") == image.named(
        f"{registry.host}/library/web@{built.digest}"
    )
    assert len(registry.requests) == asked


async def test_many_ask_and_one_pulls(client: Containerd, registry: ScriptedRegistry) -> None:
    registry.add("web", "1", busybox_image())
    images = make(client)
    events: list[PullEvent] = []
    found = await asyncio.gather(*(images.ensure(f"{registry.host}/web:1", watch=events.append) for _ in range(20)))
    assert len({image.manifest_digest for image in found}) == 1
    assert len(registry.asked("blob")) == 2
    stages = [event.stage for event in events if event.digest]
    assert {Stage.FETCHING, Stage.FETCHED, Stage.UNPACKING, Stage.DONE} <= set(stages)


async def test_who_is_cancelled_leaves_the_pull_to_the_others(client: Containerd, registry: ScriptedRegistry) -> None:
    registry.add("web", "1", busybox_image(files=[big(3 << 20)]))
    registry.fail("blob", Stall(200_000), times=1)
    images = make(client)
    begun = asyncio.Event()
    first = asyncio.ensure_future(
        images.ensure(f"{registry.host}/web:1", watch=lambda event: begun.set() if event.digest else None)
    )
    await begun.wait()
    second = asyncio.ensure_future(images.ensure(f"{registry.host}/web:1"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).config.cmd == ("sh",)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_images_that_share_layers_fetch_them_once(client: Containerd, registry: ScriptedRegistry) -> None:
    for place in range(3):
        registry.add("web", str(place), busybox_image(files=[Entry("which", b"%d" % place)]))
    images = make(client)
    await asyncio.gather(*(images.ensure(f"{registry.host}/web:{place}") for place in range(3)))
    layers = [asked.path for asked in registry.asked("blob") if busybox_image().layers[0] in asked.path]
    assert len(layers) == 1


async def test_a_pull_that_was_cut_goes_on_where_it_was(client: Containerd, registry: ScriptedRegistry) -> None:
    built = ImageBuilder().layer([big(6 << 20)], "none").build()
    registry.add("web", "1", built)
    images = make(client, attempts=1)
    size = len(built.blobs[built.layers[0]])
    # The configuration comes first; what fails is the layer.
    registry.fail("blob", Lie(built.blobs[built.manifest["config"]["digest"]]), times=1)
    registry.fail("blob", Truncate(4 << 20), times=1)
    registry.fail("blob", Status(503), times=1)
    with pytest.raises(SwarmError) as caught:
        await images.ensure(f"{registry.host}/web:1")
    assert caught.value.retryable
    held = await client.content.status(ingest_ref(built.layers[0]))
    assert 3 << 20 <= held.offset <= 4 << 20
    # Another worker, after a restart, knows nothing but what containerd has.
    await make(client).ensure(f"{registry.host}/web:1")
    assert registry.asked("blob")[-1].headers["Range"] == f"bytes={held.offset}-"
    assert held.offset < size


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Lie(b"x" * 200), Code.UNAVAILABLE),
        (Status(404), Code.NOT_FOUND),
        (Status(403), Code.PERMISSION_DENIED),
        (Status(401, {"WWW-Authenticate": 'Basic realm="x"'}), Code.UNAUTHENTICATED),
    ],
    ids=["short", "404", "403", "401"],
)
async def test_a_layer_that_does_not_come(
    client: Containerd, registry: ScriptedRegistry, fault: Lie | Status, code: Code
) -> None:
    built = ImageBuilder().layer([big(1 << 20)], "none").build()
    registry.add("web", "1", built)
    registry.fail("blob", Lie(built.blobs[built.manifest["config"]["digest"]]), times=1)
    registry.fail("blob", fault, times=9)
    with pytest.raises(SwarmError) as caught:
        await make(client).ensure(f"{registry.host}/web:1")
    assert caught.value.code is code
    assert f"{registry.host}/web:1" in caught.value.message
    assert await client.images.list() == ()


async def test_a_layer_that_lies_about_its_digest_leaves_nothing(
    client: Containerd, registry: ScriptedRegistry
) -> None:
    built = ImageBuilder().layer([big(2 << 20)], "none").build()
    registry.add("web", "1", built)
    registry.blobs[built.layers[0]] = bytes(len(built.blobs[built.layers[0]]))
    with pytest.raises(SwarmError) as caught:
        await make(client).ensure(f"{registry.host}/web:1")
    assert caught.value.code is Code.CORRUPT
    assert "sent something else" in caught.value.message
    assert await client.content.ingests() == ()
    assert await client.content.list() == ()


async def test_a_layer_that_is_not_what_the_configuration_says(client: Containerd, registry: ScriptedRegistry) -> None:
    built = ImageBuilder().raw_layer(b"\0" * 1024, "none", diff_id="sha256:" + "ab" * 32).build()
    registry.add("web", "1", built)
    with pytest.raises(SwarmError) as caught:
        await make(client).ensure(f"{registry.host}/web:1")
    assert caught.value.code is Code.CORRUPT
    assert "damaged or forged" in caught.value.message
    assert await client.snapshots(DRIVER).list() == ()


async def test_other_platforms_are_refused(client: Containerd, registry: ScriptedRegistry) -> None:
    registry.add("arm", "1", busybox_image(platform="linux/arm64"))
    registry.add("both", "1", index(busybox_image(platform="linux/arm64"), busybox_image(platform="linux/s390x")))
    images = make(client)
    with pytest.raises(SwarmError, match="is built for linux/arm64, and this is linux/amd64"):
        await images.ensure(f"{registry.host}/arm:1")
    with pytest.raises(SwarmError, match="there are: linux/arm64, linux/s390x"):
        await images.ensure(f"{registry.host}/both:1")
    found = await images.ensure(f"{registry.host}/both:1", platform=Platform("linux", "arm64"))
    assert found.config.platform == Platform("linux", "arm64")


async def test_a_failure_for_want_of_credentials_is_not_shared(client: Containerd) -> None:
    async with ScriptedRegistry("bearer") as registry:
        registry.add("web", "1", busybox_image())
        images = make(client)
        bad, good = await asyncio.gather(
            images.ensure(f"{registry.host}/web:1", auth=Credentials("anna", "wrong")),
            images.ensure(f"{registry.host}/web:1", auth=Credentials("anna", "secret")),
            return_exceptions=True,
        )
    assert isinstance(good, Image)
    # Whoever comes second finds the image here.
    assert bad == good or (isinstance(bad, SwarmError) and bad.code is Code.UNAUTHENTICATED)


async def test_a_refreshed_tag_moves(client: Containerd, registry: ScriptedRegistry) -> None:
    old, new = busybox_image(), busybox_image(cmd=("new",))
    registry.add("web", "1", old)
    images = make(client)
    await images.ensure(f"{registry.host}/web:1")
    registry.add("web", "1", new)
    assert (await images.ensure(f"{registry.host}/web:1")).digest == old.digest
    assert (await images.ensure(f"{registry.host}/web:1", refresh=True)).digest == new.digest
    names = sorted(record.name for record in await client.images.list())
    assert names == sorted(f"{registry.host}/web{end}" for end in (":1", f"@{old.digest}", f"@{new.digest}"))


async def test_what_was_lost_is_made_again(client: Containerd, registry: ScriptedRegistry) -> None:
    built = busybox_image()
    registry.add("web", "1", built)
    image = await make(client).ensure(f"{registry.host}/web:1")
    await client.snapshots(DRIVER).remove(image.chain_id)
    asked = len(registry.requests)
    await make(client).ensure(f"{registry.host}/web:1")
    assert len(registry.requests) == asked, "unpacked again from what is here"
    await client.snapshots(DRIVER).remove(image.chain_id)
    await client.content.delete(built.layers[0])
    await make(client).ensure(f"{registry.host}/web:1")
    assert await client.snapshots(DRIVER).exists(image.chain_id)


async def test_a_container_keeps_its_image(client: Containerd, registry: ScriptedRegistry) -> None:
    registry.add("web", "1", busybox_image())
    images = make(client)
    image = await images.ensure(f"{registry.host}/web:1")
    await images.snapshot("task", image)
    await client.containers.create(Container("task", image.name, image_labels(image), {}, images.snapshotter, "task"))
    with pytest.raises(SwarmError, match="is used by container task"):
        await images.catalog.remove(f"{registry.host}/web:1")
    assert (await images.catalog.prune(every=True)).deleted == ()
    await client.containers.delete("task")
    removed = await images.catalog.remove(f"{registry.host}/web:1")
    assert removed.deleted == (image.digest,)
    assert removed.reclaimed_bytes > 1_000_000
    # The container's own snapshot keeps those below it until it is dropped.
    assert await client.snapshots(DRIVER).exists(image.chain_id)
    await images.drop("task")
