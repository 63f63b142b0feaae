"""A pull: resolve, choose the platform, fetch layers and unpack them as they come, name the result. Under a lease."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.registry.manifests import Descriptor, Index, Manifest, choose, decode
from swarmpy.registry.platforms import Platform
from worker.containerd.client import Containerd
from worker.containerd.types import ImageRecord, content_resource, snapshot_resource
from worker.image.fetch import Source, fetch_blob
from worker.image.flights import Flights
from worker.image.leasing import leased
from worker.image.local import LocalImages, Parts, check_config
from worker.image.types import (
    Image,
    PullEvent,
    Stage,
    Watch,
    as_containerd,
    chain_ids,
    index_labels,
    manifest_labels,
    snapshot_labels,
    source_labels,
)
from worker.image.unpack import Unpacker


@dataclass(frozen=True, slots=True)
class Job:
    """One image to pull. `name` is what the record will be called; `source.name` is what the registry is asked for."""

    source: Source
    name: str
    platform: Platform
    watch: Watch

    @property
    def where(self) -> str:
        return f"the image {self.source.name.familiar()}"

    def tell(self, stage: Stage, blob: Descriptor | None = None, done_bytes: int = 0) -> None:
        digest, size = (blob.digest, blob.size) if blob else ("", 0)
        self.watch(PullEvent(self.name, stage, digest, done_bytes, size))


class Puller:
    """Pulls images into one namespace. Blobs that several pulls need at a time are fetched by one of them."""

    def __init__(
        self, client: Containerd, local: LocalImages, unpacker: Unpacker, clock: Clock, *, driver: str, at_once: int
    ) -> None:
        self._client = client
        self._local = local
        self._driver = driver
        self._unpacker = unpacker
        self._clock = clock
        self._at_once = at_once
        self._blobs: Flights[bool] = Flights(share_failures=False)

    async def pull(self, job: Job) -> Image:
        """Return the image, fetched, unpacked and named.

        Raises:
            SwarmError: of the registry or of containerd. After one that may pass, the next pull of this name goes on
                from what has come; after any other nothing is left.
        """
        async with leased(self._client, f"swarmpy-pull-{job.name}", self._clock) as (lease, client):
            job.tell(Stage.RESOLVING)
            parts = await self._documents(job, client, lease)
            await self._layers(job, client, lease, parts)
            chains = chain_ids(parts.config.diff_ids)
            if chains:
                await client.leases.add(lease, snapshot_resource(self._driver, chains[-1]))
            labels = snapshot_labels(self._driver, chains[-1] if chains else "")
            if labels:
                await client.content.set_labels(parts.manifest.config.digest, labels)
            await self._name(job, parts.target)
        image = parts.image(job.name)
        job.tell(Stage.DONE)
        return image

    async def unpack_again(self, name: str, target: Descriptor, platform: Platform) -> Image | None:
        """Return an image whose content is here and snapshots are not, unpacked; None if content is missing too."""
        parts = await self._local.parts(target, platform, name)
        if parts is None:
            return None

        async def fetched(layer: Descriptor) -> None:
            await self._client.content.info(layer.digest)

        async with leased(self._client, f"swarmpy-pull-{name}", self._clock) as (_, client):
            try:
                chain = await self._unpacker.unpack(
                    client,
                    parts.manifest.layers,
                    parts.config.diff_ids,
                    name,
                    fetched=fetched,
                    watch=lambda layer, there: None,
                )
            except SwarmError as error:
                if error.code is Code.NOT_FOUND:
                    return None
                raise
            if labels := snapshot_labels(self._driver, chain):
                await client.content.set_labels(parts.manifest.config.digest, labels)
        return parts.image(name)

    async def _name(self, job: Job, target: Descriptor) -> None:
        exact = str(job.source.name.at(target.digest))
        for name in dict.fromkeys((exact, job.name)):
            await self._client.images.put(ImageRecord(name, as_containerd(target)))

    async def _documents(self, job: Job, client: Containerd, lease: str) -> Parts:
        """Store index, manifest and configuration, with the labels that keep their parts, and return them read."""
        source = job.source
        target, raw = await source.registry.manifest(source.name)
        document = decode(raw, target.media_type, job.where)
        index, chosen = None, target
        origin = source_labels(source.name.domain, source.name.path)
        if isinstance(document, Index):
            index, chosen = document, choose(document, job.platform, job.where)
            await client.content.put(raw, labels={**origin, **index_labels(index, chosen)})
            found, raw = await source.registry.manifest(source.name.at(chosen.digest))
            document = decode(raw, found.media_type, job.where)
        if not isinstance(document, Manifest):
            raise SwarmError(Code.NOT_SUPPORTED, f"{job.where} is an index of indexes, which nobody runs")
        raw_config = await source.registry.blob_bytes(source.name, document.config)
        config = check_config(document, raw_config, job.platform, job.where)
        await client.content.put(raw_config, labels=origin)
        await client.content.put(raw, labels={**origin, **manifest_labels(document)})
        return Parts(target, index, chosen, document, config, raw_config)

    async def _layers(self, job: Job, client: Containerd, lease: str, parts: Parts) -> None:
        """Fetch all layers, some at a time, and unpack each as soon as it and those below it are here."""
        slots = asyncio.Semaphore(self._at_once)
        labels = source_labels(job.source.name.domain, job.source.name.path)
        layers = dict.fromkeys(layer.digest for layer in parts.manifest.layers)
        blobs = {layer.digest: layer for layer in parts.manifest.layers}

        async def fetch(blob: Descriptor) -> None:
            async with slots:
                await self._blob(job, client, lease, blob, labels)

        try:
            async with asyncio.TaskGroup() as group:
                coming = {digest: group.create_task(fetch(blobs[digest])) for digest in layers}

                async def fetched(layer: Descriptor) -> None:
                    await asyncio.wait([coming[layer.digest]])

                await self._unpacker.unpack(
                    client,
                    parts.manifest.layers,
                    parts.config.diff_ids,
                    job.where,
                    fetched=fetched,
                    watch=lambda layer, there: job.tell(Stage.DONE if there else Stage.UNPACKING, layer, layer.size),
                )
        except* SwarmError as errors:
            raise first_failure(errors) from errors

    async def _blob(
        self, job: Job, client: Containerd, lease: str, blob: Descriptor, labels: Mapping[str, str]
    ) -> None:
        job.tell(Stage.FETCHING, blob)

        async def work() -> bool:
            def progress(done_bytes: int) -> None:
                job.tell(Stage.FETCHING, blob, done_bytes)

            return await fetch_blob(client, job.source, blob, labels, progress, self._clock)

        new = await self._blobs.run(blob.digest, work)
        # It may have been fetched under another pull's lease.
        await client.leases.add(lease, content_resource(blob.digest))
        job.tell(Stage.FETCHED if new else Stage.EXISTS, blob, blob.size)


def first_failure(group: ExceptionGroup[SwarmError]) -> SwarmError:
    """Return a failure of a group: one that is final before those that may pass."""
    found: list[SwarmError] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        elif isinstance(error, SwarmError):
            found.append(error)
    return min(found, key=lambda error: error.retryable)
