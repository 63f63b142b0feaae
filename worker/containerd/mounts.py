"""Mounts and descriptors between dataclass and message."""

from __future__ import annotations

from collections.abc import Iterable

from worker.containerd.api import types_pb2
from worker.containerd.types import Descriptor, Mount


def to_messages(mounts: Iterable[Mount]) -> list[types_pb2.Mount]:
    """Return mounts as containerd takes them."""
    return [types_pb2.Mount(type=mount.type, source=mount.source, options=mount.options) for mount in mounts]


def from_messages(messages: Iterable[types_pb2.Mount]) -> tuple[Mount, ...]:
    """Return mounts that containerd has given."""
    return tuple(Mount(message.type, message.source, tuple(message.options)) for message in messages)


def to_descriptor(descriptor: Descriptor) -> types_pb2.Descriptor:
    """Return a descriptor as containerd takes it."""
    return types_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size_bytes,
        annotations=descriptor.annotations,
    )


def from_descriptor(message: types_pb2.Descriptor) -> Descriptor:
    """Return a descriptor that containerd has given."""
    return Descriptor(message.media_type, message.digest, message.size, dict(message.annotations))
