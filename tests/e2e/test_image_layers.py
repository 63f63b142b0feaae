"""Layers in a real containerd: compressions, whiteouts, links, names that lead out, and bombs."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.settings import RegistrySettings
from tests.support.containerd_process import ContainerdProcess, lacking
from tests.support.image_room import DRIVER, big, clear, make, mounted
from tests.support.images import Entry, ImageBuilder, directory, hard_link, symlink
from tests.support.registries import ScriptedRegistry
from worker.containerd.client import Containerd

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


@pytest.mark.skipif(not shutil.which("zstd"), reason="the program zstd is not installed")
async def test_layers_of_every_compression(client: Containerd, registry: ScriptedRegistry, tmp_path: Path) -> None:
    builder = ImageBuilder()
    for compression in ("none", "gzip", "zstd"):
        builder.layer([Entry(compression, compression.encode())], compression)
    registry.add("web", "1", builder.build())
    images = make(client)
    image = await images.ensure(f"{registry.host}/web:1")
    with mounted(await images.view("look", image), tmp_path / "root") as root:
        assert sorted(path.name for path in root.iterdir()) == ["gzip", "none", "zstd"]


async def test_whiteouts_links_and_devices(client: Containerd, registry: ScriptedRegistry, tmp_path: Path) -> None:
    lower = [directory("d"), Entry("d/old", b"1"), Entry("gone", b"2"), directory("opaque"), Entry("opaque/x", b"3")]
    upper = [
        Entry(".wh.gone"),
        directory("opaque"),
        Entry("opaque/.wh..wh..opq"),
        Entry("opaque/new", b"4"),
        Entry("one", b"5"),
        hard_link("two", "one"),
        Entry("null", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
        Entry("pipe", kind=tarfile.FIFOTYPE),
        symlink("dangling", "/nowhere"),
    ]
    built = ImageBuilder().layer(lower).layer(upper).build()
    registry.add("web", "1", built)
    images = make(client)
    with mounted(await images.snapshot("t", await images.ensure(f"{registry.host}/web:1")), tmp_path / "r") as root:
        assert not (root / "gone").exists()
        assert [path.name for path in (root / "opaque").iterdir()] == ["new"]
        assert (root / "one").stat().st_ino == (root / "two").stat().st_ino
        assert os.major((root / "null").stat().st_rdev) == 1
        assert (root / "pipe").is_fifo()
        assert (root / "d/old").read_bytes() == b"1"


async def test_names_that_lead_out_of_the_layer_stay_in_it(
    client: Containerd, registry: ScriptedRegistry, tmp_path: Path
) -> None:
    outside = Path("/swarmpy-escaped")
    entries = [
        Entry("/swarmpy-escaped", b"absolute"),
        Entry("../../../../../../../../swarmpy-escaped-2", b"parents"),
        symlink("link", "/"),
        Entry("link/swarmpy-escaped-3", b"through a link"),
    ]
    registry.add("web", "1", ImageBuilder().layer(entries).build())
    images = make(client)
    image = await images.ensure(f"{registry.host}/web:1")
    with mounted(await images.snapshot("t", image), tmp_path / "r") as root:
        assert (root / "swarmpy-escaped").read_bytes() == b"absolute"
    for suffix in ("", "-2", "-3"):
        assert not outside.with_name(outside.name + suffix).exists()


async def test_a_hard_link_out_of_the_layer_is_refused(client: Containerd, registry: ScriptedRegistry) -> None:
    registry.add("web", "1", ImageBuilder().layer([hard_link("stolen", "../../../../../../../etc/shadow")]).build())
    with pytest.raises(SwarmError):
        await make(client).ensure(f"{registry.host}/web:1")
    assert await client.snapshots(DRIVER).list() == ()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_a_bomb_is_stopped(client: Containerd, registry: ScriptedRegistry, compression: str) -> None:
    if compression == "zstd" and not shutil.which("zstd"):
        pytest.skip("the program zstd is not installed")
    bomb = ImageBuilder().layer([Entry(f"zeros-{n}", bytes(32 << 20)) for n in range(4)], compression).build()
    registry.add("web", "1", bomb)
    settings = RegistrySettings(max_unpacked_layer_bytes=10 << 20, max_unpacked_image_bytes=1 << 40)
    with pytest.raises(SwarmError) as caught:
        await make(client, settings).ensure(f"{registry.host}/web:1")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert "10MiB when it is unpacked" in caught.value.message
    assert await client.snapshots(DRIVER).list() == ()
    assert await client.content.list() == ()


async def test_an_image_of_too_many_layers_in_all_is_stopped(client: Containerd, registry: ScriptedRegistry) -> None:
    builder = ImageBuilder()
    for number in range(4):
        builder.layer([big(1 << 20, f"part-{number}", number)], "none")
    registry.add("web", "1", builder.build())
    settings = RegistrySettings(max_unpacked_image_bytes=2 << 20)
    with pytest.raises(SwarmError, match="more than the limit"):
        await make(client, settings).ensure(f"{registry.host}/web:1")
    assert await client.images.list() == ()
