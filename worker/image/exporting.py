"""Images as tar files: an OCI layout, with the file beside it by which older Dockers find images."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec

from swarmpy.errors import Code, SwarmError, invalid, not_found
from swarmpy.registry.manifests import OCI_INDEX, Descriptor
from swarmpy.registry.platforms import Platform
from swarmpy.registry.reference import Reference, parse_reference
from worker.containerd.client import Containerd
from worker.image.catalog import Catalog
from worker.image.local import LocalImages, Parts
from worker.image.types import as_registry

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)


class Exporter:
    """Writes images of one namespace, each for this node's platform alone."""

    def __init__(self, client: Containerd, local: LocalImages, catalog: Catalog, platform: Platform) -> None:
        self._client = client
        self._local = local
        self._catalog = catalog
        self._platform = platform

    async def save(self, names: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Yield an archive of images in pieces of any size. By name or ID; the names go with them.

        Raises:
            SwarmError: NOT_FOUND, also before the first piece, if part of an image is missing.
        """
        if not names:
            raise invalid("no image is named to be saved")
        chosen = [await self.find(text) for text in names]
        for _, parts in chosen:
            for blob in blobs_of(parts):
                await self._client.content.info(blob.digest)
        yield _file("oci-layout", msgspec.json.encode({"imageLayoutVersion": "1.0.0"}))
        yield _file("index.json", _index(chosen))
        yield _file("manifest.json", _saved(chosen))
        for digest, blob in {blob.digest: blob for _, parts in chosen for blob in blobs_of(parts)}.items():
            yield _header(f"blobs/{digest.replace(':', '/')}", blob.size)
            async for piece in self._client.content.read(digest):
                yield piece
            yield bytes(-blob.size % BLOCK)
        yield END

    async def find(self, text: str) -> tuple[Reference, Parts]:
        """Return an image that is here, under the name that was asked for if it has it."""
        row = await self._catalog.find(text)
        name = parse_reference(row.tags[0] if row.tags else row.names[0])
        try:
            asked = parse_reference(text)
            name = asked if asked.familiar() in row.names else name
        except SwarmError as error:
            if error.code is not Code.INVALID_ARGUMENT:
                raise
        record = await self._local.record(str(name))
        parts = await self._local.parts(as_registry(record.target), self._platform, text) if record else None
        if parts is None:
            raise not_found(f"part of the image {text} is missing on this node: pull it again")
        return name, parts


def blobs_of(parts: Parts) -> tuple[Descriptor, ...]:
    """Return what an image consists of, the manifest last."""
    layers = dict.fromkeys(layer.digest for layer in parts.manifest.layers)
    by_digest = {layer.digest: layer for layer in parts.manifest.layers}
    return (*(by_digest[digest] for digest in layers), parts.manifest.config, parts.chosen)


def _index(chosen: Sequence[tuple[Reference, Parts]]) -> bytes:
    rows = []
    for name, parts in chosen:
        platform = parts.config.platform
        described = {"os": platform.os, "architecture": platform.architecture}
        marks = {"io.containerd.image.name": str(name), "org.opencontainers.image.ref.name": name.tag or str(name)}
        rows.append(
            {
                "mediaType": parts.chosen.media_type,
                "digest": parts.chosen.digest,
                "size": parts.chosen.size,
                "platform": described | ({"variant": platform.variant} if platform.variant else {}),
                "annotations": marks,
            }
        )
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": rows})


def _saved(chosen: Sequence[tuple[Reference, Parts]]) -> bytes:
    return msgspec.json.encode(
        [
            {
                "Config": _path(parts.manifest.config),
                "RepoTags": [name.familiar()] if name.tag else [],
                "Layers": [_path(layer) for layer in parts.manifest.layers],
            }
            for name, parts in chosen
        ]
    )


def _path(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.replace(':', '/')}"


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + bytes(-len(data) % BLOCK)


def _header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)
