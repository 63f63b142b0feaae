"""Between the messages and the use cases: who calls, and that a request has its id."""

from __future__ import annotations

from typing import Any, cast

import pytest

from manager.membership.admission import Placed, Placement
from manager.membership.servicer import MembershipServicer
from swarmpy.api.v1 import membership_pb2 as pb
from swarmpy.api.v1 import node_pb2
from swarmpy.errors import Code, SwarmError


class FakePlacement:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def join(self, node_id: str, addr: str, feature_level: int, request_id: str) -> Placed:
        self.calls.append(("join", node_id, addr, feature_level, request_id))
        return Placed(2, ((1, "n1", "m1:2377"), (2, node_id, addr)), 2)

    async def leave(self, node_id: str, request_id: str) -> None:
        self.calls.append(("leave", node_id, request_id))


def servicer(placement: FakePlacement) -> MembershipServicer:
    async def admit(request: node_pb2.IssueCertificateRequest) -> node_pb2.IssueCertificateResponse:
        return node_pb2.IssueCertificateResponse(node_id=f"admitted with {request.token}")

    return MembershipServicer(cast("Placement", placement), str, admit)


async def test_a_place_is_told_with_everybody_in_the_group() -> None:
    placement = FakePlacement()
    request = pb.JoinManagersRequest(request_id="r1", addr="m2:2377", feature_level=2)
    answer = await servicer(placement).JoinManagers(request, "n2")
    assert (answer.member_id, answer.feature_level) == (2, 2)
    assert [(m.member_id, m.node_id, m.addr) for m in answer.members] == [(1, "n1", "m1:2377"), (2, "n2", "m2:2377")]
    assert placement.calls == [("join", "n2", "m2:2377", 2, "JoinManagersRequest/r1")]


async def test_who_leaves_is_the_caller() -> None:
    placement = FakePlacement()
    await servicer(placement).LeaveManagers(pb.LeaveManagersRequest(request_id="r2"), "n2")
    assert placement.calls == [("leave", "n2", "LeaveManagersRequest/r2")]


async def test_a_node_is_admitted_for_another_manager() -> None:
    request = node_pb2.IssueCertificateRequest(token="t")
    assert (await servicer(FakePlacement()).AdmitNode(request, "n2")).node_id == "admitted with t"


@pytest.mark.parametrize("request_id", ["", "r" * 65])
async def test_a_request_needs_an_id(request_id: str) -> None:
    placement = FakePlacement()
    with pytest.raises(SwarmError, match="request_id is missing or longer than 64 characters") as caught:
        await servicer(placement).LeaveManagers(pb.LeaveManagersRequest(request_id=request_id), "n2")
    assert (caught.value.code, placement.calls) == (Code.INVALID_ARGUMENT, [])
