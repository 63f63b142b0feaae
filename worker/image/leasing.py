"""Leases of work under way: what is being made is not collected, and nothing stays of what failed for good."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from worker.containerd.client import Containerd

log = structlog.get_logger(__name__)

LEASE_S: Final = 24 * 3600.0
"""What work that was cut has made so far is kept that long, for the next attempt to go on from."""
WORK_LABEL: Final = "swarmpy.work"


@asynccontextmanager
async def leased(client: Containerd, lease: str, clock: Clock) -> AsyncIterator[tuple[str, Containerd]]:
    """Yield a lease of this id, a former attempt's or a new one, and a client that works under it.

    The lease ends with the block, and stays only after a failure that may pass, or a cancellation: the next attempt
    finds what is there, and without one containerd drops it in time.
    """
    now_s = clock.now()
    for old in await client.leases.list(f"id=={lease}"):
        if old.id == lease and now_s - old.created_at_s > LEASE_S / 2:
            await _drop(client, lease, sync=False)
    try:
        await client.leases.create(lease, {WORK_LABEL: "image"}, expires_at_s=now_s + LEASE_S)
    except SwarmError as error:
        if error.code is not Code.ALREADY_EXISTS:
            raise
    try:
        yield lease, client.leased(lease)
    except SwarmError as error:
        if not error.retryable:
            with left_behind(lease):
                await _drop(client, lease, sync=True)
        raise
    await _drop(client, lease, sync=False)


@contextmanager
def left_behind(what: str) -> Iterator[None]:
    """Have a failure to clean up not hide what it is cleaned up after; the lease's end collects what stays."""
    try:
        yield
    except SwarmError as error:
        log.warning("image_left_behind", what=what, reason=error.message)


async def _drop(client: Containerd, lease: str, *, sync: bool) -> None:
    try:
        await client.leases.delete(lease, sync=sync)
    except SwarmError as error:
        if error.code is not Code.NOT_FOUND:
            raise
