"""The use case of saving the whole state as one portable file, while everything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from manager.store.store import Store
from manager.store.tables import CLUSTERS
from swarmpy import __version__
from swarmpy.errors import Code, SwarmError
from swarmpy.snapshot.format import Encoder, Header

PIECE_BYTES: Final = 1024 * 1024


async def save_snapshot(store: Store, term: int, now_s: float) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a snapshot file with the state of this moment, in pieces of at most `PIECE_BYTES`.

    A step is about a millisecond of encoding, and other work has its turn between steps.

    Args:
        term: that the manager is in.
        now_s: wall seconds.

    Raises:
        SwarmError: UNAVAILABLE, there is no state yet.
    """
    cluster = next(iter(store.view().all(CLUSTERS)), None)
    if cluster is None:
        raise SwarmError(Code.UNAVAILABLE, "the cluster is being created: try again in a moment")
    snapshot, encoder = store.snapshot(), Encoder()
    header = Header(
        cluster=cluster,
        revision=snapshot.revision,
        index=snapshot.index,
        term=term,
        created_at=now_s,
        objects=snapshot.counts,
        release=__version__,
    )
    yield encoder.begin(header)
    for chunk in snapshot:
        data = encoder.chunk(chunk)
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]
        await asyncio.sleep(0)
    yield encoder.end()
