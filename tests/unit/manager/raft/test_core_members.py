"""Changes of the members: learners, joint configurations, who leaves and who joins. Sections are of the thesis."""

from __future__ import annotations

import pytest

from manager.raft import confchange
from manager.raft.core import CoreConfig
from manager.raft.types import (
    ConfChange,
    ConfChangeKind,
    ConfState,
    Entry,
    EntryKind,
    MemberChange,
    Message,
    MessageKind,
    Role,
    SnapshotMark,
    Transition,
)
from swarmpy.errors import Code, SwarmError
from tests.support.raft_cores import CoreNet

KINDS = {"v": ConfChangeKind.ADD_VOTER, "l": ConfChangeKind.ADD_LEARNER, "r": ConfChangeKind.REMOVE}


def change(text: str, transition: Transition = Transition.AUTO) -> ConfChange:
    """Return a change such as "v4 l5 r1"."""
    return ConfChange(tuple(MemberChange(KINDS[word[0]], int(word[1:])) for word in text.split()), transition)


def refusal(net: CoreNet, leader: int, wanted: ConfChange) -> SwarmError:
    before = net.core(leader).log.last_index
    with pytest.raises(SwarmError) as caught:
        net.core(leader).propose_conf_change(wanted)
    assert net.core(leader).log.last_index == before, "nothing was appended"
    return caught.value


def test_a_member_that_knows_nobody_is_brought_in() -> None:
    """4.2.1: it joins as a learner, gets the log, and is made a voter."""
    net = CoreNet(voters=(1,))
    net.elect(1)
    net.propose(1, b"before")
    net.join(2)
    net.change(1, change("l2"))
    net.let_time_pass(2)
    assert net[2].state == (b"before",)
    assert net.core(2).conf == ConfState((1,), (2,))
    net.change(1, change("v2"))
    net.let_time_pass(1)
    assert net.core(2).conf == net.core(1).conf == ConfState((1, 2))
    net.elect(2)


def test_a_joiner_learns_the_first_members_from_a_change() -> None:
    """They are in no entry of the log, but every change says whom it changes."""
    net = CoreNet()
    net.elect(1)
    index = net.change(1, change("l4"))
    (entry,) = net.core(1).log.between(index, index)
    assert confchange.decode(entry.data).base == ConfState((1, 2, 3))
    net.join(4)
    net.let_time_pass(3)
    assert net.core(4).conf == ConfState((1, 2, 3), (4,))


def test_a_joiner_behind_the_log_begins_with_a_snapshot() -> None:
    net = CoreNet(voters=(1,))
    net.elect(1)
    net.propose(1, b"a", b"b")
    net.snapshot(1)
    net.join(2)
    net.change(1, change("v2"))
    net.let_time_pass(3)
    assert net.core(2).conf == ConfState((1, 2))
    assert net[2].stored.mark.conf == ConfState((1,)), "of a time when it was no member yet"
    assert net[2].state == (b"a", b"b")


def test_learners_neither_stand_nor_count() -> None:
    """4.2.1: a learner gets the log, and no majority asks for it."""
    net = CoreNet(voters=(1, 2), learners=(3,))
    net.elect(1)
    net.tick(3, 100)
    net.core(3).campaign()
    assert net.core(3).role is Role.FOLLOWER
    net.crash(2)
    net.propose(1, b"a")
    assert net.core(1).commit_index == 1
    assert net.core(3).log.last_index == 2
    net.let_time_pass(20)
    assert net.leaders() == [], "a learner that is heard of is no majority"


def test_a_learner_votes_when_it_is_asked() -> None:
    """As in etcd: it may have been made a voter and not know it yet."""
    net = CoreNet(voters=(1, 2), learners=(3,))
    net.core(3).step(Message(MessageKind.VOTE, 1, 3, 5))
    net.carry_out(3)
    assert [m.reject for m in net.waiting(MessageKind.VOTE_RESPONSE)] == [False]


def test_a_member_that_is_not_in_the_configuration_never_stands() -> None:
    """4.2.2: a removed member must not disturb the others."""
    net = CoreNet()
    net.elect(1)
    net.isolate(3)
    net.change(1, change("r3"))
    net.heal()
    net.let_time_pass(1)
    assert net.core(3).conf == ConfState((1, 2, 3)), "nobody tells it: it is no member any more"
    net.let_time_pass(50)
    assert (net.leaders(), net.core(1).term) == ([1], 1), "it asks for votes, and leases hold it back"
    net.change(1, change("l3"))
    net.let_time_pass(2)
    assert net.core(3).conf == ConfState((1, 2), (3,))
    net.tick(3, 50)
    assert net.core(3).role is Role.FOLLOWER


def test_a_leader_that_removes_itself_steps_down_once_that_is_applied() -> None:
    """4.2.2: until then it leads on, and the others have what is committed."""
    net = CoreNet()
    net.elect(1)
    net.change(1, change("r1"))
    assert (net.core(1).role, net.core(1).leader_id) == (Role.FOLLOWER, 0)
    net.let_time_pass(40)
    assert net.core(1).role is Role.FOLLOWER
    assert len(net.leaders()) == 1
    net.propose(net.leaders()[0], b"without it")
    assert net[2].state == net[3].state == (b"without it",)


def test_a_leader_that_becomes_a_learner_steps_down() -> None:
    net = CoreNet()
    net.elect(1)
    net.change(1, change("l1"))
    assert (net.core(1).role, net.core(1).conf) == (Role.FOLLOWER, ConfState((2, 3), (1,)))


@pytest.mark.parametrize("pre_vote", [False, True])
def test_the_removed_leader_s_longer_log_does_not_stop_the_others(pre_vote: bool) -> None:
    """Member 2 needs the vote of 1, which it does not know to have left; 1 refuses, and says what is committed."""
    net = CoreNet(voters=(1, 2), config=CoreConfig(pre_vote=pre_vote))
    net.elect(1)
    net.core(1).propose_conf_change(change("r1"))
    net.carry_out(1)
    net.deliver()
    net.carry_out(2)
    net.core(1).propose(b"never sent")
    net.isolate(1)
    net.wire, answers = [], list(net.wire)
    for message in answers:
        net.core(1).step(message)
    net.carry_out(1)
    assert (net.core(1).role, net.core(2).commit_index) == (Role.FOLLOWER, 1)
    net.drop()
    net.heal()
    net.let_time_pass(40)
    assert net.leaders() == [2]
    assert net.core(2).conf == ConfState((2,))


def test_a_promoted_learner_s_longer_log_does_not_stop_the_others() -> None:
    """The other way round: the one whose vote is needed learns from the request that it votes, and stands itself."""
    net = CoreNet(voters=(1, 2), learners=(3,))
    net.elect(1)
    net.isolate(3)
    net.change(1, change("v3"))
    net.let_time_pass(1)
    net[3].stored.entries = [*net[1].stored.entries, Entry(1, 3, EntryKind.NORMAL, b"from 1, to 3 alone")]
    net.restart(3)
    net.crash(1)
    net.heal()
    assert (net.core(2).conf, net.core(3).conf) == (ConfState((1, 2, 3)), ConfState((1, 2), (3,)))
    net.let_time_pass(60)
    assert net.leaders() == [3]


def test_a_joint_configuration_needs_both_majorities_and_is_left_by_itself() -> None:
    """4.3: voters 1, 2, 3 go and 4, 5 come, with 1 in both groups."""
    net = CoreNet()
    for i in (4, 5):
        net.join(i)
    net.elect(1)
    net.cut = {(i, 1) for i in (4, 5)}
    net.core(1).propose_conf_change(change("v4 v5 r2 r3"))
    net.settle()
    joint = ConfState((1, 4, 5), voters_outgoing=(1, 2, 3), auto_leave=True)
    assert net.core(1).conf == joint
    index = net.propose(1, b"not by the old ones alone")[0]
    assert net.core(1).commit_index < index
    net.heal()
    net.let_time_pass(3)
    assert net.core(1).commit_index >= index
    assert net.core(1).conf == net.core(4).conf == ConfState((1, 4, 5))
    net.isolate(1)
    net.let_time_pass(60)
    assert set(net.leaders()) <= {4, 5}
    assert net.leaders()


@pytest.mark.parametrize("down", [(1, 2), (4, 5)])
def test_nobody_wins_one_half_of_a_joint_configuration_alone(down: tuple[int, int]) -> None:
    """4.3: elections need a majority of the old voters and one of the new."""
    net = CoreNet()
    for i in (4, 5):
        net.join(i)
    net.elect(1)
    net.change(1, change("v4 v5 r1 r2", Transition.JOINT_EXPLICIT))
    net.let_time_pass(2)
    for i in down:
        net.crash(i)
    net.let_time_pass(60)
    assert net.leaders() == []
    net.restart(down[0])
    net.let_time_pass(60)
    assert len(net.leaders()) == 1


def test_an_explicit_joint_configuration_waits_to_be_left() -> None:
    net = CoreNet()
    net.elect(1)
    net.change(1, change("r3", Transition.JOINT_EXPLICIT))
    net.let_time_pass(5)
    joint = ConfState((1, 2), voters_outgoing=(1, 2, 3))
    assert net.core(1).conf == joint
    refused = refusal(net, 1, change("v4"))
    assert refused.code is Code.FAILED_PRECONDITION
    assert "joint" in refused.message
    net.change(1, ConfChange())
    assert net.core(1).conf == ConfState((1, 2))


def test_a_new_leader_leaves_a_joint_configuration_that_another_entered() -> None:
    """4.3: each leader finishes what it finds."""
    net = CoreNet()
    net.join(4)
    net.elect(1)
    net.core(1).propose_conf_change(change("v4 r1", Transition.JOINT_IMPLICIT))
    for i in (1, 2, 3, 1, 2, 3):
        net.carry_out(i)
        net.deliver()
    assert net.core(1).configuration.is_joint
    net.crash(1)
    net.wire.clear()
    net.let_time_pass(60)
    (leader,) = net.leaders()
    assert leader != 1
    assert net.core(leader).conf == ConfState((2, 3, 4))


def test_a_leader_in_the_outgoing_half_leads_until_the_end() -> None:
    """4.3: it counts itself in the old majority only, and steps down when the new one stands alone."""
    net = CoreNet(voters=(1, 2))
    net.join(3)
    net.join(4)
    net.elect(1)
    net.change(1, change("v3 v4 r1"))
    net.let_time_pass(3)
    assert net.core(1).role is Role.FOLLOWER
    net.let_time_pass(40)
    (leader,) = net.leaders()
    assert net.core(leader).conf == ConfState((2, 3, 4))


def test_a_voter_that_becomes_a_learner_in_a_joint_change_votes_till_its_end() -> None:
    net = CoreNet()
    net.elect(1)
    net.change(1, change("l3 l2", Transition.JOINT_EXPLICIT))
    assert net.core(1).conf == ConfState((1,), (), (1, 2, 3), (2, 3))
    net.change(1, ConfChange())
    assert net.core(1).conf == ConfState((1,), (2, 3))


def test_one_change_at_a_time() -> None:
    """4.1: a change is taken once the one before it is applied, and a wrong one never."""
    net = CoreNet()
    net.elect(1)
    net.core(1).propose_conf_change(change("l4"))
    again = refusal(net, 1, change("l5"))
    assert (again.code, again.retryable) == (Code.FAILED_PRECONDITION, True)
    net.settle()
    nobody = refusal(net, 1, change("r1 r2 r3"))
    assert (nobody.code, nobody.retryable) == (Code.FAILED_PRECONDITION, False)
    refusal(net, 1, ConfChange())
    assert net.change(1, change("l5")) == 3


def test_a_new_leader_takes_no_change_before_it_applied_what_it_found() -> None:
    """4.1, as corrected in 2015: not before an entry of its own term is committed."""
    net = CoreNet()
    net.core(1).campaign()
    net.settle(until=lambda: net.core(1).role is Role.LEADER)
    assert refusal(net, 1, change("l4")).retryable
    net.settle()
    net.change(1, change("l4"))


def test_nobody_stands_before_it_knows_who_votes() -> None:
    """As in etcd: a member with a committed change that it has not applied would count in the wrong group."""
    net = CoreNet(voters=(1,))
    net.elect(1)
    net.change(1, change("l2"))
    net.propose(1, b"so that the commit index is stored")
    net.crash(1)
    net.restart(1)
    net.core(1).campaign()
    assert net.core(1).role is Role.FOLLOWER
    net.carry_out(1)
    net.core(1).campaign()
    assert net.core(1).role is Role.LEADER


def test_every_stored_change_stands_behind_the_commit_index_of_the_one_before() -> None:
    """Else a member could restart two changes behind, and lead with a majority that no longer counts."""
    net = CoreNet()
    net.elect(1)
    for text in ("l4", "l5", "v4", "r5"):
        net.change(1, change(text))
        for i in (1, 2, 3):
            stored = net[i].stored
            changes = [e.index for e in stored.entries if e.kind is EntryKind.CONF_CHANGE]
            assert [index for index in changes if index > stored.hard.commit] in ([], changes[-1:])


def test_a_snapshot_that_overtakes_a_change_under_way_stands() -> None:
    """A change that is being carried out when a snapshot of a later state comes must not change the members of that."""
    net = CoreNet()
    data = confchange.encode(ConfChange(change("r3").changes, base=ConfState((1, 2, 3))))
    entry = Entry(1, 1, EntryKind.CONF_CHANGE, data)
    core = net.core(2)
    core.step(Message(MessageKind.APPEND, 1, 2, 1, entries=(entry,), commit=1))
    assert net.begin(2)
    mark = SnapshotMark(50, 1, ConfState((1, 2, 7)))
    net.files[mark] = (b"later",)
    core.step(Message(MessageKind.SNAPSHOT, 1, 2, 1, snapshot=mark))
    net.finish(2)
    assert core.conf == ConfState((1, 2, 7))
    assert core.pending_snapshot is mark
    net.carry_out(2)
    assert (core.snapshot, core.applied_index) == (mark, 50)
    assert net[2].state == (b"later",)


def test_a_snapshot_brings_the_members_of_its_place() -> None:
    """Paper 7: it includes the configuration as of its last entry."""
    net = CoreNet()
    net.elect(1)
    net.isolate(3)
    net.change(1, change("l4"))
    net.snapshot(1)
    net.heal()
    net.let_time_pass(1)
    assert net.core(3).conf == ConfState((1, 2, 3), (4,))
    net.crash(3)
    net.restart(3)
    assert net.core(3).conf == ConfState((1, 2, 3), (4,))
