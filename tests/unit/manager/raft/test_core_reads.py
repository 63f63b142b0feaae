"""Reads at an index (Raft thesis, 6.4) and handing the lead over (3.10)."""

from __future__ import annotations

import pytest

from manager.raft.core import CoreConfig
from manager.raft.quorum import Joint, Majority
from manager.raft.read_rounds import Question, ReadRounds
from manager.raft.types import ConfChange, ConfChangeKind, MemberChange, Message, MessageKind, Role
from swarmpy.errors import Code, SwarmError
from tests.support.raft_cores import CoreNet

HEARTBEAT, ANSWER = MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_RESPONSE


def test_a_read_waits_for_a_round_of_heartbeats() -> None:
    """6.4, steps 2 to 4: the commit index of when it was asked, once a majority says that the leader still leads."""
    net = CoreNet()
    net.elect(1)
    net.ask(1, b"r")
    net.carry_out(1)
    assert net[1].answers == {}
    (heartbeat,) = net.waiting(HEARTBEAT, to=2)
    assert heartbeat.context
    net.core(1).propose(b"later")
    net.settle()
    assert net[1].answers == {b"r": 1}


def test_a_leader_that_was_replaced_answers_no_read() -> None:
    """6.4: another leader may have committed what this one does not know."""
    net = CoreNet()
    net.elect(1)
    net.isolate(1)
    for i in (2, 3):
        net.core(i).leader_lost()
    net.core(2).campaign()
    net.settle()
    net.propose(2, b"news")
    assert net.leaders() == [1, 2]
    net.ask(1, b"r")
    net.let_time_pass(3)
    net.heal()
    net.let_time_pass(3)
    assert net[1].answers == {}
    assert net.core(1).role is Role.FOLLOWER


def test_a_new_leader_answers_once_an_entry_of_its_term_is_committed() -> None:
    """6.4, step 1: before, it may not know all that is committed."""
    net = CoreNet(logs={1: [1, 1], 2: [1, 1], 3: [1, 1]})
    net.core(1).campaign()
    net.settle(until=lambda: net.core(1).role is Role.LEADER)
    net.ask(1, b"r")
    net.carry_out(1)
    for i in (2, 3):
        net.core(1).step(Message(ANSWER, i, 1, net.core(1).term, context=(1).to_bytes(8, "big")))
    net.carry_out(1)
    assert net[1].answers == {}
    net.settle()
    assert net[1].answers == {b"r": 3}


def test_a_follower_asks_the_leader() -> None:
    """6.4 (end): it reads from its own state once it has applied that far."""
    net = CoreNet()
    net.elect(1)
    net.propose(1, b"a")
    net.ask(2, b"r")
    net.settle()
    assert net[2].answers == {b"r": 2}


def test_two_followers_with_the_same_context_both_get_an_answer() -> None:
    net = CoreNet()
    net.elect(1)
    net.ask(2, b"same")
    net.ask(3, b"same")
    net.settle()
    assert net[2].answers == net[3].answers == {b"same": 1}


def test_nothing_can_be_read_without_a_leader() -> None:
    net = CoreNet()
    with pytest.raises(SwarmError) as caught:
        net.core(1).read_index(b"r")
    assert (caught.value.code, caught.value.retryable) == (Code.UNAVAILABLE, True)


def test_an_only_voter_proves_itself() -> None:
    net = CoreNet(voters=(1,), learners=(2,))
    net.elect(1)
    net.ask(1, b"r")
    net.carry_out(1)
    assert net[1].answers == {b"r": 1}


def test_learners_prove_nothing() -> None:
    net = CoreNet(voters=(1, 2), learners=(3,))
    net.elect(1)
    net.isolate(2)
    net.ask(1, b"r")
    net.let_time_pass(2)
    assert net[1].answers == {}


def test_a_lost_round_is_made_up_for_by_the_next_heartbeat() -> None:
    net = CoreNet()
    net.elect(1)
    net.ask(1, b"r")
    net.carry_out(1)
    net.drop()
    net.let_time_pass(1)
    assert net[1].answers == {b"r": 1}


def test_reads_that_wait_share_a_round() -> None:
    net = CoreNet()
    net.elect(1)
    for n in range(10):
        net.ask(1, b"%d" % n)
    net.carry_out(1)
    assert len(net.waiting(HEARTBEAT)) == 2
    net.settle()
    assert len(net[1].answers) == 10


def test_reads_that_wait_are_bounded() -> None:
    net = CoreNet(config=CoreConfig(max_reads=3))
    net.elect(1)
    for n in range(5):
        net.ask(2, b"%d" % n)
    net.carry_out(2)
    net.deliver(MessageKind.READ_INDEX)
    assert net.core(1).ignored["too many reads"] == 2
    with pytest.raises(SwarmError) as caught:
        net.core(1).read_index(b"r")
    assert caught.value.code is Code.UNAVAILABLE
    net.settle()
    net.ask(1, b"r")
    net.settle()
    assert net[1].answers == {b"r": 1}


def test_a_later_round_proves_the_earlier_ones_in_both_halves() -> None:
    rounds, voters = ReadRounds(1, 10), Joint(Majority((1, 2, 3)), Majority((3, 4, 5)))
    rounds.ask(1, b"a")
    rounds.begin(5)
    rounds.ask(2, b"b")
    rounds.begin(6)
    rounds.answer(3, rounds.context)
    rounds.answer(3, (1).to_bytes(8, "big"))
    rounds.answer(4, (99).to_bytes(8, "big"))
    rounds.answer(5, b"?")
    assert list(rounds.proven(voters)) == [], "a majority of one half only"
    rounds.answer(4, (1).to_bytes(8, "big"))
    assert list(rounds.proven(voters)) == [(5, Question(1, b"a"))]
    rounds.answer(5, rounds.context)
    assert list(rounds.proven(voters)) == [(6, Question(2, b"b"))]
    assert rounds.context == b""


def test_the_lead_is_handed_to_a_member_that_has_everything() -> None:
    """3.10: the target stands at once, and leads in the next term without anybody's time-out."""
    net = CoreNet()
    net.elect(1)
    net.core(1).transfer(2)
    net.settle()
    assert net.leaders() == [2]
    assert net.core(2).term == 2


def test_a_member_that_lags_is_brought_up_first_and_proposals_wait() -> None:
    """3.10, step 1 and 2: the leader stops taking requests, brings the target's log to its own, then lets it stand."""
    net = CoreNet()
    net.elect(1)
    net.isolate(2)
    net.propose(1, b"a")
    net.heal()
    net.core(1).transfer(2)
    with pytest.raises(SwarmError) as caught:
        net.core(1).propose(b"b")
    assert (caught.value.code, caught.value.retryable) == (Code.UNAVAILABLE, True)
    with pytest.raises(SwarmError) as caught:
        net.core(1).propose_conf_change(ConfChange())
    assert caught.value.code is Code.UNAVAILABLE
    assert net.core(1).transferee == 2
    net.settle()
    net.let_time_pass(2)
    assert net.leaders() == [2]
    assert net[2].state == (b"a",)


def test_a_transfer_that_takes_too_long_is_given_up() -> None:
    """3.10 (end): after an election time-out the leader takes requests again."""
    net = CoreNet()
    net.elect(1)
    net.crash(2)
    net.core(1).transfer(2)
    net.let_time_pass(7)
    assert net.core(1).transferee == 2
    net.let_time_pass(1)
    assert net.core(1).transferee == 0
    net.propose(1, b"again")


def test_another_target_takes_the_place_of_the_first() -> None:
    net = CoreNet()
    net.elect(1)
    net.crash(2)
    net.core(1).transfer(2)
    net.core(1).transfer(3)
    net.settle()
    assert net.leaders() == [3]


@pytest.mark.parametrize("to", [1, 4, 9])
def test_the_lead_goes_to_another_voter_only(to: int) -> None:
    net = CoreNet(learners=(4,))
    net.elect(1)
    with pytest.raises(SwarmError) as caught:
        net.core(1).transfer(to)
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_a_transfer_ends_with_its_target_s_membership() -> None:
    net = CoreNet()
    net.elect(1)
    net.crash(2)
    net.core(1).propose_conf_change(ConfChange((MemberChange(ConfChangeKind.REMOVE, 2),)))
    net.core(1).transfer(2)
    net.settle()
    assert net.core(1).transferee == 0


def test_only_the_leader_hands_the_lead_over() -> None:
    net = CoreNet()
    net.elect(1)
    with pytest.raises(SwarmError, match="member 2 does not lead, member 1 leads: try again there") as caught:
        net.core(2).transfer(3)
    assert caught.value.code is Code.NOT_LEADER
    net.core(2).step(Message(MessageKind.TIMEOUT_NOW, 3, 2, 1))
    assert net.core(2).role is Role.FOLLOWER, "member 3 does not lead"
