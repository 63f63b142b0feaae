"""Three managers, and what is done next when one of them is to come or go."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from manager.membership.group import may_do_without, why_not_without
from manager.membership.plan import (
    Admit,
    HandOver,
    Promote,
    Remove,
    Step,
    Stuck,
    dead_managers,
    next_step,
    risen_level,
    rows_in_step,
)
from manager.raft.types import ConfState, PeerState, PeerStatus, Role, SnapshotMark, Status
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import ManagerStatus, Node, NodeSpec
from swarmpy.model.states import NodeRole

COMMIT = 1000


def group(
    voters: Iterable[int] = (1, 2, 3),
    *,
    learners: Iterable[int] = (),
    silent: Iterable[int] = (),
    behind: Iterable[int] = (),
    silent_ticks: int = 0,
    probed: Iterable[int] = (),
    outgoing: Iterable[int] = (),
) -> Status:
    """Return what member 1 knows, which leads."""
    peers = tuple(
        PeerStatus(
            member_id,
            match=0 if member_id in behind else COMMIT,
            next=1,
            state=_state(member_id, behind, probed),
            is_learner=member_id in learners,
            active=member_id not in silent,
            silent_ticks=silent_ticks if member_id != 1 else 0,
        )
        for member_id in (*voters, *learners)
    )
    return Status(
        member_id=1,
        role=Role.LEADER,
        term=1,
        leader_id=1,
        first_index=1,
        last_index=COMMIT,
        commit_index=COMMIT,
        applied_index=COMMIT,
        log_bytes=0,
        log_segments=1,
        snapshot=SnapshotMark(),
        log_full=None,
        conf=ConfState(voters=tuple(voters), learners=tuple(learners), voters_outgoing=tuple(outgoing)),
        peers=peers,
    )


def _state(member_id: int, behind: Iterable[int], probed: Iterable[int]) -> PeerState:
    if member_id in probed:
        return PeerState.PROBE
    return PeerState.SNAPSHOT if member_id in behind else PeerState.REPLICATE


def manager(number: int, *, role: NodeRole = NodeRole.MANAGER, **status: object) -> Node:
    known = {"leader": number == 1, "reachable": True, "feature_level": 2, **status}
    raft = ManagerStatus(raft_id=number, addr=f"m{number}", **known)  # type: ignore[arg-type]  # the fields' own types
    return Node(id=f"n{number}", spec=NodeSpec(name=f"m{number}", role=role), manager=raft)


def to_be_worker(number: int) -> Node:
    return manager(number, role=NodeRole.WORKER)


ALL = (manager(1), manager(2), manager(3))


@pytest.mark.parametrize(
    ("nodes", "status", "step"),
    [
        pytest.param(ALL, group(), None, id="all as it should be"),
        pytest.param(ALL, group((1, 2)), Admit(3), id="who was given a place by a leader that was lost gets it"),
        pytest.param(
            (manager(1), manager(2), to_be_worker(3)), group((1, 2)), None, id="unless it is to be a worker by now"
        ),
        pytest.param(ALL, group((1, 2), learners=(3,)), Promote(3), id="a learner that caught up gets its vote"),
        pytest.param(ALL, group((1, 2), learners=(3,), behind=(3,)), None, id="one that has not waits"),
        pytest.param(ALL, group((1, 2), learners=(3,), silent=(3,)), None, id="one that is silent waits"),
        pytest.param(
            (manager(1), manager(2)),
            group((1, 2), learners=(3,)),
            Remove(3, "no node has this member any more"),
            id="a learner whose node is gone goes",
        ),
        pytest.param(
            (manager(1), manager(2), to_be_worker(3)),
            group(),
            Remove(3, "node m3 is to be a worker"),
            id="a demoted manager goes",
        ),
        pytest.param(
            (manager(1), manager(2), to_be_worker(3)),
            group(silent=(3,)),
            Remove(3, "node m3 is to be a worker"),
            id="also when it is silent",
        ),
        pytest.param(
            (manager(1), to_be_worker(2), manager(3)),
            group(silent=(3,)),
            Stuck(2, "node m2 is to be a worker"),
            id="but not when the others are no quorum",
        ),
        pytest.param(
            (manager(1), to_be_worker(2), manager(3)),
            group(probed=(3,)),
            Stuck(2, "node m2 is to be a worker"),
            id="nor while one of them was just lost",
        ),
        pytest.param(
            (manager(1), to_be_worker(2), manager(3)),
            group(silent_ticks=6),
            Stuck(2, "node m2 is to be a worker"),
            id="nor while one of them owes answers",
        ),
        pytest.param((to_be_worker(1), manager(2), manager(3)), group(), HandOver(), id="a leader hands over first"),
        pytest.param(
            (to_be_worker(1), manager(2), manager(3)),
            group(silent=(2,)),
            Stuck(1, "node m1 is to be a worker"),
            id="and stays while there is nobody to lead",
        ),
        pytest.param(
            (to_be_worker(1),), group((1,)), Stuck(1, "node m1 is to be a worker"), id="the last manager stays"
        ),
        pytest.param(
            (manager(1), manager(2), to_be_worker(3)), group(outgoing=(1, 2)), None, id="one change at a time"
        ),
        pytest.param(
            (manager(1), manager(2), manager(4)),
            group((1, 2, 3), learners=(4,), silent=(3,)),
            Promote(4),
            id="who comes back without a log is let in as somebody else",
        ),
        pytest.param(
            (manager(1), manager(2), manager(4)),
            group((1, 2, 3, 4), silent=(3,)),
            Remove(3, "no node has this member any more"),
            id="before who it was is let go",
        ),
    ],
)
def test_what_is_done_next(nodes: tuple[Node, ...], status: Status, step: Step | None) -> None:
    assert next_step(nodes, status) == step


def test_rows_say_what_raft_says() -> None:
    nodes = (manager(1), manager(2, leader=True), manager(3), to_be_worker(4), manager(5), Node(id="worker"))
    changed = rows_in_step(nodes, group((1, 2), learners=(3,), silent=(2,)))
    assert {node.id: node.manager for node in changed} == {
        "n2": ManagerStatus(raft_id=2, addr="m2", leader=False, reachable=False, feature_level=2),
        "n3": ManagerStatus(raft_id=3, addr="m3", leader=False, reachable=True, learner=True, feature_level=2),
        "n4": None,
    }


def test_rows_that_agree_are_left_alone() -> None:
    assert rows_in_step(ALL, group()) == []


def test_a_manager_that_was_silent_for_long_enough_becomes_a_worker() -> None:
    silent = group(silent=(3,))

    def demoted(since_s: dict[int, float], after_s: float, status: Status = silent) -> list[str]:
        return [n.id for n in dead_managers(ALL, status, since_s, 100.0, after_s) if n.spec.role is NodeRole.WORKER]

    assert demoted({3: 40.0}, 60.0) == ["n3"]
    assert demoted({3: 41.0}, 60.0) == []
    assert demoted({3: 0.0}, 0.0) == [], "0 is never"
    assert demoted({2: 0.0, 3: 0.0}, 60.0, group(silent=(2, 3))) == [], "no quorum would be left"


def test_the_level_rises_once_every_member_has_it() -> None:
    cluster = Cluster(id="c", feature_level=1)
    assert risen_level(cluster, ALL, group()) == 2
    older = msgspec.structs.replace(ALL[2].manager, feature_level=1)  # type: ignore[type-var]  # it is there
    assert risen_level(cluster, (*ALL[:2], msgspec.structs.replace(ALL[2], manager=older)), group()) is None
    assert risen_level(cluster, ALL[:2], group()) is None, "a member of which nothing is known"
    assert risen_level(msgspec.structs.replace(cluster, feature_level=2), ALL, group()) is None


@pytest.mark.parametrize(
    ("status", "member_id", "sentence"),
    [
        (group(), 2, None),
        (group(silent=(2,)), 2, None),
        (group((1, 2), learners=(3,), silent=(2,)), 3, None),
        (
            group((1,)),
            1,
            "m is the last manager: promote another node first, so that the swarm's state is kept",
        ),
        (
            group(silent=(3,)),
            2,
            "without m, 1 of 2 managers would be reachable, and a quorum needs 2: bring another manager back first",
        ),
    ],
)
def test_why_a_manager_cannot_go(status: Status, member_id: int, sentence: str | None) -> None:
    assert why_not_without(status, member_id, "m") == sentence
    if member_id in status.conf.voters:
        assert may_do_without(status, (member_id,)) is (sentence is None)
