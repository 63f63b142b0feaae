"""Images from tar files into containerd, unpacked and named like those that are pulled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, invalid
from swarmpy.registry.manifests import Descriptor, Index, Manifest, choose, decode
from swarmpy.registry.platforms import Platform
from swarmpy.registry.reference import Reference, parse_reference
from worker.containerd.client import Containerd
from worker.containerd.types import ImageRecord
from worker.image.fetch import forget, ingest_ref
from worker.image.leasing import leased, left_behind
from worker.image.local import Parts, check_config
from worker.image.tarball import Found, Tarball, open_tarball
from worker.image.types import Image, as_containerd, index_labels, manifest_labels, snapshot_labels, understood
from worker.image.unpack import Unpacker


class Importer:
    """Imports into one namespace under one storage driver."""

    def __init__(self, client: Containerd, driver: str, unpacker: Unpacker, clock: Clock, platform: Platform) -> None:
        self._client = client
        self._driver = driver
        self._unpacker = unpacker
        self._clock = clock
        self._platform = platform

    async def load(self, path: Path, *, name: str = "", called: str = "") -> tuple[Image, ...]:
        """Import all images of an archive, OCI layout or of `docker save`, plain or compressed; return them.

        Args:
            name: what to call the image where the archive does not say it, or in its place; for one image only.
            called: what to call the archive in sentences; empty is its path.
        Raises:
            SwarmError: the file, its content or containerd; nothing is left of an image that failed.
        """
        called = called or str(path)
        tarball = await asyncio.to_thread(open_tarball, path, called)
        try:
            found = await asyncio.to_thread(tarball.images)
            if name and len(found) != 1:
                raise invalid(f"{called} holds {len(found)} images: a name is for an archive of one")
            named = [(image, _names(image, name, called)) for image in found]
            return tuple([await self._load(tarball, image, names, called) for image, names in named])
        finally:
            await asyncio.to_thread(tarball.close)

    async def _load(self, tarball: Tarball, found: Found, names: Sequence[Reference], where: str) -> Image:
        what = f"{names[0].familiar()} in {where}"
        async with leased(self._client, f"swarmpy-import-{found.target.digest}", self._clock) as (_, client):
            try:
                parts = await self._documents(client, tarball, found.target, what)
                for layer in {layer.digest: layer for layer in parts.manifest.layers}.values():
                    await self._blob(client, tarball, layer)
                chain = await self._unpacker.unpack(
                    client,
                    parts.manifest.layers,
                    parts.config.diff_ids,
                    what,
                    fetched=_is_there,
                    watch=lambda layer, there: None,
                )
            except SwarmError as error:
                raise understood(error, what) from error
            if labels := snapshot_labels(self._driver, chain):
                await client.content.set_labels(parts.manifest.config.digest, labels)
            exact = names[0].at(found.target.digest)
            for each in dict.fromkeys((*names, exact)):
                await self._client.images.put(ImageRecord(str(each), as_containerd(found.target)))
        return parts.image(str(names[0]))

    async def _documents(self, client: Containerd, tarball: Tarball, target: Descriptor, what: str) -> Parts:
        raw = await asyncio.to_thread(tarball.read, target.digest)
        document, chosen, index = decode(raw, target.media_type, what), target, None
        if isinstance(document, Index):
            index, chosen = document, choose(document, self._platform, what)
            await client.content.put(raw, labels=index_labels(index, chosen))
            raw = await asyncio.to_thread(tarball.read, chosen.digest)
            document = decode(raw, chosen.media_type, what)
        if not isinstance(document, Manifest):
            raise SwarmError(Code.NOT_SUPPORTED, f"{what} is an index of indexes, which nobody runs")
        raw_config = await asyncio.to_thread(tarball.read, document.config.digest)
        config = check_config(document, raw_config, self._platform, what)
        await client.content.put(raw_config)
        await client.content.put(raw, labels=manifest_labels(document))
        return Parts(target, index, chosen, document, config, raw_config)

    async def _blob(self, client: Containerd, tarball: Tarball, blob: Descriptor) -> None:
        ref = ingest_ref(blob.digest)
        try:
            async with client.content.write(ref, total=blob.size, expected=blob.digest) as writer:
                pieces = tarball.pieces(blob.digest, writer.offset)
                while (piece := await asyncio.to_thread(_next, pieces)) is not None:
                    await writer.write(piece)
                await writer.commit(size=blob.size, digest=blob.digest)
        except SwarmError as error:
            if error.code is Code.ALREADY_EXISTS:
                return
            with left_behind(ref):
                await forget(client, ref)
            if "unexpected commit" in error.message:
                sentence = f"{blob.digest} in the archive is something else: the archive is damaged"
                raise SwarmError(Code.CORRUPT, sentence) from error
            raise


def _names(found: Found, given: str, where: str) -> tuple[Reference, ...]:
    """Return what to call an image of an archive."""
    texts = (given,) if given else found.names
    # A layout may name a tag alone, which is no name of an image.
    full = [text for text in texts if given or ":" in text or "/" in text or "@" in text]
    if not full:
        tags = f" but the tag {texts[0]}" if texts else ""
        raise invalid(f"{where} does not say what its image is called{tags}: give it a name")
    return tuple(parse_reference(text) for text in full)


async def _is_there(layer: Descriptor) -> None:
    """All layers are stored before the first is unpacked."""


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
