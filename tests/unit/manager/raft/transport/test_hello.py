"""Who may speak: the right cluster and member, a protocol in common, and the certificate of who it says it is."""

from __future__ import annotations

import pytest

from manager.raft.api import Peer
from manager.raft.transport.hello import MOST_PLACES, check_caller, check_hello, make_hello, read_hello
from manager.raft.types import Metadata
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeRole
from swarmpy.security.names import NodeName

ME = Metadata("c1", 2)
PEERS = {1: Peer("node1", "127.0.0.1:1")}


def hello(member_id: int = 1, cluster_id: str = "c1", to: int = 2) -> pb.RaftHello:
    return make_hello(Metadata(cluster_id, member_id), to, 1)


def test_a_hello_is_read_as_it_was_said() -> None:
    found = read_hello(pb.RaftBatch(hello=hello()).SerializeToString())
    check_hello(found, ME)
    check_caller(found, NodeName("c1", "node1", NodeRole.MANAGER), ME, PEERS)


@pytest.mark.parametrize("data", [b"", b"\xff\xff", pb.RaftBatch(messages=[pb.RaftMessage()]).SerializeToString()])
def test_who_says_something_else_first_is_refused(data: bytes) -> None:
    with pytest.raises(SwarmError) as caught:
        read_hello(data)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_hello_says_where_members_are() -> None:
    said = make_hello(Metadata("c1", 1), 2, 1, addr="10.0.0.1:2377", places={4: "[fd00::4]:1", 3: "m3.example:2"})
    found = read_hello(pb.RaftBatch(hello=said).SerializeToString())
    assert found.addr == "10.0.0.1:2377"
    assert [(place.member_id, place.addr) for place in found.places] == [(3, "m3.example:2"), (4, "[fd00::4]:1")]


@pytest.mark.parametrize(
    "said",
    [
        make_hello(Metadata("c1", 1), 2, 1, addr=":2377"),
        make_hello(Metadata("c1", 1), 2, 1, places={3: "10.0.0.1:99999"}),
        make_hello(Metadata("c1", 1), 2, 1, places=dict.fromkeys(range(MOST_PLACES + 1), "10.0.0.1:1")),
    ],
    ids=["its own address", "another's", "too many"],
)
def test_places_that_no_member_has_are_refused(said: pb.RaftHello) -> None:
    with pytest.raises(SwarmError) as caught:
        read_hello(pb.RaftBatch(hello=said).SerializeToString())
    assert caught.value.code is Code.INVALID_ARGUMENT


def newer() -> pb.RaftHello:
    found = hello()
    found.protocol_min = found.protocol_max = 9
    return found


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (hello(cluster_id="c2"), Code.FAILED_PRECONDITION),
        (hello(to=3), Code.FAILED_PRECONDITION),
        (newer(), Code.NOT_SUPPORTED),
    ],
)
def test_a_hello_for_somebody_else_is_refused(said: pb.RaftHello, code: Code) -> None:
    with pytest.raises(SwarmError) as caught:
        check_hello(said, ME)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("member_id", "name", "code"),
    [
        (1, NodeName("c2", "node1", NodeRole.MANAGER), Code.PERMISSION_DENIED),
        (1, NodeName("c1", "node1", NodeRole.WORKER), Code.PERMISSION_DENIED),
        (1, NodeName("c1", "node9", NodeRole.MANAGER), Code.PERMISSION_DENIED),
        (5, NodeName("c1", "node1", NodeRole.MANAGER), Code.UNAVAILABLE),
    ],
)
def test_a_certificate_of_another_is_refused(member_id: int, name: NodeName, code: Code) -> None:
    with pytest.raises(SwarmError) as caught:
        check_caller(hello(member_id), name, ME, PEERS)
    assert caught.value.code is code
