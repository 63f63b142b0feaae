"""What tests of images in a real containerd share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run

from worker.containerd.client import Containerd
from worker.containerd.types import Mount

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
        await client.content.abort(ingest.ref)
    for record in await client.images.list():
        await client.images.delete(record.name)
    await client.leases.create("sweep")
    await client.leases.delete("sweep", sync=True)
    assert await client.content.list() == ()
    assert await client.snapshots(DRIVER).list() == ()


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
