"""The Membership RPCs. The caller is named by its certificate, or by the manager that relays for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from manager.membership.admission import Placement
from swarmpy.api.v1 import membership_pb2 as pb
from swarmpy.api.v1 import membership_pb2_grpc, node_pb2
from swarmpy.errors import invalid

# ruff: noqa: N802  # the methods have the names that the proto gives them


Admit = Callable[[node_pb2.IssueCertificateRequest], Awaitable[node_pb2.IssueCertificateResponse]]


class MembershipServicer(membership_pb2_grpc.MembershipServicer):
    """Serves managers that come and go.

    Args:
        caller: returns the id of the node that makes a call, given its context.
        admit: takes in the node that another manager's bootstrap port was asked for.
    """

    def __init__(self, placement: Placement, caller: Callable[[Any], str], admit: Admit) -> None:
        self._placement, self._caller, self._admit = placement, caller, admit

    async def JoinManagers(self, request: pb.JoinManagersRequest, context: Any) -> pb.JoinManagersResponse:
        placed = await self._placement.join(
            self._caller(context), request.addr, request.feature_level, _request_id(request)
        )
        response = pb.JoinManagersResponse(member_id=placed.member_id, feature_level=placed.feature_level)
        for member_id, node_id, addr in placed.members:
            response.members.add(member_id=member_id, node_id=node_id, addr=addr)
        return response

    async def LeaveManagers(self, request: pb.LeaveManagersRequest, context: Any) -> pb.LeaveManagersResponse:
        await self._placement.leave(self._caller(context), _request_id(request))
        return pb.LeaveManagersResponse()

    async def AdmitNode(
        self, request: node_pb2.IssueCertificateRequest, context: Any
    ) -> node_pb2.IssueCertificateResponse:
        return await self._admit(request)


def _request_id(request: Any) -> str:
    if not 0 < len(request.request_id) <= 64:
        raise invalid("request_id is missing or longer than 64 characters: it is made once and kept for retries")
    return f"{type(request).__name__}/{request.request_id}"
