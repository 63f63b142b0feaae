"""The local socket of a manager of straw: it says whether it serves, and which member it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from swarmpy.api.v1 import control_pb2, node_pb2, node_pb2_grpc


@dataclass
class FakeHealth(node_pb2_grpc.HealthServicer):
    serving: bool = False
    member_id: int = 3

    async def Check(  # noqa: N802  # gRPC's name
        self, request: node_pb2.HealthRequest, context: Any
    ) -> node_pb2.HealthResponse:
        return node_pb2.HealthResponse(serving=self.serving)


@asynccontextmanager
async def manager_socket(state_dir: Path) -> AsyncIterator[FakeHealth]:
    """Serve at the place where the node with this state directory looks for its manager."""
    health = FakeHealth()

    async def get_consensus(request: control_pb2.GetConsensusRequest, context: Any) -> control_pb2.GetConsensusResponse:
        return control_pb2.GetConsensusResponse(member_id=health.member_id)

    consensus = grpc.unary_unary_rpc_method_handler(
        get_consensus, control_pb2.GetConsensusRequest.FromString, control_pb2.GetConsensusResponse.SerializeToString
    )
    server = grpc.aio.server()
    node_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("swarmpy.api.v1.Control", {"GetConsensus": consensus}),)
    )
    path = state_dir / "run" / "control.sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield health
    finally:
        await server.stop(0)
