"""A manager's place on disk: a founder's, a joiner's, and what is made of one that was lost in part."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from manager.place import FILE, LOG, Known, Place, take_place
from manager.raft.api import Peer
from manager.raft.log import storage
from manager.raft.log.disk import OsDisk
from swarmpy.api.v1 import membership_pb2 as pb
from swarmpy.clock import SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.seed import SEED_FILE
from swarmpy.security.identity import Identity
from tests.support.membership_server import MembershipServer, founder, membership_server

OWN = "127.0.0.9:2377"


@pytest.fixture(scope="module")
def founded() -> Identity:
    return founder()


@pytest.fixture
async def other(founded: Identity) -> AsyncIterator[MembershipServer]:
    async with membership_server(founded) as server:
        yield server


@pytest.fixture
def identity(founded: Identity, other: MembershipServer) -> Identity:
    return msgspec.structs.replace(founded, managers=(other.address,))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "manager"
    path.mkdir()
    return path


def given(member_id: int) -> pb.JoinManagersResponse:
    answer = pb.JoinManagersResponse(member_id=member_id, feature_level=2)
    answer.members.add(member_id=1, node_id="n1", addr="m1:2377")
    answer.members.add(member_id=member_id, node_id="n9", addr=OWN)
    return answer


async def take(directory: Path, identity: Identity) -> Place:
    return (await take_place(directory, identity, OWN, SystemClock(), os.urandom, feature_level=2))[0]


async def test_a_founder_is_the_first_member(directory: Path, identity: Identity, other: MembershipServer) -> None:
    (directory / SEED_FILE).write_bytes(b"the rows to begin with")
    assert await take(directory, identity) == Place(member_id=1)
    assert storage.is_encrypted(OsDisk(), directory / LOG)
    (directory / SEED_FILE).unlink()
    assert await take(directory, identity) == Place(member_id=1)
    assert other.joins == []


async def test_a_joiner_gets_its_place_once(directory: Path, identity: Identity, other: MembershipServer) -> None:
    other.answers = [given(4)]
    place = await take(directory, identity)
    assert (place.member_id, place.members) == (4, {1: Known(node_id="n1", addr="m1:2377")})
    assert place.peers == {1: Peer("n1", "m1:2377")}
    assert storage.exists(OsDisk(), directory / LOG)
    assert await take(directory, identity) == place
    assert len(other.joins) == 1


async def test_who_dies_before_the_answer_asks_again_with_the_same_request(
    directory: Path, identity: Identity, other: MembershipServer
) -> None:
    other.answers = [SwarmError(Code.PERMISSION_DENIED, "this node is to be a worker"), given(4)]
    with pytest.raises(SwarmError, match="this node is to be a worker"):
        await take(directory, identity)
    assert (await take(directory, identity)).member_id == 4
    first, second = other.joins
    assert first.request_id == second.request_id != ""


async def test_who_has_lost_its_log_asks_for_another_place(
    directory: Path, identity: Identity, other: MembershipServer
) -> None:
    other.answers = [given(4), given(5)]
    await take(directory, identity)
    shutil.rmtree(directory / LOG)
    assert (await take(directory, identity)).member_id == 5
    first, second = other.joins
    assert first.request_id != second.request_id


async def test_a_log_of_the_first_release_is_the_founders(
    directory: Path, identity: Identity, other: MembershipServer
) -> None:
    (directory / SEED_FILE).touch()
    await take(directory, identity)
    (directory / FILE).unlink()
    assert await take(directory, identity) == Place(member_id=1)


async def test_a_damaged_place_is_refused_with_the_way_out(directory: Path, identity: Identity) -> None:
    (directory / FILE).write_bytes(b"\xc1")
    with pytest.raises(SwarmError, match=r"place.msgpack is damaged .*`swarmpy swarm leave --force`") as caught:
        await take(directory, identity)
    assert caught.value.code is Code.CORRUPT


async def test_a_log_without_its_key_is_refused(directory: Path, identity: Identity) -> None:
    (directory / SEED_FILE).touch()
    await take(directory, identity)
    (directory / "raft-key").unlink()
    with pytest.raises(SwarmError, match="raft-key") as caught:
        await take(directory, identity)
    assert caught.value.code is Code.FAILED_PRECONDITION
