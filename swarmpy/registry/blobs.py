"""Reading blobs: pieces as they come, the rest asked for after a cut, never more than was said, the digest checked."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from swarmpy.errors import Code
from swarmpy.registry.access import Endpoint
from swarmpy.registry.failures import RegistryError, lying, too_long, truncated
from swarmpy.registry.manifests import Descriptor
from swarmpy.registry.reference import Reference
from swarmpy.registry.reply import Reply, host_of

if TYPE_CHECKING:
    from swarmpy.registry.client import Registry

PROGRESS_BYTES: Final = 1 << 20
"""What a request must bring to count as progress: a registry that gives a few bytes a time is given up on."""


async def read_blob(
    registry: Registry, name: Reference, wanted: Descriptor, offset: int, *, verify: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a blob from `offset` on. Mirrors are asked first, also for the rest of what another began."""
    what = f"{wanted.digest[:19]}… of {name.familiar()}"
    places = [*registry.endpoints.mirrors(name.domain), await registry.endpoints.own(name.domain)]
    hasher = hashlib.new(wanted.digest.partition(":")[0]) if verify and offset == 0 else None
    failures = 0
    while True:
        began = offset
        try:
            if offset < wanted.size or wanted.size == 0:
                async with aclosing(_once(registry, places[0], name, wanted, offset, what)) as pieces:
                    async for piece in pieces:
                        offset += len(piece)
                        if hasher is not None:
                            hasher.update(piece)
                        yield piece
            if offset < wanted.size:
                raise truncated(host_of(places[0].base), what, offset, wanted.size)
            break
        except RegistryError as error:
            failures = 0 if offset - began >= PROGRESS_BYTES else failures + 1
            if len(places) > 1:
                places.pop(0)
                failures = 0
            elif not error.again or failures >= registry.transport.patience.attempts:
                raise
            else:
                await registry.transport.pause(max(failures, 1), error)
    if hasher is not None:
        found = f"{wanted.digest.partition(':')[0]}:{hasher.hexdigest()}"
        if found != wanted.digest:
            raise lying(host_of(places[0].base), what, wanted.digest, found)


async def _once(
    registry: Registry, place: Endpoint, name: Reference, wanted: Descriptor, offset: int, what: str
) -> AsyncGenerator[bytes, None]:
    """Yield what one request brings. A registry that ignores the range has what we know already skipped."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    path = f"/v2/{name.path}/blobs/{wanted.digest}"
    good = frozenset({200, 206}) if offset else frozenset({200})
    async with registry.stream(place, "GET", path, what, name.path, headers=headers, good=good) as reply:
        host = host_of(place.base)
        skip = _skipped(reply, offset, host, what)
        room = wanted.size - offset
        async for piece in reply.chunks():
            if skip:
                skip, piece = max(0, skip - len(piece)), piece[skip:]
            room -= len(piece)
            if room < 0:
                raise too_long(host, what, wanted.size)
            if piece:
                yield piece


def _skipped(reply: Reply, offset: int, host: str, what: str) -> int:
    if reply.status != 206:
        return offset
    said = reply.header("Content-Range")
    if not said.startswith(f"bytes {offset}-"):
        sentence = f"{host} sends another part of {what} than was asked for: {said[:100]!r}"
        raise RegistryError(Code.CORRUPT, sentence)
    return 0
