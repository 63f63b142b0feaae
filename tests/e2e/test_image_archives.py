"""Images in and out: archives, Debian's docker-registry with and without a password, names, removal."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from swarmpy.clock import SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.registry.platforms import Platform
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import Patience
from tests.support.containerd_process import NAMESPACE, ContainerdProcess, lacking
from tests.support.docker_registry import USER, DockerRegistry
from tests.support.docker_registry import lacking as lacking_registry
from tests.support.image_room import DRIVER, clear
from tests.support.images import (
    Entry,
    ImageBuilder,
    busybox_image,
    index,
    push,
    tar_bytes,
    write_docker_tar,
    write_layout_tar,
)
from worker.containerd.client import Containerd
from worker.image.room import ImageRoom, image_room

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containerd can be run"),
]
needs_registry = pytest.mark.skipif(bool(lacking_registry()), reason=lacking_registry() or "docker-registry can be run")


def room(client: Containerd) -> ImageRoom:
    return image_room(
        client,
        DRIVER,
        RegistrySettings(),
        clock=SystemClock(),
        rng=random.Random(5),
        platform=Platform("linux", "amd64"),
        patience=Patience(attempts=2, first_pause_s=0.01),
    )


async def save(parts: ImageRoom, path: Path, *names: str) -> None:
    with path.open("wb") as out:
        async for piece in parts.exporter.save(names):
            out.write(piece)


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


@pytest.fixture
def parts(client: Containerd) -> ImageRoom:
    return room(client)


async def test_a_layout_is_imported_and_saved_and_imported_again(
    parts: ImageRoom, client: Containerd, tmp_path: Path
) -> None:
    built = index(busybox_image(files=[Entry("x", b"1")]), busybox_image(platform="linux/arm64"))
    write_layout_tar(tmp_path / "in.tar", {"team/web:1": built, "team/other:2": busybox_image(cmd=("other",))})
    loaded = await parts.importer.load(tmp_path / "in.tar")
    assert [image.config.cmd for image in loaded] == [("sh",), ("other",)]
    assert loaded[0].digest == built.digest
    assert await parts.images.ensure("team/web:1") == loaded[0]
    assert (await parts.images.snapshot("t", loaded[0]))[0].type == "overlay"
    await parts.images.drop("t")
    await save(parts, tmp_path / "out.tar", "team/web:1", "team/other:2")
    await clear(client)
    again = await room(client).importer.load(tmp_path / "out.tar")
    assert [image.manifest_digest for image in again] == [image.manifest_digest for image in loaded]
    assert [image.name for image in again] == [image.name for image in loaded]


@pytest.mark.parametrize("compress", [False, True])
async def test_what_docker_saved_is_imported(parts: ImageRoom, tmp_path: Path, compress: bool) -> None:
    write_docker_tar(tmp_path / "in.tar", {"web:1": busybox_image(files=[Entry("x", b"1")])})
    if compress:
        (tmp_path / "in.tar").write_bytes(gzip.compress((tmp_path / "in.tar").read_bytes(), 1))
    (image,) = await parts.importer.load(tmp_path / "in.tar")
    assert image.config.cmd == ("sh",)
    assert (await parts.images.ensure("web:1")).chain_id == image.chain_id


async def test_our_archives_are_read_by_others(parts: ImageRoom, tmp_path: Path, containerd: ContainerdProcess) -> None:
    write_layout_tar(tmp_path / "in.tar", {"web:1": busybox_image()})
    await parts.importer.load(tmp_path / "in.tar")
    await save(parts, tmp_path / "out.tar", "web:1")
    with tarfile.open(tmp_path / "out.tar") as archive:
        (row,) = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        assert row["RepoTags"] == ["web:1"]
        assert set(row["Layers"]) < set(archive.getnames())
    if shutil.which("ctr"):
        command = ["ctr", "--address", str(containerd.socket), "--namespace", NAMESPACE, "image", "import"]
        other = await asyncio.create_subprocess_exec(*command, str(tmp_path / "out.tar"), stdout=-1)
        assert b"library/web:1" in (await other.communicate())[0]
        assert other.returncode == 0


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"no archive at all", "cannot be read as a tar file"),
        (tar_bytes([Entry("x", b"1")]), "holds no image"),
        (tar_bytes([Entry("manifest.json", b"[]x")]), "manifest.json of"),
        (
            tar_bytes([Entry("manifest.json", b'[{"Config":"gone.json","Layers":[],"RepoTags":["a:1"]}]')]),
            "lacks gone.json",
        ),
        (tar_bytes([Entry("oci-layout", b"{}"), Entry("index.json", b"{}")]), "is not an image manifest"),
    ],
    ids=["noise", "empty", "json", "config", "index"],
)
async def test_what_is_no_archive_of_images(parts: ImageRoom, tmp_path: Path, data: bytes, part: str) -> None:
    (tmp_path / "in.tar").write_bytes(data)
    with pytest.raises(SwarmError, match=part):
        await parts.importer.load(tmp_path / "in.tar")


async def test_a_damaged_archive_leaves_nothing(parts: ImageRoom, client: Containerd, tmp_path: Path) -> None:
    built = busybox_image()
    write_layout_tar(tmp_path / "in.tar", {"web:1": built})
    data = bytearray((tmp_path / "in.tar").read_bytes())
    place = bytes(data).find(built.blobs[built.layers[0]][:64])
    data[place + 1000] ^= 0xFF
    (tmp_path / "in.tar").write_bytes(data)
    with pytest.raises(SwarmError) as caught:
        await parts.importer.load(tmp_path / "in.tar")
    assert caught.value.code is Code.CORRUPT
    (tmp_path / "in.tar").write_bytes(data[: place + 5000])
    with pytest.raises(SwarmError):
        await parts.importer.load(tmp_path / "in.tar")
    assert await client.content.list() == ()
    assert await client.content.ingests() == ()


async def test_an_archive_without_a_name_is_given_one(parts: ImageRoom, tmp_path: Path) -> None:
    write_layout_tar(tmp_path / "in.tar", {"latest": busybox_image()})
    with pytest.raises(SwarmError, match="give it a name"):
        await parts.importer.load(tmp_path / "in.tar")
    (image,) = await parts.importer.load(tmp_path / "in.tar", name="mine:3")
    assert image.name.endswith("/mine:3")


async def test_an_image_of_another_platform_is_not_imported(parts: ImageRoom, tmp_path: Path) -> None:
    write_layout_tar(tmp_path / "in.tar", {"web:1": busybox_image(platform="linux/arm64")})
    with pytest.raises(SwarmError, match="is built for linux/arm64"):
        await parts.importer.load(tmp_path / "in.tar")


async def test_names_are_given_moved_and_taken_away(parts: ImageRoom, tmp_path: Path) -> None:
    write_layout_tar(tmp_path / "in.tar", {"web:1": busybox_image(), "web:2": busybox_image(cmd=("two",))})
    one, two = await parts.importer.load(tmp_path / "in.tar")
    catalog = parts.catalog
    await catalog.tag("web:1", "team/other:x")
    await catalog.tag(two.config_digest[7:19], "team/other:x")
    rows = {row.digest: row for row in await catalog.list()}
    assert rows[two.digest].tags == ("team/other:x", "web:2")
    assert rows[one.digest].tags == ("web:1",)
    assert (await catalog.find("team/other:x")).digest == two.digest
    with pytest.raises(SwarmError, match="has the names team/other:x, web:2"):
        await catalog.remove(two.config_digest)
    assert (await catalog.remove("web:2")).deleted == ()
    assert (await catalog.remove("team/other:x")).deleted == (two.digest,)
    with pytest.raises(SwarmError, match="there is no image web:2 on this node"):
        await catalog.find("web:2")
    assert [row.digest for row in await catalog.list()] == [one.digest]


async def test_prune_takes_what_has_no_tag_and_with_every_what_is_not_used(
    parts: ImageRoom, client: Containerd, tmp_path: Path
) -> None:
    write_layout_tar(tmp_path / "a.tar", {"web:1": busybox_image()})
    write_layout_tar(tmp_path / "b.tar", {"web:1": busybox_image(cmd=("new",))})
    (old,) = await parts.importer.load(tmp_path / "a.tar")
    (new,) = await parts.importer.load(tmp_path / "b.tar")
    catalog = parts.catalog
    assert (await catalog.prune(created_before_s=0.0)).deleted == ()
    assert (await catalog.prune()).deleted == (old.digest,)
    pruned = await catalog.prune(every=True)
    assert pruned.deleted == (new.digest,)
    assert pruned.reclaimed_bytes > 1_000_000
    assert await client.snapshots(DRIVER).list() == ()


async def test_history_keeps_the_newest(parts: ImageRoom, tmp_path: Path) -> None:
    for number in range(4):
        write_layout_tar(tmp_path / "in.tar", {"web:1": busybox_image(cmd=(str(number),))})
        await parts.importer.load(tmp_path / "in.tar")
    catalog = parts.catalog
    repository = (await catalog.find("web:1")).image
    assert repository is not None
    name = repository.name.rpartition(":")[0]
    assert (await catalog.limit_history(name, 1, 0.0)).deleted == ()
    await catalog.limit_history(name, 1, SystemClock().now() + 1)
    left = [row.image.config.cmd for row in await catalog.list() if row.image is not None]
    assert left == [("3",), ("2",)]


@needs_registry
@pytest.mark.parametrize("password", [False, True])
async def test_pushed_to_and_pulled_from_debians_registry(
    parts: ImageRoom, client: Containerd, tmp_path: Path, password: bool
) -> None:
    auth = USER if password else None
    with DockerRegistry(password=password) as registry:
        name = f"{registry.host}/team/web:1"
        write_layout_tar(tmp_path / "in.tar", {"web:1": busybox_image(files=[Entry("x", bytes(3 << 20))])})
        (image,) = await parts.importer.load(tmp_path / "in.tar")
        await parts.catalog.tag("web:1", name)
        if password:
            with pytest.raises(SwarmError, match="only after a login"):
                await parts.pusher.push(name)
        assert await parts.pusher.push(name, auth=auth) == image.manifest_digest
        await parts.catalog.tag("web:1", f"{registry.host}/team/again:1")
        assert await parts.pusher.push(f"{registry.host}/team/again:1", auth=auth) == image.manifest_digest
        await clear(client)
        assert (await room(client).images.ensure(name, auth=auth)).manifest_digest == image.manifest_digest


@needs_registry
async def test_what_plain_requests_pushed_is_pulled(parts: ImageRoom) -> None:
    built = index(busybox_image(docker=True), ImageBuilder().build(platform="linux/s390x"))
    with DockerRegistry() as registry:
        push(registry.url, "library/web", "1", built)
        image = await parts.images.ensure(f"{registry.host}/library/web:1")
        assert image.digest == built.digest
        with pytest.raises(SwarmError) as caught:
            await parts.images.ensure(f"{registry.host}/library/web:2")
        assert caught.value.code is Code.NOT_FOUND
