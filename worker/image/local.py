"""Images that are in containerd: found by record or by content, read, parsed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.registry.manifests import INDEXES, Descriptor, Index, Manifest, choose, decode
from swarmpy.registry.platforms import Platform, rank
from worker.containerd.client import Containerd
from worker.containerd.types import ImageRecord
from worker.image.config import ImageConfig
from worker.image.types import Image, as_registry, chain_ids

MAX_KNOWN: Final = 256


@dataclass(frozen=True, slots=True)
class Parts:
    """The documents of an image for one platform. `index` is None where the name stands for a manifest."""

    target: Descriptor
    index: Index | None
    chosen: Descriptor
    manifest: Manifest
    config: ImageConfig
    raw_config: bytes

    def image(self, name: str) -> Image:
        chains = chain_ids(self.config.diff_ids)
        return Image(
            name=name,
            digest=self.target.digest,
            manifest_digest=self.chosen.digest,
            config_digest=self.manifest.config.digest,
            chain_id=chains[-1] if chains else "",
            config=self.config,
            raw_config=self.raw_config,
            size_bytes=self.chosen.size + self.manifest.size_bytes,
        )


class LocalImages:
    """Reads images from one namespace; remembers what it has parsed, which never changes under its digest."""

    def __init__(self, client: Containerd, driver: str) -> None:
        self._client = client
        self._snapshots = client.snapshots(driver)
        self._known: OrderedDict[tuple[str, Platform], Parts] = OrderedDict()

    async def record(self, name: str) -> ImageRecord | None:
        """Return an image's record, None if there is none."""
        try:
            return await self._client.images.get(name)
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise

    async def parts(self, target: Descriptor, wanted: Platform, where: str) -> Parts | None:
        """Return the documents of what a record names, None if content is missing.

        Raises:
            SwarmError: FAILED_PRECONDITION, it is not for this platform; CORRUPT.
        """
        key = (target.digest, wanted)
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known
        try:
            found = await self._read(target, wanted, where)
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise
        self._known[key] = found
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return found

    async def ready(self, name: str, wanted: Platform) -> Image | None:
        """Return the image of a record if it is here and unpacked for the platform."""
        record = await self.record(name)
        parts = await self.parts(as_registry(record.target), wanted, name) if record else None
        if parts is None:
            return None
        image = parts.image(name)
        return image if not image.chain_id or await self._snapshots.exists(image.chain_id) else None

    async def _read(self, target: Descriptor, wanted: Platform, where: str) -> Parts:
        index: Index | None = None
        chosen = target
        document = decode(await self._client.content.read_all(target.digest), target.media_type, where)
        if isinstance(document, Index):
            index, chosen = document, choose(document, wanted, where)
            document = decode(await self._client.content.read_all(chosen.digest), chosen.media_type, where)
        if isinstance(document, Index):
            raise SwarmError(Code.NOT_SUPPORTED, f"{where} is an index of indexes, which nobody runs")
        raw = await self._client.content.read_all(document.config.digest)
        return Parts(target, index, chosen, document, check_config(document, raw, wanted, where), raw)


def check_config(manifest: Manifest, raw: bytes, wanted: Platform, where: str) -> ImageConfig:
    """Return the configuration of an image that this platform can run and whose layers are all named.

    Raises:
        SwarmError: CORRUPT; FAILED_PRECONDITION, it is for another platform.
    """
    algorithm = manifest.config.digest.partition(":")[0]
    if f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}" != manifest.config.digest:
        raise SwarmError(Code.CORRUPT, f"the configuration of {where} is not what its manifest says")
    config = ImageConfig.decode(raw, where)
    if len(config.diff_ids) != len(manifest.layers):
        counts = f"{len(config.diff_ids)} layers in its configuration and {len(manifest.layers)} in its manifest"
        raise SwarmError(Code.CORRUPT, f"{where} has {counts}")
    if config.platform.architecture and rank(wanted, config.platform) is None:
        raise precondition(f"{where} is built for {config.platform}, and this is {wanted}: build or choose one for it")
    return config


def is_index(found: Descriptor) -> bool:
    return found.media_type in INDEXES
