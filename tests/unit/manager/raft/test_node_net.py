"""Several members without threads: what becomes of proposals, reads, changes and snapshots as leaders come and go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from manager.raft.types import Commit, ConfChange, ConfChangeKind, ConfState, MemberChange, Message, MessageKind, Role
from swarmpy.errors import Code, SwarmError
from tests.support.raft_net import SMALL, Net, NetMember


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net(3)
    yield net
    net.close()


def code(outcome: object) -> Code:
    assert isinstance(outcome, SwarmError), outcome
    return outcome.code


def followers(net: Net, leader: NetMember) -> list[NetMember]:
    return [member for member in net.running if member is not leader]


def change(kind: ConfChangeKind, *member_ids: int) -> ConfChange:
    return ConfChange(tuple(MemberChange(kind, member_id) for member_id in member_ids))


def test_a_proposal_is_applied_everywhere(net: Net) -> None:
    leader = net.leader()
    first, second = leader.propose(b"a", b"b")
    assert isinstance(first, Commit) and isinstance(second, Commit)
    assert second.index == first.index + 1
    net.tick()
    assert [member.applied for member in net.running] == [[b"a", b"b"]] * 3


def test_a_follower_names_the_leader(net: Net) -> None:
    leader = net.leader()
    for member in followers(net, leader):
        (refusal,) = member.propose(b"a")
        assert code(refusal) is Code.NOT_LEADER
        assert f"member {leader.member_id} leads" in str(refusal)


def test_a_proposal_whose_place_another_leader_takes_fails(net: Net) -> None:
    old = net.leader()
    net.isolate(old.member_id)
    (open_still,) = old.propose(b"lost")
    assert open_still is None
    new = next(member for member in followers(net, old))
    while not any(member.node.leads for member in followers(net, old)):
        net.tick()
    new = next(member for member in followers(net, old) if member.node.leads)
    new.propose(b"kept")
    net.cut.clear()
    while old.node.term < new.node.term or old.applied != [b"kept"]:
        net.tick()
    (outcome,) = old.outcomes.values()
    assert code(outcome) is Code.UNAVAILABLE
    assert "may have been made or not" in str(outcome)


def test_a_proposal_without_a_quorum_fails_in_time(net: Net) -> None:
    leader = net.leader()
    net.isolate(leader.member_id)
    assert leader.propose(b"a") == [None]
    net.tick(4 * SMALL.core.election_ticks)
    (outcome,) = leader.outcomes.values()
    assert code(outcome) is Code.UNAVAILABLE
    assert leader.node.status().role is not Role.LEADER


def test_a_hand_over_loses_no_proposal(net: Net) -> None:
    old = net.leader()
    waiters = [object() for _ in range(5)]
    old.node.propose([(b"%d" % n, waiter) for n, waiter in enumerate(waiters)])
    old.node.transfer(0, "transfer")
    net.settle()
    while net.leader() is old:
        net.tick()
    net.tick(2)
    assert old.outcomes["transfer"] is None
    assert all(isinstance(old.outcomes[waiter], Commit) for waiter in waiters)
    assert all(member.applied == [b"0", b"1", b"2", b"3", b"4"] for member in net.running)


def test_a_hand_over_to_a_member_that_is_gone_is_given_up(net: Net) -> None:
    leader = net.leader()
    gone = followers(net, leader)[0]
    gone.stop()
    leader.node.transfer(gone.member_id, "transfer")
    net.tick(3 * SMALL.core.election_ticks)
    assert code(leader.outcomes["transfer"]) is Code.UNAVAILABLE
    assert leader.node.leads
    assert isinstance(leader.propose(b"a")[0], Commit), "proposals are taken again"


@pytest.mark.parametrize("to", [0, 9])
def test_a_hand_over_to_nobody_is_refused(to: int) -> None:
    net = Net(1)
    member = net.leader()
    member.node.transfer(to, "transfer")
    assert code(member.outcomes["transfer"]) is Code.FAILED_PRECONDITION
    net.close()


def test_who_does_not_lead_cannot_hand_over(net: Net) -> None:
    leader = net.leader()
    other = followers(net, leader)[0]
    other.node.transfer(0, "transfer")
    assert code(other.outcomes["transfer"]) is Code.NOT_LEADER


def test_a_read_sees_what_was_acknowledged(net: Net) -> None:
    leader = net.leader()
    leader.propose(b"a")
    for member in net.running:
        member.node.read("read")
    net.settle()
    for member in net.running:
        assert member.outcomes["read"] is None
        assert member.applied == [b"a"]


def test_reads_share_rounds(net: Net) -> None:
    leader = net.leader()
    member = followers(net, leader)[0]
    for number in range(50):
        member.node.read(number)
        if number == 0:
            member.node.run()
    net.settle()
    asked = [m for m in net.carried if m.kind is MessageKind.READ_INDEX]
    assert len(asked) == 2
    assert all(member.outcomes[number] is None for number in range(50))


def test_a_read_survives_the_leader(net: Net) -> None:
    leader = net.leader()
    leader.propose(b"a")
    member = followers(net, leader)[0]
    net.isolate(leader.member_id)
    member.node.read("read")
    member.node.leader_lost()
    member.node.campaign()
    other = next(m for m in followers(net, leader) if m is not member)
    other.node.leader_lost()
    for _ in range(2 * SMALL.core.election_ticks):
        net.tick()
        if "read" in member.outcomes:
            break
    assert member.outcomes["read"] is None


def test_a_read_without_a_quorum_fails_in_time(net: Net) -> None:
    leader = net.leader()
    net.isolate(leader.member_id)
    for member in net.running:
        member.node.read("read")
    net.tick(2 * SMALL.core.election_ticks + 2)
    assert code(leader.outcomes["read"]) is Code.UNAVAILABLE


def test_a_late_answer_to_an_earlier_run_is_not_taken(net: Net) -> None:
    leader = net.leader()
    member = followers(net, leader)[0]
    net.cut.add((leader.member_id, member.member_id))
    member.node.read("first")
    net.settle()
    member.node.step(
        [
            Message(
                MessageKind.READ_INDEX_RESPONSE,
                leader.member_id,
                member.member_id,
                leader.node.term,
                index=1,
                context=b"x",
            )
        ]
    )
    member.node.run()
    assert "first" not in member.outcomes


def test_leader_lost_makes_an_election_quick(net: Net) -> None:
    leader = net.leader()
    leader.stop()
    rest = followers(net, leader)
    for member in rest:
        member.node.leader_lost()
    first = min(rest, key=lambda member: member.node.rank(leader.member_id) or 0)
    assert first.node.rank(leader.member_id) == 0
    first.node.campaign()
    net.settle()
    assert first.node.leads, "without a tick"


def test_a_lost_connection_alone_unseats_nobody(net: Net) -> None:
    leader = net.leader()
    member = followers(net, leader)[0]
    member.node.leader_lost()
    member.node.campaign()
    net.tick(3)
    assert leader.node.leads
    assert member.node.leader_id == leader.member_id


def test_a_member_joins_as_a_learner_and_becomes_a_voter(net: Net) -> None:
    leader = net.leader()
    leader.propose(b"a")
    joiner = net.join(4)
    leader.node.change_members(change(ConfChangeKind.ADD_LEARNER, 4), "learner")
    net.tick(3)
    assert leader.outcomes["learner"] == ConfState(voters=(1, 2, 3), learners=(4,))
    assert joiner.applied == [b"a"]
    leader.node.change_members(change(ConfChangeKind.ADD_VOTER, 4), "voter")
    net.tick(3)
    assert leader.outcomes["voter"] == ConfState(voters=(1, 2, 3, 4))
    assert joiner.node.status().conf.voters == (1, 2, 3, 4)


def test_a_joint_change_is_done_when_it_is_left(net: Net) -> None:
    leader = net.leader()
    for member_id in (4, 5):
        net.join(member_id)
    gone = followers(net, leader)[0].member_id
    changes = (MemberChange(ConfChangeKind.ADD_VOTER, 4), MemberChange(ConfChangeKind.REMOVE, gone))
    leader.node.change_members(ConfChange(changes), "joint")
    net.tick(5)
    conf = leader.outcomes["joint"]
    assert isinstance(conf, ConfState)
    assert (4 in conf.voters, gone in conf.voters, conf.voters_outgoing) == (True, False, ())


def test_a_change_is_refused_by_name(net: Net) -> None:
    leader = net.leader()
    follower = followers(net, leader)[0]
    follower.node.change_members(change(ConfChangeKind.REMOVE, 1), "not leader")
    assert code(follower.outcomes["not leader"]) is Code.NOT_LEADER
    leader.node.change_members(change(ConfChangeKind.REMOVE, 1, 2, 3), "all")
    assert code(leader.outcomes["all"]) is Code.FAILED_PRECONDITION


def test_a_change_that_another_leader_replaces_fails(net: Net) -> None:
    old = net.leader()
    net.isolate(old.member_id)
    old.node.change_members(change(ConfChangeKind.ADD_LEARNER, 9), "change")
    net.settle()
    while not any(member.node.leads for member in followers(net, old)):
        net.tick()
    net.cut.clear()
    net.tick(10)
    assert code(old.outcomes["change"]) is Code.UNAVAILABLE
    assert old.node.status().conf.learners == ()


def test_resigning_leaves_the_election_to_the_others(net: Net) -> None:
    leader = net.leader()
    leader.node.resign()
    net.settle()
    assert not leader.node.leads
    assert leader.leadership[-1].is_leader is False
    assert net.leader() is not None


def test_an_only_voter_does_not_resign() -> None:
    net = Net(1)
    net.leader().node.resign()
    net.settle()
    assert net.leader().node.leads
    net.close()
