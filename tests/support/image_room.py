"""What tests of images in a real containerd share."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run

from swarmpy.clock import SystemClock
from swarmpy.registry.platforms import Platform
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import Patience
from tests.support.images import Entry
from worker.containerd.client import Containerd
from worker.containerd.types import Mount
from worker.image.fetch import forget
from worker.image.images import Images

DRIVER = "overlayfs"


async def clear(client: Containerd) -> None:
    """Delete all that a test left, and see that it is then gone: nothing is kept by what nobody knows of."""
    for container in await client.containers.list():
        await client.containers.delete(container.id)
    for found in await client.snapshots(DRIVER).list('labels."swarmpy.snapshot"'):
        await client.snapshots(DRIVER).remove(found.name)
    for lease in await client.leases.list():
        await client.leases.delete(lease.id)
    for ingest in await client.content.ingests():
        await forget(client, ingest.ref)  # containerd may end it of itself: its writer has just been cut off
    for record in await client.images.list():
        await client.images.delete(record.name)
    await client.leases.create("sweep")
    await client.leases.delete("sweep", sync=True)
    assert await client.content.list() == ()
    assert await client.snapshots(DRIVER).list() == ()


def make(client: Containerd, settings: RegistrySettings | None = None, *, attempts: int = 2) -> Images:
    return Images(
        client,
        DRIVER,
        settings or RegistrySettings(),
        clock=SystemClock(),
        rng=random.Random(3),
        platform=Platform("linux", "amd64"),
        patience=Patience(attempts=attempts, idle_s=1.0, first_pause_s=0.01),
    )


@contextmanager
def mounted(mounts: tuple[Mount, ...], place: Path) -> Iterator[Path]:
    """Mount a snapshot."""
    place.mkdir(exist_ok=True)
    (mount,) = mounts
    options = ",".join(mount.options)
    run(["mount", "-t", mount.type, *(["-o", options] if options else []), mount.source, str(place)], check=True)
    try:
        yield place
    finally:
        run(["umount", str(place)], check=True)


def big(size_bytes: int, name: str = "big", seed: int = 1) -> Entry:
    return Entry(name, random.Random(seed).randbytes(size_bytes))
