from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from manager.api.consensus import ConsensusReport
from manager.raft.types import ConfState, PeerState, PeerStatus, Role, SnapshotMark, Status
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import ManagerStatus, Node, NodeSpec
from tests.support.store import put, running_store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with running_store() as store:
        await put(store, CLUSTERS, Cluster(id="c", feature_level=2))
        for number in (1, 2, 3):
            manager = ManagerStatus(raft_id=number, addr=f"10.0.0.{number}:2377")
            await put(store, NODES, Node(id=f"n{number}", spec=NodeSpec(name=f"m{number}"), manager=manager))
        yield store


def status(role: Role, leader_id: int, peers: tuple[PeerStatus, ...] = ()) -> Status:
    return Status(
        member_id=1,
        role=role,
        term=7,
        leader_id=leader_id,
        first_index=90,
        last_index=100,
        commit_index=99,
        applied_index=98,
        log_bytes=4096,
        log_segments=1,
        snapshot=SnapshotMark(80, 6),
        log_full=None,
        conf=ConfState(voters=(1, 2), learners=(3,)),
        peers=peers,
    )


def peer(member_id: int, match: int, *, active: bool = True, learner: bool = False) -> PeerStatus:
    return PeerStatus(member_id, match, match + 1, PeerState.REPLICATE, learner, active, silent_s=0.5)


PEERS = (peer(1, 100), peer(2, 97, active=False), peer(3, 40, learner=True))


async def test_the_leader_knows_how_far_each_member_is(store: Store) -> None:
    answer = await ConsensusReport(store, "n1", lambda: status(Role.LEADER, 1, PEERS)).get()
    assert (answer.term, answer.role, answer.leader_addr, answer.problem) == (7, "leader", "10.0.0.1:2377", "")
    assert [(m.hostname, m.voter, m.leader, m.active, m.lag) for m in answer.members] == [
        ("m1", True, True, True, 0),
        ("m2", True, False, False, 3),
        ("m3", False, False, True, 60),
    ]


async def test_another_manager_takes_that_from_the_leader(store: Store) -> None:
    leader = ConsensusReport(store, "n2", lambda: status(Role.LEADER, 1, PEERS))
    asked: list[str] = []

    async def ask(address: str, timeout_s: float) -> pb.GetConsensusResponse:
        asked.append(address)
        return await leader.get()

    answer = await ConsensusReport(store, "n1", lambda: status(Role.FOLLOWER, 2), ask).get()
    assert asked == ["10.0.0.2:2377"]
    assert (answer.role, answer.leader_addr) == ("follower", "10.0.0.2:2377")
    assert [m.lag for m in answer.members] == [0, 3, 60]


@pytest.mark.parametrize(
    ("leader_id", "problem"),
    [
        (0, "no manager leads, as far as this one knows"),
        (2, "the leader at 10.0.0.2:2377 does not answer: gone"),
    ],
)
async def test_without_an_answer_it_says_what_it_knows_itself(store: Store, leader_id: int, problem: str) -> None:
    async def ask(address: str, timeout_s: float) -> pb.GetConsensusResponse:
        raise SwarmError(Code.UNAVAILABLE, "gone")

    answer = await ConsensusReport(store, "n1", lambda: status(Role.FOLLOWER, leader_id), ask).get()
    assert answer.problem == problem
    assert [(m.addr, m.voter, m.state) for m in answer.members] == [
        ("10.0.0.1:2377", True, ""),
        ("10.0.0.2:2377", True, ""),
        ("10.0.0.3:2377", False, ""),
    ]
