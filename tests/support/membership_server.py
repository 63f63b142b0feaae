"""A manager of straw that other managers ask to be taken in, with real certificates on both ends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from swarmpy.api.v1 import control_pb2, membership_pb2_grpc, node_pb2
from swarmpy.api.v1 import membership_pb2 as pb
from swarmpy.clock import SystemClock
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.states import Availability
from swarmpy.rpc.dial import SERVER
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.tls import server_credentials
from swarmpy.security.identity import Identity
from worker.founding import found_cluster

# ruff: noqa: N802  # the methods have the names that the proto gives them


def founder() -> Identity:
    """Return the identity of a new cluster's first manager."""
    return found_cluster(
        clock=SystemClock(),
        random_bytes=os.urandom,
        spec=ClusterSpec(),
        availability=Availability.ACTIVE,
        hostname="m1",
        advertise_addr="127.0.0.1:2377",
        listen_addr="127.0.0.1:2377",
        node_addr="127.0.0.1",
    ).identity


@dataclass
class MembershipServer:
    """Says what `answers` has, one after the other, and notes what it was asked."""

    address: str = ""
    answers: list[pb.JoinManagersResponse | SwarmError] = field(default_factory=list)
    refusals: list[SwarmError] = field(default_factory=list)
    joins: list[pb.JoinManagersRequest] = field(default_factory=list)
    leaves: list[pb.LeaveManagersRequest] = field(default_factory=list)


class _Membership(membership_pb2_grpc.MembershipServicer):
    def __init__(self, state: MembershipServer) -> None:
        self._state = state

    async def JoinManagers(self, request: pb.JoinManagersRequest, context: Any) -> pb.JoinManagersResponse:
        self._state.joins.append(request)
        answer = self._state.answers.pop(0)
        if isinstance(answer, SwarmError):
            raise answer
        return answer

    async def LeaveManagers(self, request: pb.LeaveManagersRequest, context: Any) -> pb.LeaveManagersResponse:
        self._state.leaves.append(request)
        if self._state.refusals:
            raise self._state.refusals.pop(0)
        return pb.LeaveManagersResponse()

    async def AdmitNode(
        self, request: node_pb2.IssueCertificateRequest, context: Any
    ) -> node_pb2.IssueCertificateResponse:
        raise AssertionError("nobody asks for this here")


@asynccontextmanager
async def membership_server(identity: Identity) -> AsyncIterator[MembershipServer]:
    """Serve on a free port of the loopback address."""
    state = MembershipServer()

    async def get_consensus(request: control_pb2.GetConsensusRequest, context: Any) -> control_pb2.GetConsensusResponse:
        if state.refusals:
            raise state.refusals.pop(0)
        return control_pb2.GetConsensusResponse(member_id=7)

    consensus = grpc.unary_unary_rpc_method_handler(
        get_consensus,
        control_pb2.GetConsensusRequest.FromString,
        control_pb2.GetConsensusResponse.SerializeToString,
    )
    server = grpc.aio.server(interceptors=(Boundary(),), options=SERVER)
    membership_pb2_grpc.add_MembershipServicer_to_server(_Membership(state), server)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("swarmpy.api.v1.Control", {"GetConsensus": consensus}),)
    )
    port = server.add_secure_port("127.0.0.1:0", server_credentials(identity))
    state.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield state
    finally:
        await server.stop(0)
