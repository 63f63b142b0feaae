"""Elections: who may stand, who is voted for, and who is not disturbed. Sections are of the Raft paper or thesis."""

from __future__ import annotations

import random

import pytest

from manager.raft.core import CoreConfig
from manager.raft.types import EntryKind, Message, MessageKind, Role
from tests.support.raft_cores import CoreNet

VOTES_ONLY = CoreConfig(pre_vote=False, check_quorum=False)


def vote(sender: int, to: int, term: int, *, log: tuple[int, int] = (0, 0), forced: bool = False) -> Message:
    return Message(MessageKind.VOTE, sender, to, term, log_term=log[0], index=log[1], forced=forced)


def answer(net: CoreNet, message: Message) -> Message:
    """Hand a message over and return the one answer to it."""
    net.core(message.to).step(message)
    net.carry_out(message.to)
    (found,) = net.waiting(to=message.sender)
    net.drop()
    return found


def test_a_majority_elects_a_leader_whom_all_follow() -> None:
    """Paper 5.2: votes of a majority make a leader; its first message ends the other members' wait."""
    net = CoreNet()
    net.tick(1, 16)
    assert net.core(1).role is Role.PRE_CANDIDATE
    net.settle()
    assert net.roles() == {1: Role.LEADER, 2: Role.FOLLOWER, 3: Role.FOLLOWER}
    assert [net.core(i).leader_id for i in (1, 2, 3)] == [1, 1, 1]
    assert [net.core(i).term for i in (1, 2, 3)] == [1, 1, 1]


def test_nobody_wins_without_a_majority() -> None:
    """Paper 5.2: a candidate alone in its part of the net never leads; with pre-votes its term does not even grow."""
    net = CoreNet()
    net.isolate(1)
    net.tick(1, 100)
    net.settle()
    assert (net.core(1).role, net.core(1).term) == (Role.PRE_CANDIDATE, 0)


def test_time_outs_are_random_within_their_bounds() -> None:
    """Paper 5.2: time-outs differ, so that votes are rarely split."""
    waited = set()
    for seed in range(200):
        core = CoreNet(seed=seed).core(1)
        ticks = 0
        while core.role is Role.FOLLOWER:
            core.tick()
            ticks += 1
        waited.add(ticks)
    assert waited == set(range(8, 16))


def test_a_split_vote_ends_with_another_time_out() -> None:
    """Paper 5.2: two candidates of one term both fail; one of them wins later."""
    net = CoreNet(voters=(1, 2, 3, 4), config=VOTES_ONLY)
    for i in (1, 2):
        net.core(i).campaign()
        net.carry_out(i)
    net.deliver(MessageKind.VOTE, to=3, sender=1)
    net.deliver(MessageKind.VOTE, to=4, sender=2)
    net.drop(MessageKind.VOTE)
    net.settle()
    assert net.leaders() == []
    net.let_time_pass(40)
    assert len(net.leaders()) == 1


def test_one_vote_a_term_also_after_a_restart() -> None:
    """Paper 5.2 and figure 2: the vote is stored before it is told, and given once a term, to the same one again."""
    net = CoreNet(config=VOTES_ONLY)
    assert not answer(net, vote(2, 1, 5)).reject
    assert net[1].stored.hard.vote == 2
    assert answer(net, vote(3, 1, 5)).reject
    net.crash(1)
    net.restart(1)
    assert answer(net, vote(3, 1, 5)).reject
    assert not answer(net, vote(2, 1, 5)).reject


def test_a_vote_waits_for_the_disk() -> None:
    """Figure 2: currentTerm and votedFor are updated on stable storage before responding."""
    net = CoreNet(config=VOTES_ONLY)
    net.core(1).step(vote(2, 1, 5))
    ready = net.core(1).ready()
    assert ready is not None
    assert ready.must_sync
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote) == (5, 2)
    assert [m.kind for m in ready.messages] == [MessageKind.VOTE_RESPONSE]
    assert ready.ahead == ()


@pytest.mark.parametrize(
    ("mine", "theirs", "granted"),
    [
        ([1, 1], (1, 2), True),
        ([1, 1], (1, 1), False),
        ([1, 1], (2, 1), True),
        ([1, 2], (1, 5), False),
        ([1, 2], (2, 2), True),
        ([], (0, 0), True),
    ],
)
def test_only_a_log_as_new_as_one_s_own_is_voted_for(mine: list[int], theirs: tuple[int, int], granted: bool) -> None:
    """Paper 5.4.1: the last entry's term counts first, then the length."""
    net = CoreNet(logs={1: mine}, config=VOTES_ONLY)
    assert answer(net, vote(2, 1, 9, log=theirs)).reject is not granted


def test_a_candidate_follows_a_leader_of_its_own_term() -> None:
    """Paper 5.2: whoever claims to lead in a term that is at least the candidate's is believed."""
    net = CoreNet(config=VOTES_ONLY)
    net.core(1).campaign()
    net.core(1).step(Message(MessageKind.HEARTBEAT, 2, 1, 1))
    assert (net.core(1).role, net.core(1).leader_id) == (Role.FOLLOWER, 2)


def test_a_higher_term_makes_a_follower_and_a_lower_one_is_told_so() -> None:
    """Paper 5.1: terms are exchanged with every message; a stale leader steps down, a stale candidate is refused."""
    net = CoreNet(config=VOTES_ONLY)
    net.elect(1)
    net.crash(1)
    net.elect(2)
    net.members[1].is_up = True  # it was only cut off, and still believes that it leads
    assert net.core(1).role is Role.LEADER
    net.tick(1)
    net.settle()
    assert (net.core(1).role, net.core(1).term) == (Role.FOLLOWER, 2)
    refusal = answer(net, vote(3, 1, 1, log=(9, 9)))
    assert (refusal.reject, refusal.term) == (True, 2)


def test_an_only_voter_leads_at_once_and_stores_all_in_one_frame() -> None:
    net = CoreNet(voters=(1,), learners=(2,))
    net.core(1).campaign()
    ready = net.core(1).ready()
    assert ready is not None
    assert ready.hard_state is not None
    assert (ready.hard_state.vote, [e.kind for e in ready.entries]) == (1, [EntryKind.NOOP])
    assert ready.ahead == (), "its term is not stored yet, so nobody may hear of it"
    assert [m.kind for m in ready.messages] == [MessageKind.APPEND]
    assert ready.committed == ()


def test_pre_votes_disturb_nobody() -> None:
    """Thesis 9.6: whoever was cut off and comes back finds a leader, and neither its term nor theirs has grown."""
    net = CoreNet()
    net.elect(1)
    net.isolate(3)
    net.tick(3, 50)
    net.let_time_pass(3)
    net.heal()
    net.tick(3, 50)
    net.let_time_pass(2)
    assert {net.core(i).term for i in (1, 2, 3)} == {1}
    assert net.leaders() == [1]
    assert net.core(3).leader_id == 1


def test_a_pre_vote_promises_nothing() -> None:
    """Thesis 9.6: any number of pre-votes may be granted, and none is stored."""
    net = CoreNet()
    for asker in (2, 3):
        granted = answer(net, Message(MessageKind.PRE_VOTE, asker, 1, 7))
        assert (granted.reject, granted.term) == (False, 7)
    assert (net.core(1).term, net[1].stored.hard.term) == (0, 0)


def test_a_pre_vote_is_refused_for_an_older_log() -> None:
    net = CoreNet(logs={1: [1, 1]})
    refusal = answer(net, Message(MessageKind.PRE_VOTE, 2, 1, 7, log_term=1, index=1))
    assert (refusal.reject, refusal.term) == (True, 1)


def test_a_refused_pre_vote_teaches_a_higher_term() -> None:
    """Else a member with an old term and a new log could never win, nor the others against its log."""
    net = CoreNet(logs={1: [1, 1]})
    net.core(2).step(vote(3, 2, 6, log=(1, 1)))
    net.carry_out(2)
    net.drop()
    net.core(1).campaign()
    net.settle()
    assert net.core(1).term == 6
    net.core(1).campaign()
    net.settle()
    assert (net.core(1).role, net.core(1).term) == (Role.LEADER, 7)


def test_stale_pre_votes_make_nobody_a_candidate() -> None:
    net = CoreNet(voters=(1, 2, 3, 4, 5))
    net.core(1).campaign()
    for sender, term in ((2, 9), (3, 9), (4, 0), (5, 0)):
        net.core(1).step(Message(MessageKind.PRE_VOTE_RESPONSE, sender, 1, term))
    assert (net.core(1).role, net.core(1).term) == (Role.PRE_CANDIDATE, 0)
    net.core(1).step(Message(MessageKind.PRE_VOTE_RESPONSE, 9, 1, 1))
    net.core(1).step(Message(MessageKind.PRE_VOTE_RESPONSE, 2, 1, 1))
    assert net.core(1).role is Role.PRE_CANDIDATE, "votes of nobody do not count"
    net.core(1).step(Message(MessageKind.PRE_VOTE_RESPONSE, 3, 1, 1))
    assert (net.core(1).role, net.core(1).term) == (Role.CANDIDATE, 1)


@pytest.mark.parametrize("kind", [MessageKind.VOTE, MessageKind.PRE_VOTE])
def test_whoever_hears_of_a_leader_votes_for_nobody(kind: MessageKind) -> None:
    """Paper 6, thesis 4.2.3: a removed member that does not know it cannot disturb the others, nor raise their term."""
    net = CoreNet()
    net.elect(1)
    for i in (1, 2):
        net.core(i).step(Message(kind, 3, i, 9, log_term=9, index=9))
        net.carry_out(i)
    assert net.waiting(to=3) == []
    assert (net.core(1).term, net.core(2).term) == (1, 1)
    assert net.core(2).ignored["held back by the leader's lease"] == 1


def test_the_lease_ends_with_an_election_time_out_or_when_the_leader_is_lost() -> None:
    """Thesis 4.2.3: the minimum election time-out, not the member's own random one."""
    ask = Message(MessageKind.PRE_VOTE, 3, 2, 9, log_term=9, index=9)
    net = CoreNet()
    net.elect(1)
    net.tick(2, 7)
    net.core(2).step(ask)
    net.carry_out(2)
    assert net.waiting(to=3) == []
    net.tick(2, 1)
    assert not answer(net, ask).reject
    net = CoreNet()
    net.elect(1)
    net.core(2).leader_lost()
    assert net.core(2).leader_id == 0
    assert not answer(net, ask).reject
    net.core(2).step(Message(MessageKind.HEARTBEAT, 1, 2, 1))
    net.carry_out(2)
    net.drop()
    net.core(2).step(ask)
    net.carry_out(2)
    assert net.waiting(to=3) == [], "the leader was heard of again"


def test_a_vote_that_the_leader_asked_for_passes_leases() -> None:
    """Thesis 4.2.3: a transfer's requests carry a flag that leases do not hold back; the log still counts."""
    net = CoreNet()
    net.elect(1)
    assert answer(net, vote(3, 2, 2, forced=True)).reject
    assert not answer(net, vote(3, 2, 3, log=(1, 1), forced=True)).reject


def test_a_lost_leader_is_replaced_at_once() -> None:
    """Followers whose connection to the leader broke need not wait for a time-out."""
    net = CoreNet()
    net.elect(1)
    net.crash(1)
    net.core(2).leader_lost()
    net.core(3).leader_lost()
    net.core(2).campaign()
    net.settle()
    assert net.leaders() == [2]


def test_a_leader_that_does_not_hear_of_a_majority_steps_down() -> None:
    """Thesis 6.2: so that its clients turn elsewhere within an election time-out."""
    net = CoreNet()
    net.elect(1)
    net.isolate(1)
    net.let_time_pass(7)
    assert net.core(1).role is Role.LEADER
    net.let_time_pass(1)
    assert (net.core(1).role, net.core(1).leader_id) == (Role.FOLLOWER, 0)


def test_one_other_member_of_three_is_enough_to_lead_on() -> None:
    net = CoreNet()
    net.elect(1)
    net.crash(3)
    net.let_time_pass(30)
    assert net.leaders() == [1]
    (third,) = [p for p in net.core(1).peers() if p.member_id == 3]
    assert not third.active


def test_a_stuck_candidate_of_a_higher_term_is_heard() -> None:
    """As in etcd: with leases, a member of a higher term would be left out for ever, did it not answer the leader."""
    net = CoreNet(config=CoreConfig(pre_vote=False))
    net.elect(1)
    net.isolate(3)
    net.tick(3, 40)
    net.settle()
    assert net.core(3).term > 2
    net.heal()
    net.let_time_pass(40)
    assert len(net.leaders()) == 1
    assert len({net.core(i).term for i in (1, 2, 3)}) == 1


def test_resigning_leads_to_another_election() -> None:
    net = CoreNet()
    net.elect(1)
    net.core(1).resign()
    assert (net.core(1).role, net.core(1).leader_id) == (Role.FOLLOWER, 0)
    net.let_time_pass(40)
    assert len(net.leaders()) == 1


def test_a_refusal_tells_what_is_committed() -> None:
    """It is believed as far as the own log holds it; see the tests of members for why it is told."""
    net = CoreNet(logs={1: [1, 1, 2], 2: [1, 1]})
    refusal = answer(net, Message(MessageKind.PRE_VOTE, 2, 1, 7, log_term=1, index=2))
    assert (refusal.commit, refusal.commit_term) == (0, 0)
    core = net.core(1)
    for commit, term, known in ((2, 1, 2), (3, 1, 2), (9, 9, 2), (1, 1, 2), (3, 2, 3)):
        core.step(Message(MessageKind.PRE_VOTE_RESPONSE, 2, 1, 2, reject=True, commit=commit, commit_term=term))
        assert core.commit_index == known
    refusal = answer(net, Message(MessageKind.PRE_VOTE, 2, 1, 7, log_term=1, index=2))
    assert (refusal.commit, refusal.commit_term) == (3, 2)


@pytest.mark.parametrize("seed", range(20))
def test_elections_end_with_one_leader_whatever_the_chance(seed: int) -> None:
    rng = random.Random(seed)
    net = CoreNet(voters=range(1, 1 + rng.choice([2, 3, 4, 5, 7])), seed=seed)
    net.let_time_pass(60)
    assert len(net.leaders()) == 1
