"""The worker, put together: the local socket, what runs tasks, and membership in a cluster."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio
import structlog

from swarmpy.api.v1 import node_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.model.node import Capability
from swarmpy.process import raise_open_files_limit
from swarmpy.rpc.dial import SERVER
from swarmpy.rpc.refusing import Refusing
from swarmpy.rpc.server import Boundary
from swarmpy.security.identity import Identity
from worker.engine import Engine
from worker.host import Place
from worker.local import LocalNodeServicer
from worker.member import Member
from worker.membership import Membership
from worker.standing import StandingWatch

log = structlog.get_logger(__name__)

STOP_GRACE_S: Final = 0.5


class Worker:
    """One node's worker. `run` serves until it is cancelled."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._rng = random.Random()
        self._membership = Membership(place, clock, self._rng, os.urandom, self._make_member)
        self._engine = Engine(place, clock, self._rng, self._node_id)

    async def run(self) -> None:
        """Serve until cancelled; the tasks go on."""
        raise_open_files_limit()
        gc.freeze()
        async with self._serve_local(), asyncio.TaskGroup() as group:
            group.create_task(self._engine.run())
            group.create_task(self._membership.run())
            log.info("worker_serves", socket=str(self._place.node_socket))

    def _node_id(self) -> str:
        identity = self._membership.identity
        return identity.node_id if identity is not None else ""

    def _make_member(
        self,
        identity: Identity,
        on_identity: Callable[[Identity], None],
        on_renewed: Callable[[Identity, Identity], Awaitable[None]],
        standing: StandingWatch,
    ) -> Member:
        return Member(self._place, identity, self._clock, self._rng, self._engine, on_identity, on_renewed, standing)

    def _serve_containers(self, server: grpc.aio.Server) -> None:
        desk, machine = self._engine.desk, self._engine.machine
        if desk is None:
            reason = f"this node runs no containers: {machine.missing.get(Capability.CONTAINER, '')}"
            handlers = tuple(Refusing(f"swarmpy.api.v1.{name}", reason) for name in ("Containers", "Images", "Volumes"))
            server.add_generic_rpc_handlers(handlers)
            return
        from swarmpy.api.v1 import containers_pb2_grpc, images_pb2_grpc, volumes_pb2_grpc
        from worker.containers.servicer import ContainersServicer
        from worker.image.desk import ImageDesk
        from worker.image.servicer import ImagesServicer
        from worker.volume_desk import VolumeDesk
        from worker.volume_servicer import VolumesServicer

        servicer = ContainersServicer(desk, machine.resources.memory_bytes)
        containers_pb2_grpc.add_ContainersServicer_to_server(servicer, server)
        state_dir, parts = self._place.state_dir, desk.containers
        images = ImageDesk(parts.client, parts.images.room, state_dir / "run")
        images_pb2_grpc.add_ImagesServicer_to_server(
            ImagesServicer(images, state_dir, clock=self._clock, rng=self._rng), server
        )
        volumes = VolumesServicer(VolumeDesk(parts.volumes, parts.client.containers))
        volumes_pb2_grpc.add_VolumesServicer_to_server(volumes, server)

    @asynccontextmanager
    async def _serve_local(self) -> AsyncIterator[None]:
        path = self._place.node_socket
        path.unlink(missing_ok=True)
        server = grpc.aio.server(interceptors=(Boundary(),), options=SERVER)
        node_pb2_grpc.add_LocalNodeServicer_to_server(
            LocalNodeServicer(self._place, self._membership, self._engine.describe), server
        )
        self._serve_containers(server)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            path.chmod(0o660)
            yield
        finally:
            await server.stop(STOP_GRACE_S)
            path.unlink(missing_ok=True)
