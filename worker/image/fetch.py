"""Blobs from a registry straight into containerd's content store, resumed where a former attempt was cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import tenacity

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.registry.client import Registry
from swarmpy.registry.failures import lying
from swarmpy.registry.manifests import Descriptor
from swarmpy.registry.reference import Reference
from worker.containerd.client import Containerd
from worker.containerd.content import ContentWriter
from worker.image.leasing import left_behind
from worker.image.types import understood

PIECE_BYTES: Final = 1 << 20
HELD_ATTEMPTS: Final = 20
HELD_PAUSE_S: Final = 0.25

Progress = Callable[[int], None]
"""Is told how many bytes of a blob are here."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image's content comes from."""

    registry: Registry
    name: Reference


def ingest_ref(digest: str) -> str:
    """Return the one name under which a blob is written, so that it is written once and found after a restart."""
    return f"swarmpy-{digest}"


async def fetch_blob(
    client: Containerd,
    source: Source,
    blob: Descriptor,
    labels: Mapping[str, str],
    progress: Progress,
    clock: Clock,
) -> bool:
    """Make the content store have a blob, under the client's lease; return whether any of it had to be fetched.

    Raises:
        SwarmError: of the registry or of containerd; CORRUPT if the registry sent something else; RESOURCE_EXHAUSTED
            if the disk is full. What may pass leaves what has come, to go on from; anything else leaves nothing.
    """
    ref = ingest_ref(blob.digest)

    async def attempt() -> None:
        async with client.content.write(ref, total=blob.size, expected=blob.digest) as writer:
            progress(writer.offset)
            await _fill(writer, source, blob, progress)
            await writer.commit(size=blob.size, digest=blob.digest, labels=labels)

    try:
        # A writer of a worker that was killed holds the ref until containerd sees that its connection is gone.
        await tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_held),
            wait=tenacity.wait_fixed(HELD_PAUSE_S),
            stop=tenacity.stop_after_attempt(HELD_ATTEMPTS),
            sleep=clock.sleep,
            reraise=True,
        )(attempt)
    except SwarmError as error:
        if error.code is Code.ALREADY_EXISTS:
            await client.content.set_labels(blob.digest, labels)
            progress(blob.size)
            return False
        raise await _given_up(client, ref, blob, source, error) from error
    return True


async def _fill(writer: ContentWriter, source: Source, blob: Descriptor, progress: Progress) -> None:
    """Write the rest of a blob. The content store checks the digest itself, so it is not computed twice."""
    if writer.offset >= blob.size:
        return
    waiting: list[bytes] = []
    size = 0
    async with aclosing(source.registry.blob(source.name, blob, writer.offset, verify=False)) as pieces:
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE_BYTES:
                progress(await writer.write(b"".join(waiting)))
                waiting, size = [], 0
    if waiting:
        progress(await writer.write(b"".join(waiting)))


async def _given_up(client: Containerd, ref: str, blob: Descriptor, source: Source, error: SwarmError) -> SwarmError:
    """Return the error to raise, and forget what was written if going on from it makes no sense."""
    found = understood(error, f"layer {blob.digest} of {source.name.familiar()}")
    if "unexpected commit digest" in error.message:
        got = error.message.partition("unexpected commit digest")[2].strip().partition(",")[0]
        found = lying(source.name.domain, f"{blob.digest[:19]}… of {source.name.familiar()}", blob.digest, got)
    if not found.retryable:
        with left_behind(ref):
            await forget(client, ref)
    return found


async def forget(client: Containerd, ref: str) -> None:
    """Drop what was written under a ref; nothing is no error."""
    try:
        await client.content.abort(ref)
    except SwarmError as error:
        if error.code is not Code.NOT_FOUND:
            raise


def _is_held(error: BaseException) -> bool:
    return isinstance(error, SwarmError) and error.code is Code.UNAVAILABLE and "locked" in error.message
