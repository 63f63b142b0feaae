"""What is to be done and in what order, and what is told of who leads."""

from __future__ import annotations

from manager.raft.core import CoreConfig
from manager.raft.entries import EntryLog
from manager.raft.progress import Inflights, Progress
from manager.raft.types import (
    Entry,
    EntryKind,
    HardState,
    Leadership,
    Message,
    MessageKind,
    PeerState,
    Role,
    SnapshotMark,
)
from tests.support.raft_cores import CoreNet


def normal(term: int, *indexes: int) -> list[Entry]:
    return [Entry(term, index, EntryKind.NORMAL, b"%d" % index) for index in indexes]


def news(net: CoreNet, member_id: int) -> list[Leadership]:
    """Carry out all that is ready and return what was told of the leader."""
    told = []
    while net.begin(member_id):
        ready = net[member_id].ready
        assert ready is not None
        told += [ready.leadership] if ready.leadership else []
        net.finish(member_id)
    return told


def test_entries_that_are_stored_together_with_their_commit_index_are_applied_at_once() -> None:
    net = CoreNet()
    message = Message(MessageKind.APPEND, 1, 2, 3, entries=tuple(normal(3, 1, 2)), commit=2)
    net.core(2).step(message)
    ready = net.core(2).ready()
    assert ready is not None
    assert ready.hard_state == HardState(3, 0, 2)
    assert ready.entries == ready.committed == message.entries


def test_committed_entries_can_be_kept_back() -> None:
    net = CoreNet()
    net.core(2).step(Message(MessageKind.APPEND, 1, 2, 3, entries=tuple(normal(3, 1, 2)), commit=2))
    assert net.begin(2, hand_out=False)
    net.finish(2)
    assert net[2].applied == 0
    assert net[2].stored.hard.commit == 2
    assert not net.core(2).has_ready(hand_out=False)
    assert net.core(2).has_ready()
    net.carry_out(2)
    assert net[2].applied == 2


def test_a_change_of_the_commit_index_alone_is_not_worth_a_sync() -> None:
    net = CoreNet()
    net.elect(1)
    net.settle()
    net.core(1).propose(b"a")
    net.settle(until=lambda: net.core(2).log.last_index == 2)
    net.core(2).step(Message(MessageKind.HEARTBEAT, 1, 2, 1, commit=2))
    ready = net.core(2).ready()
    assert ready is not None
    assert ready.hard_state == HardState(1, 1, 2)
    assert not ready.must_sync


def test_a_follower_tells_who_leads_and_when_nobody_does() -> None:
    net = CoreNet()
    net.core(2).step(Message(MessageKind.HEARTBEAT, 1, 2, 3))
    assert news(net, 2) == [Leadership(False, 3, 1)]
    net.core(2).step(Message(MessageKind.HEARTBEAT, 1, 2, 3))
    assert news(net, 2) == []
    net.core(2).leader_lost()
    assert news(net, 2) == [Leadership(False, 3, 0)]
    net.core(2).step(Message(MessageKind.HEARTBEAT, 3, 2, 4))
    assert news(net, 2) == [Leadership(False, 4, 3)]


def test_a_leader_is_told_of_itself_behind_its_noop_and_of_its_end_at_once() -> None:
    net = CoreNet(voters=(1,))
    net.core(1).campaign()
    assert news(net, 1) == [Leadership(True, 1, 1)]
    net.core(1).resign()
    net.core(1).campaign()
    assert news(net, 1) == [Leadership(False, 2, 0), Leadership(True, 2, 1)]
    net.core(1).resign()
    assert news(net, 1) == [Leadership(False, 2, 0)]


def test_a_lead_that_is_lost_before_its_noop_is_applied_is_never_told() -> None:
    net = CoreNet()
    net.core(1).campaign()
    net.settle(until=lambda: net.core(1).role is Role.LEADER)
    net.core(1).step(Message(MessageKind.HEARTBEAT, 2, 1, 5))
    assert [n.is_leader for n in news(net, 1)] == [False]


def test_a_restarted_member_knows_term_vote_and_what_was_stored() -> None:
    net = CoreNet()
    net.elect(1)
    net.propose(1, b"a")
    net.core(1).propose(b"not stored")
    net.begin(1)
    net.crash(1)
    net.restart(1)
    core = net.core(1)
    assert (core.term, core.log.last_index, core.role) == (1, 2, Role.FOLLOWER)
    net.let_time_pass(40)
    assert {net[i].state for i in (1, 2, 3)} == {(b"a", b"not stored")}, (
        "it was sent ahead, and survived with the others"
    )


def test_a_frame_in_flight_survives_what_comes_meanwhile() -> None:
    """Ticks, messages and proposals are taken between `ready` and `advance`, and lose nothing."""
    net = CoreNet(config=CoreConfig(pre_vote=False))
    net.elect(1)
    net.core(1).propose(b"a")
    net.begin(1)
    net.core(1).propose(b"b")
    net.core(1).tick()
    net.deliver(MessageKind.APPEND)
    for i in (2, 3):
        net.carry_out(i)
    net.deliver()
    assert net.core(1).commit_index == 2
    net.finish(1)
    net.settle()
    assert net[1].state == (b"a", b"b")


def test_a_log_counts_as_stored_what_was_not_replaced() -> None:
    log = EntryLog(0, 0, [])
    log.replace_tail(normal(1, 1, 2, 3, 4))
    assert log.begin_storing() == tuple(normal(1, 1, 2, 3, 4))
    log.replace_tail(normal(2, 3))
    log.append(normal(2, 4)[0])
    log.end_storing()
    assert log.stable_index == 2
    assert log.begin_storing() == tuple(normal(2, 3, 4))
    log.restart(SnapshotMark(9, 2))
    log.end_storing()
    assert (log.stable_index, log.first_index, log.last_index, log.last_term) == (9, 10, 9, 2)


def test_a_log_tells_where_another_may_agree() -> None:
    log = EntryLog(2, 1, [*normal(2, 3, 4), *normal(5, 5, 6)])
    assert log.last_within(5, 9) == (6, 5)
    assert log.last_within(4, 6) == (4, 2)
    assert log.last_within(1, 6) == (2, 1)
    assert log.last_within(0, 6) == (1, 0), "it is compacted: nothing is known of its term"
    assert log.differing([*normal(2, 4), *normal(7, 5)]) == normal(7, 5)
    assert log.differing(normal(2, 3, 4)) == ()


def test_progress_forgets_stale_refusals() -> None:
    progress = Progress(10, Inflights(2, 1000))
    assert not progress.retreat(4, 3), "it probed at 9"
    assert progress.retreat(9, 5)
    assert progress.next == 6
    assert progress.advance(6)
    progress.replicate()
    progress.sent(3, 30, 0)
    assert not progress.retreat(6, 2), "that is stored, so the refusal is older"
    assert not progress.retreat(20, 2), "that was not sent since"
    assert progress.retreat(9, 2)
    assert (progress.state, progress.next) == (PeerState.PROBE, 7)


def test_progress_holds_back_what_is_beyond_its_bounds() -> None:
    inflights = Inflights(3, 100)
    steps = [(1, 10, False), (2, 95, True)]
    for last, size_bytes, full in steps:
        inflights.add(last, size_bytes)
        assert inflights.is_full is full
    inflights.free(1)
    found = [inflights.is_full]
    for last in (3, 4):
        inflights.add(last, 0)
        found.append(inflights.is_full)
    assert found == [False, False, True]
    assert len(inflights) == 3


def test_progress_behind_a_snapshot_begins_behind_it_or_again() -> None:
    progress = Progress(5, Inflights(2, 100))
    progress.await_snapshot(40)
    assert not progress.may_send_entries
    assert not progress.retreat(40, 3)
    progress.probe()
    assert progress.next == 41
    progress.await_snapshot(40)
    progress.pending_snapshot = 0
    progress.probe()
    assert progress.next == 1
