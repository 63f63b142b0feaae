"""Connections to other managers: kept, bounded, closed, and their errors in the project's own words."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from manager.channels import MOST, Channels
from swarmpy.errors import Code, SwarmError
from swarmpy.security.identity import Identity
from tests.support.membership_server import MembershipServer, founder, membership_server

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def identity() -> Identity:
    return founder()


@pytest.fixture
async def other(identity: Identity) -> AsyncIterator[MembershipServer]:
    async with membership_server(identity) as server:
        yield server


async def test_there_is_one_for_each_address_and_the_oldest_are_let_go(identity: Identity) -> None:
    channels = Channels(lambda: identity)
    async with channels.kept():
        first, second = channels.to("m1:2377"), channels.to("m2:2377")
        for number in range(3, MOST + 1):
            channels.to(f"m{number}:2377")
        assert channels.to("m1:2377") is first
        channels.to("one too many:2377")
        assert channels.to("m1:2377") is first, "it was used last"
        assert channels.to("m2:2377") is not second


async def test_a_renewed_certificate_is_shown_on_new_connections(identity: Identity) -> None:
    present = identity
    channels = Channels(lambda: present)
    async with channels.kept():
        before = channels.to("m1:2377")
        present = msgspec.structs.replace(identity, managers=("m9:2377",))
        assert channels.to("m1:2377") is not before


async def test_another_manager_says_how_the_managers_agree(identity: Identity, other: MembershipServer) -> None:
    channels = Channels(lambda: identity)
    async with channels.kept():
        assert (await channels.ask_consensus(other.address, DEADLINE_S)).member_id == 7
        other.refusals = [SwarmError(Code.PERMISSION_DENIED, "this call is for managers")]
        with pytest.raises(SwarmError, match="this call is for managers") as caught:
            await channels.ask_consensus(other.address, DEADLINE_S)
        assert caught.value.code is Code.PERMISSION_DENIED
        with pytest.raises(SwarmError) as caught:
            await channels.ask_consensus("127.0.0.1:1", DEADLINE_S)
        assert caught.value.code is Code.UNAVAILABLE
