"""The worker, put together: the local socket, and membership behind it."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio
import structlog

from swarmpy.api.v1 import node_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.process import raise_open_files_limit
from swarmpy.rpc.dial import SERVER
from swarmpy.rpc.server import Boundary
from worker.host import Place
from worker.local import LocalNodeServicer
from worker.membership import Membership

log = structlog.get_logger(__name__)

STOP_GRACE_S: Final = 0.5


class Worker:
    """One node's worker. `run` serves until it is cancelled."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place = place
        self._membership = Membership(place, clock, random.Random(), os.urandom)

    async def run(self) -> None:
        """Serve until cancelled; the tasks go on."""
        raise_open_files_limit()
        gc.freeze()
        async with self._serve_local(), asyncio.TaskGroup() as group:
            group.create_task(self._membership.run())
            log.info("worker_serves", socket=str(self._place.node_socket))

    @asynccontextmanager
    async def _serve_local(self) -> AsyncIterator[None]:
        path = self._place.node_socket
        path.unlink(missing_ok=True)
        server = grpc.aio.server(interceptors=(Boundary(),), options=SERVER)
        node_pb2_grpc.add_LocalNodeServicer_to_server(LocalNodeServicer(self._place, self._membership), server)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            path.chmod(0o660)
            yield
        finally:
            await server.stop(STOP_GRACE_S)
            path.unlink(missing_ok=True)
