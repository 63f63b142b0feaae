"""Images to registries: layers that are lacking, some at a time, then configuration and manifest."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from swarmpy.registry.client import Registry
from swarmpy.registry.credentials import Credentials, FixedKeychain
from swarmpy.registry.manifests import Descriptor
from swarmpy.registry.reference import parse_reference
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import Patience
from swarmpy.registry.upload import Upload
from worker.containerd.client import Containerd
from worker.image.exporting import Exporter, blobs_of
from worker.image.pull import first_failure
from worker.image.types import SOURCE_LABEL, PullEvent, Stage, Watch, source_labels


class Pusher:
    """Pushes images of one namespace, each for this node's platform alone."""

    def __init__(
        self,
        client: Containerd,
        exporter: Exporter,
        settings: RegistrySettings,
        *,
        clock: Clock,
        rng: random.Random,
        patience: Patience | None = None,
    ) -> None:
        self._client = client
        self._exporter = exporter
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._patience = patience

    async def push(self, reference: str, *, auth: Credentials | None = None, watch: Watch | None = None) -> str:
        """Push the image of that name to the registry in the name; return the digest that it has there.

        Raises:
            SwarmError: NOT_FOUND, there is no such image; what the registry refuses.
        """
        name = parse_reference(reference)
        _, parts = await self._exporter.find(str(name))
        keychain = FixedKeychain({name.domain: auth} if auth else {})
        slots = asyncio.Semaphore(self._settings.layers_at_once)
        *content, manifest = blobs_of(parts)
        registry = Registry(self._settings, keychain, clock=self._clock, rng=self._rng, patience=self._patience)
        async with registry:
            upload = Upload(registry, name)

            def tell(stage: Stage, blob: Descriptor, done_bytes: int = 0) -> None:
                if watch is not None:
                    watch(PullEvent(str(name), stage, blob.digest, done_bytes, blob.size))

            async def send(blob: Descriptor) -> None:
                async def source(offset: int, size: int) -> AsyncIterator[bytes]:
                    async for piece in self._client.content.read(blob.digest, offset, size):
                        yield piece
                        offset += len(piece)
                        tell(Stage.FETCHING, blob, offset)

                async with slots:
                    origin = (await self._client.content.info(blob.digest)).labels
                    mount_from = origin.get(f"{SOURCE_LABEL}.{name.domain}", "").partition(",")[0]
                    how = await upload.blob(blob, source, mount_from=mount_from)
                    tell(Stage.FETCHED if how == "uploaded" else Stage.EXISTS, blob, blob.size)
                    await self._client.content.set_labels(blob.digest, source_labels(name.domain, name.path))

            try:
                async with asyncio.TaskGroup() as group:
                    for blob in content:
                        group.create_task(send(blob))
            except* SwarmError as errors:
                raise first_failure(errors) from errors
            raw = await self._client.content.read_all(manifest.digest)
            digest = await upload.manifest(raw, manifest.media_type)
            tell(Stage.DONE, manifest, manifest.size)
            return digest
