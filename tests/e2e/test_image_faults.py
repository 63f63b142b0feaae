"""Pulls that meet a full disk or a containerd that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.containerd_process import ContainerdProcess, lacking
from tests.support.image_room import DRIVER, big, clear, make
from tests.support.images import ImageBuilder, busybox_image
from tests.support.registries import ScriptedRegistry, Stall
from worker.image.fetch import ingest_ref

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containerd can be run"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)
    yield place
    run(["umount", str(place)], check=True)


@pytest.mark.parametrize("layers", [1, 3], ids=["fetching", "unpacking"])
async def test_a_full_disk_is_said_and_nothing_is_left(small_disk: Path, layers: int) -> None:
    # One layer of 40 MB does not fit at all; three of 5 MB fit as they come, but not once more unpacked.
    size_bytes = (40 << 20) if layers == 1 else (5 << 20)
    builder = ImageBuilder()
    for number in range(layers):
        builder.layer([big(size_bytes, f"file-{number}", number)], "none")
    with ContainerdProcess(small_disk) as containerd:
        client = await containerd.client()
        try:
            async with ScriptedRegistry() as registry:
                registry.add("web", "1", builder.build())
                registry.add("small", "1", busybox_image())
                images = make(client)
                with pytest.raises(SwarmError) as caught:
                    await images.ensure(f"{registry.host}/web:1")
                assert caught.value.code is Code.RESOURCE_EXHAUSTED
                assert "the disk is full" in caught.value.message
                assert await client.content.ingests() == ()
                assert await client.content.list() == ()
                assert await client.snapshots(DRIVER).list() == ()
                assert await client.images.list() == ()
                assert (await images.ensure(f"{registry.host}/small:1")).config.cmd == ("sh",)
            await clear(client)
        finally:
            await client.close()


async def test_a_containerd_that_is_killed_finds_what_has_come() -> None:
    built = ImageBuilder().layer([big(4 << 20)], "none").build()
    with ContainerdProcess() as containerd:
        client = await containerd.client()
        try:
            async with ScriptedRegistry() as registry:
                registry.add("web", "1", built)
                # The configuration is a blob too, and comes first.
                registry.after("blob", 1, Stall(3 << 20))
                images = make(client, attempts=1)
                arrived = asyncio.Event()
                pulling = asyncio.ensure_future(
                    images.ensure(
                        f"{registry.host}/web:1",
                        watch=lambda event: arrived.set() if event.done_bytes >= 1 << 20 else None,
                    )
                )
                await arrived.wait()
                containerd.kill()
                with pytest.raises(SwarmError) as caught:
                    await pulling
                assert caught.value.retryable
                containerd.start()
                await client.wait_until_serving(15.0)
                held = await client.content.status(ingest_ref(built.layers[0]))
                assert held.offset >= 1 << 20
                await images.ensure(f"{registry.host}/web:1")
                assert registry.asked("blob")[-1].headers["Range"] == f"bytes={held.offset}-"
            await clear(client)
        finally:
            await client.close()


async def test_a_write_that_another_holds_is_waited_for() -> None:
    """A worker that was killed leaves its write locked until containerd has seen that its connection is gone."""
    built = busybox_image()
    with ContainerdProcess() as containerd:
        client, other = await containerd.client(), await containerd.client()
        try:
            async with ScriptedRegistry() as registry:
                registry.add("web", "1", built)
                async with other.content.write(ingest_ref(built.layers[0]), total=1) as writer:
                    assert writer.offset == 0
                    pulling = asyncio.ensure_future(make(client).ensure(f"{registry.host}/web:1"))
                    done, _ = await asyncio.wait([pulling], timeout=0.4)
                    assert not done
                assert (await pulling).config.cmd == ("sh",)
            await clear(client)
        finally:
            await client.close()
            await other.close()
