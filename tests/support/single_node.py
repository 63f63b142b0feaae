"""A real node that is in no swarm, with a containerd of its own, for as long as a test module needs one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from scripts.cluster import Cluster, Node


@asynccontextmanager
async def single_node() -> AsyncIterator[Node]:
    """Start a node, and stop it with all that it runs."""
    cluster = Cluster(environ={**os.environ, "SWARMPY_CONTAINERD": ""})
    node = cluster.new_node()
    node.start()
    try:
        await node.ready()
        yield node
    finally:
        await cluster.close()
        try:
            await asyncio.to_thread(cluster.stop)
        finally:
            await asyncio.to_thread(cluster.discard)
