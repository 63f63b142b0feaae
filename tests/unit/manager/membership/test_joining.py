"""How a manager without a log asks to be taken in: whom, how often, and when it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from manager.membership.joining import ask_to_join
from swarmpy.api.v1 import membership_pb2 as pb
from swarmpy.errors import Code, NotLeaderError, SwarmError
from swarmpy.security.identity import Identity
from tests.support.clock import FakeClock
from tests.support.membership_server import MembershipServer, founder, membership_server

OWN = "127.0.0.9:2377"
NOBODY = "127.0.0.1:1"
DEADLINE_S = 20.0
PLACE = pb.JoinManagersResponse(member_id=3, feature_level=2)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return founder()


@pytest.fixture
async def other(identity: Identity) -> AsyncIterator[MembershipServer]:
    async with membership_server(identity) as server:
        yield server


class Impatient(FakeClock):
    """A clock on which no wait takes time."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(0)


async def ask(identity: Identity, *managers: str) -> pb.JoinManagersResponse:
    knows = msgspec.structs.replace(identity, managers=managers)
    async with asyncio.timeout(DEADLINE_S):
        return await ask_to_join(knows, OWN, "r1", Impatient(), feature_level=2)


async def test_the_first_manager_that_answers_gives_the_place(identity: Identity, other: MembershipServer) -> None:
    other.answers = [PLACE]
    assert await ask(identity, OWN, NOBODY, other.address) == PLACE
    assert other.joins == [pb.JoinManagersRequest(request_id="r1", addr=OWN, feature_level=2)]


@pytest.mark.parametrize(
    "not_yet",
    [
        SwarmError(Code.UNAVAILABLE, "no manager leads"),
        NotLeaderError("this manager does not lead", ""),
        SwarmError(Code.INTERNAL, "a change of the members went wrong"),
    ],
    ids=lambda error: error.code.value,
)
async def test_who_cannot_yet_is_asked_again_with_the_same_request(
    identity: Identity, other: MembershipServer, not_yet: SwarmError
) -> None:
    other.answers = [not_yet, not_yet, PLACE]
    assert await ask(identity, other.address) == PLACE
    assert [request.request_id for request in other.joins] == ["r1"] * 3


async def test_a_refusal_is_final(identity: Identity, other: MembershipServer) -> None:
    other.answers = [SwarmError(Code.PERMISSION_DENIED, "this node was removed from the cluster")]
    with pytest.raises(SwarmError, match="this node was removed from the cluster"):
        await ask(identity, other.address, NOBODY)
    assert len(other.joins) == 1


async def test_who_knows_nobody_is_told_the_way_out(identity: Identity) -> None:
    with pytest.raises(
        SwarmError, match="knows no other manager that could take it in: leave the swarm with"
    ) as caught:
        await ask(identity, OWN)
    assert caught.value.code is Code.FAILED_PRECONDITION
