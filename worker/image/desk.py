"""What a user may do with the images of this node, beyond what `ImageRoom` offers as it is."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from swarmpy.errors import Code, SwarmError, not_found
from swarmpy.model.image import ImageLayer, LocalImage
from swarmpy.registry.credentials import Credentials
from swarmpy.registry.platforms import Platform
from swarmpy.registry.reference import parse_reference
from worker.containerd.client import Containerd
from worker.image.catalog import Listed
from worker.image.local import Parts
from worker.image.room import ImageRoom
from worker.image.types import Image, Watch, chain_ids

MAX_SIZES: Final = 4096


@dataclass(frozen=True, slots=True)
class Detail:
    """An image with its configuration as it came, its layers from the lowest, and the driver that keeps them."""

    image: LocalImage
    raw_config: bytes
    layers: tuple[ImageLayer, ...]
    driver: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull brought. `is_new`: the name stood for nothing or something else before."""

    image: Image
    is_new: bool


class ImageDesk:
    """The images of one node for its users."""

    def __init__(self, client: Containerd, room: Callable[[], Awaitable[ImageRoom]], scratch: Path) -> None:
        """
        Args:
            room: opens the room; raises SwarmError while containerd is away.
            scratch: directory for an archive that is being loaded; nothing stays in it.
        """
        self.room = room
        self._client = client
        self._scratch = scratch
        self._sizes: dict[str, int] = {}

    async def every(self) -> list[LocalImage]:
        """Return all images, the newest first."""
        room = await self.room()
        return [await self._described(room, row) for row in await room.catalog.list()]

    async def get(self, text: str) -> Detail:
        """Return one image, by name, digest or the beginning of its ID.

        Raises:
            SwarmError: NOT_FOUND, also for one of which something is missing.
        """
        room = await self.room()
        row = await room.catalog.find(text)
        if row.image is None:
            raise not_found(f"the image {text} cannot be used: {row.problem}")
        _, parts = await room.exporter.find(text)
        layers = await self._layers(room, parts)
        return Detail(await self._described(room, row), row.image.raw_config, layers, room.images.snapshotter)

    async def pull(
        self, reference: str, *, platform: Platform | None, auth: Credentials | None, watch: Watch | None
    ) -> Pulled:
        """Bring a name to what its registry has under it now."""
        room = await self.room()
        name = parse_reference(reference)
        record = str(name.at(name.digest) if name.digest else name)
        before = await room.images.local.record(record)
        image = await room.images.ensure(reference, platform=platform, auth=auth, refresh=True, watch=watch)
        return Pulled(image, before is None or before.target.digest != image.digest)

    async def load(self, pieces: AsyncIterator[bytes], *, name: str, called: str) -> list[str]:
        """Import an archive; return the names of its images.

        Args:
            name: what to call an archive's only image; empty for as the archive says.
            called: what to call the archive in sentences.
        """
        room = await self.room()
        # It has no name in the file system, so nothing is left of it whatever happens to us.
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            await _store(file, pieces)
            images = await room.importer.load(Path(f"/proc/self/fd/{file.fileno()}"), name=name, called=called)
        return [parse_reference(image.name).familiar() for image in images]

    async def _described(self, room: ImageRoom, row: Listed) -> LocalImage:
        image = row.image
        if image is None:
            return LocalImage(
                digest=row.digest,
                names=row.names,
                added_at=row.created_at_s,
                used_by=row.used_by,
                problem=row.problem,
            )
        sizes = [await self._size_bytes(room, chain) for chain in chain_ids(image.config.diff_ids)]
        return LocalImage(
            id=image.config_digest,
            digest=row.digest,
            names=row.names,
            created_at=_wall_s(image.config.created),
            added_at=row.created_at_s,
            size_bytes=sum(sizes),
            stored_bytes=image.size_bytes,
            platform=str(image.config.platform),
            labels=dict(image.config.labels),
            used_by=row.used_by,
        )

    async def _layers(self, room: ImageRoom, parts: Parts) -> tuple[ImageLayer, ...]:
        diff_ids = parts.config.diff_ids
        return tuple(
            [
                ImageLayer(
                    diff_id=diff_id,
                    digest=layer.digest,
                    size_bytes=await self._size_bytes(room, chain),
                    stored_bytes=layer.size,
                )
                for diff_id, chain, layer in zip(diff_ids, chain_ids(diff_ids), parts.manifest.layers, strict=True)
            ]
        )

    async def _size_bytes(self, room: ImageRoom, chain_id: str) -> int:
        """Return what an unpacked layer takes, which never changes; 0 if it is not unpacked."""
        known = self._sizes.get(chain_id)
        if known is not None:
            return known
        try:
            usage = await self._client.snapshots(room.images.snapshotter).usage(chain_id)
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return 0
            raise
        if len(self._sizes) >= MAX_SIZES:
            self._sizes.pop(next(iter(self._sizes)))
        self._sizes[chain_id] = usage.size_bytes
        return usage.size_bytes


async def _store(file: IO[bytes], pieces: AsyncIterator[bytes]) -> None:
    """Write what comes to a file.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED, it does not fit on the disk.
    """
    try:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(file.flush)
    except OSError as error:
        sentence = f"the archive cannot be stored on this node: {error.strerror or os.strerror(error.errno or 0)}"
        raise SwarmError(Code.RESOURCE_EXHAUSTED, f"{sentence}. Make room (`swarmpy image prune`)") from error


def _wall_s(created: str) -> float:
    """Return when an image was built by its configuration; 0 if that says nothing that can be read."""
    try:
        return max(0.0, datetime.fromisoformat(created).timestamp()) if created else 0.0
    except (ValueError, OverflowError):
        return 0.0
