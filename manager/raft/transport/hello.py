"""Who speaks, and whether this member may speak with it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError

from manager.raft.api import Peer
from manager.raft.types import Metadata
from swarmpy import __version__
from swarmpy.addresses import parse_address
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import Code, SwarmError, invalid
from swarmpy.model.states import NodeRole
from swarmpy.security.names import NodeName

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1
MOST_PLACES: Final = 64


def make_hello(
    me: Metadata, to: int, feature_level: int, *, addr: str = "", places: Mapping[int, str] = MappingProxyType({})
) -> pb.RaftHello:
    """Return what this member says first.

    Args:
        addr: `host:port` at which it is reached; empty says nothing of that.
        places: the same of other members.
    """
    return pb.RaftHello(
        cluster_id=me.cluster_id,
        member_id=me.member_id,
        to=to,
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        feature_level=feature_level,
        version=__version__,
        addr=addr,
        places=[pb.RaftPlace(member_id=member_id, addr=place) for member_id, place in sorted(places.items())],
    )


def read_hello(data: bytes) -> pb.RaftHello:
    """Return what the other end says in its first batch.

    Raises:
        SwarmError: INVALID_ARGUMENT, it says something else.
    """
    try:
        batch = pb.RaftBatch.FromString(data)
    except DecodeError as error:
        raise invalid(f"the first {len(data)} bytes of another manager are no hello: {error}") from error
    if not batch.HasField("hello"):
        raise invalid("another manager did not say who it is")
    hello = batch.hello
    if len(hello.places) > MOST_PLACES:
        raise invalid(f"member {hello.member_id} names {len(hello.places)} places of managers, {MOST_PLACES} at most")
    for addr in filter(None, (hello.addr, *(place.addr for place in hello.places))):
        parse_address(addr, f"what member {hello.member_id} says of a manager's address")
    return hello


def check_hello(hello: pb.RaftHello, me: Metadata) -> None:
    """Refuse another cluster, a message meant for another member, and a protocol that this member does not speak.

    Raises:
        SwarmError: FAILED_PRECONDITION, NOT_SUPPORTED.
    """
    if hello.cluster_id != me.cluster_id:
        raise SwarmError(
            Code.FAILED_PRECONDITION,
            f"a manager of cluster {hello.cluster_id} spoke to one of {me.cluster_id}: check the addresses",
        )
    if hello.to != me.member_id:
        raise SwarmError(
            Code.FAILED_PRECONDITION,
            f"member {hello.member_id} looks for member {hello.to} here, where member {me.member_id} is:"
            " check the managers' addresses",
        )
    if not (hello.protocol_min <= PROTOCOL_MAX and hello.protocol_max >= PROTOCOL_MIN):
        raise SwarmError(
            Code.NOT_SUPPORTED,
            f"member {hello.member_id} (version {hello.version}) speaks Raft protocol {hello.protocol_min} to"
            f" {hello.protocol_max}, this one {PROTOCOL_MIN} to {PROTOCOL_MAX}: bring both to one release",
        )


def check_caller(hello: pb.RaftHello, name: NodeName, me: Metadata, peers: Mapping[int, Peer]) -> None:
    """Refuse a caller whose certificate is not that of the member it says it is.

    Raises:
        SwarmError: PERMISSION_DENIED, or UNAVAILABLE for a member that is not known here (yet).
    """
    if name.cluster_id != me.cluster_id or name.role is not NodeRole.MANAGER:
        raise SwarmError(Code.PERMISSION_DENIED, f"node {name.node_id} is no manager of this cluster")
    peer = peers.get(hello.member_id)
    if peer is None:
        raise SwarmError(
            Code.UNAVAILABLE, f"member {me.member_id} does not know a member {hello.member_id} (yet, or any more)"
        )
    if peer.node_id != name.node_id:
        raise SwarmError(
            Code.PERMISSION_DENIED, f"member {hello.member_id} is node {peer.node_id}, not node {name.node_id}"
        )
