"""Manifests and indexes of images, OCI's and Docker's: read, checked, chosen from. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from swarmpy.errors import Code, SwarmError, invalid, precondition
from swarmpy.registry.platforms import Platform, best
from swarmpy.registry.reference import is_digest

Document = TypeVar("Document")

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1"
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})
ACCEPT: Final = ", ".join([OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, "*/*;q=0.1"])
LAYERS: Final = {
    OCI_LAYER: "",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}
"""The media types of file system layers, and how each is compressed."""
MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_LAYERS: Final = 500


class OfferedPlatform(msgspec.Struct, frozen=True):
    """The platform of one image of an index."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def as_platform(self) -> Platform | None:
        """Return it, or None for `unknown/unknown`, which marks attestations."""
        return None if "unknown" in (self.os, self.architecture) else Platform(self.os, self.architecture, self.variant)


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Content by its digest. `size` is in bytes."""

    media_type: str
    digest: str
    size: int
    platform: OfferedPlatform | None = None
    annotations: Mapping[str, str] = {}
    urls: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """One image: its configuration and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    schema_version: int = 2
    media_type: str = ""

    @property
    def size_bytes(self) -> int:
        return self.config.size + sum(layer.size for layer in self.layers)


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """Images of several platforms under one name."""

    manifests: tuple[Descriptor, ...]
    schema_version: int = 2
    media_type: str = ""


class _Shape(msgspec.Struct, frozen=True, rename="camel"):
    """What a document says of itself, which decides what it is where a registry's header does not."""

    schema_version: int = 0
    media_type: str = ""
    manifests: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def media_type_of(raw: bytes, said: str, where: str) -> str:
    """Return what a document is: as it says itself, else as the registry `said`, else by its shape.

    Raises:
        SwarmError: NOT_SUPPORTED, a manifest of Docker's first schema; CORRUPT, no manifest at all.
    """
    shape = _decode(raw, _Shape, where)
    kind = shape.media_type or said.partition(";")[0].strip()
    if kind.startswith(SCHEMA_1) or shape.schema_version == 1:
        sentence = f"{where} is in Docker's first format (schema 1) of before 2016: push it again with a present client"
        raise SwarmError(Code.NOT_SUPPORTED, sentence)
    if kind in MANIFESTS or kind in INDEXES:
        return kind
    if bytes(shape.manifests):
        return OCI_INDEX
    if bytes(shape.layers):
        return OCI_MANIFEST
    raise SwarmError(Code.CORRUPT, f"{where} is no image manifest but {kind or 'of an unknown type'}")


def decode(raw: bytes, media_type: str, where: str) -> Manifest | Index:
    """Return the document, all its digests and sizes checked for form. `where` names it in errors.

    Raises:
        SwarmError: CORRUPT, or NOT_SUPPORTED for content that is no image.
    """
    kind = media_type_of(raw, media_type, where)
    if kind in INDEXES:
        index = _decode(raw, Index, where)
        _check(index.manifests, where)
        return index
    manifest = _decode(raw, Manifest, where)
    _check((manifest.config, *manifest.layers), where)
    if len(manifest.layers) > MAX_LAYERS:
        raise SwarmError(Code.CORRUPT, f"{where} has {len(manifest.layers)} layers, more than {MAX_LAYERS}")
    for layer in manifest.layers:
        if layer.media_type not in LAYERS:
            kind = layer.media_type[:100]
            raise SwarmError(Code.NOT_SUPPORTED, f"{where} has a layer of type {kind}: it is no image to run")
    return manifest


def choose(index: Index, wanted: Platform, where: str) -> Descriptor:
    """Return the image of an index that suits a machine best.

    Raises:
        SwarmError: FAILED_PRECONDITION, there is none; the sentence says which there are.
    """
    # A descriptor without a platform in an index of one image leaves the choice to the image's own configuration.
    if len(index.manifests) == 1 and index.manifests[0].platform is None:
        return index.manifests[0]
    offers = [row.platform.as_platform() if row.platform else None for row in index.manifests]
    place = best(wanted, offers)
    if place is None:
        there = ", ".join(sorted({str(offer) for offer in offers if offer})) or "none that says its platform"
        raise precondition(f"{where} has no image for {wanted}; there are: {there}")
    return index.manifests[place]


def _check(rows: tuple[Descriptor, ...], where: str) -> None:
    for row in rows:
        if not is_digest(row.digest):
            raise SwarmError(Code.CORRUPT, f"{where} names content by {row.digest[:80]!r}, which is no digest")
        if row.size < 0:
            raise SwarmError(Code.CORRUPT, f"{where} gives {row.digest} a size of {row.size} bytes")


def _decode(raw: bytes, kind: type[Document], where: str) -> Document:
    if len(raw) > MAX_MANIFEST_BYTES:
        raise invalid(f"{where} has {len(raw)} bytes, more than the {MAX_MANIFEST_BYTES} a manifest may have")
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise SwarmError(Code.CORRUPT, f"{where} is not an image manifest: {error}") from error
