"""An image as the rest of the worker sees it, the labels that keep it, and what is told of a pull. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.manifests import Descriptor, Index, Manifest
from worker.containerd import types as containerd
from worker.image.config import ImageConfig

IMAGE_LABEL: Final = "swarmpy.image"
"""On a container's record: the digest of the manifest that it was made from."""
CHILD_LABEL: Final = "containerd.io/gc.ref.content"
SNAPSHOT_LABEL: Final = "containerd.io/gc.ref.snapshot"
ROOT_LABEL: Final = "containerd.io/gc.root"
SOURCE_LABEL: Final = "containerd.io/distribution.source"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is here, whole and unpacked.

    Args:
        name: of its record in containerd: the normalised reference.
        digest: what the reference stands for, an index or a manifest.
        manifest_digest: the manifest for this platform.
        config_digest: what people call the image's ID.
        chain_id: the committed snapshot that a container's is made on; empty for an image without layers.
        raw_config: the configuration's JSON as it came.
        size_bytes: of manifest, configuration and layers, as they are stored.
    """

    name: str
    digest: str
    manifest_digest: str
    config_digest: str
    chain_id: str
    config: ImageConfig
    raw_config: bytes
    size_bytes: int

    def named(self, name: str) -> Image:
        return replace(self, name=name)


class Stage(enum.StrEnum):
    """How far a part of a pull is."""

    RESOLVING = "resolving"
    EXISTS = "exists"
    WAITING = "waiting"
    FETCHING = "fetching"
    FETCHED = "fetched"
    UNPACKING = "unpacking"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class PullEvent:
    """What happened in a pull: to one layer, or with an empty `digest` to the image."""

    reference: str
    stage: Stage
    digest: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


Watch = Callable[[PullEvent], None]


def image_labels(image: Image) -> dict[str, str]:
    """Return the labels of a container's record that keep `image rm` and `prune` from its image."""
    return {IMAGE_LABEL: image.manifest_digest}


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the snapshots that the layers make, each on top of the one before."""
    found: list[str] = []
    for diff_id in diff_ids:
        joined = f"{found[-1]} {diff_id}" if found else ""
        found.append(f"sha256:{hashlib.sha256(joined.encode()).hexdigest()}" if joined else diff_id)
    return tuple(found)


def manifest_labels(manifest: Manifest) -> dict[str, str]:
    """Return what keeps the parts of an image as long as its manifest."""
    layers = {f"{CHILD_LABEL}.l.{place}": layer.digest for place, layer in enumerate(manifest.layers)}
    return {f"{CHILD_LABEL}.config": manifest.config.digest, **layers}


def index_labels(index: Index, chosen: Descriptor) -> dict[str, str]:
    """Return what keeps the chosen image as long as its index."""
    return {f"{CHILD_LABEL}.m.{index.manifests.index(chosen)}": chosen.digest}


def snapshot_labels(driver: str, chain_id: str) -> dict[str, str]:
    """Return what keeps the snapshots of an image as long as its configuration."""
    return {f"{SNAPSHOT_LABEL}.{driver}": chain_id} if chain_id else {}


def source_labels(domain: str, path: str) -> dict[str, str]:
    """Return what says where content came from, so that a push to the same registry need not send it."""
    return {f"{SOURCE_LABEL}.{domain}": path}


def as_containerd(found: Descriptor) -> containerd.Descriptor:
    return containerd.Descriptor(found.media_type, found.digest, found.size)


def as_registry(found: containerd.Descriptor) -> Descriptor:
    return Descriptor(found.media_type, found.digest, found.size_bytes)


def understood(error: SwarmError, what: str) -> SwarmError:
    """Return `error`, or what it means where containerd's words have no code of their own: a full disk, an end."""
    words = error.message.lower()
    if "no space left" in words or "quota exceeded" in words:
        sentence = f"the disk is full: {what} does not fit. Make room (`swarmpy image prune`) and try again"
        return SwarmError(Code.RESOURCE_EXHAUSTED, sentence)
    if error.code is Code.INTERNAL and "internal error from core" in words:
        # What gRPC says where the connection breaks between a stream's request and its answer.
        return SwarmError(Code.UNAVAILABLE, f"containerd went away over {what}")
    return error
