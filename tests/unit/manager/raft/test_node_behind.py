"""Several members without threads: snapshots for those behind, slow state machines, and disks that are full."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.raft.log.frame import SECTOR
from manager.raft.node import NodeConfig
from manager.raft.types import Commit, ConfChange, ConfChangeKind, ConfState, MemberChange
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


def far_behind(net: Net) -> tuple[NetMember, NetMember]:
    """Return a leader that has compacted its log, and a member that missed it."""
    leader = net.leader()
    member = followers(net, leader)[0]
    net.isolate(member.member_id)
    for number in range(30):
        leader.propose(b"%d" % number)
    leader.snapshot()
    return leader, member


def test_a_member_far_behind_gets_a_snapshot(net: Net) -> None:
    leader, member = far_behind(net)
    leader.propose(b"behind it")
    net.cut.clear()
    net.tick(5)
    assert member.restored == [leader.node.status().snapshot.index]
    assert member.applied == leader.applied
    member.stop()
    member.start()
    net.tick(5)
    assert member.applied == leader.applied
    assert member.node.status().snapshot.index == leader.node.status().snapshot.index


def test_a_snapshot_that_was_lost_is_sent_again(net: Net) -> None:
    leader, member = far_behind(net)
    net.hold_snapshots = True
    net.cut.clear()
    net.tick(3)
    assert len(net.snapshots) == 1
    net.isolate(member.member_id)
    net.carry_snapshots()
    net.cut.clear()
    net.hold_snapshots = False
    net.tick(10)
    assert member.applied == leader.applied


def test_a_snapshot_that_nobody_needs_any_more_is_removed(net: Net) -> None:
    leader, member = far_behind(net)
    net.hold_snapshots = True
    net.cut.clear()
    net.tick(3)
    ((message, chunks),) = net.snapshots
    net.carry_snapshots()
    net.tick(3)
    assert member.applied == leader.applied
    files = [path.name for path in member.disk.files(member.disk_snapshots)]
    net.snapshots = [(message, chunks)]
    net.carry_snapshots()
    net.settle()
    assert [path.name for path in member.disk.files(member.disk_snapshots)] == files
    assert len(member.restored) == 1


def test_proposals_whose_places_a_snapshot_took_fail(net: Net) -> None:
    old = net.leader()
    net.isolate(old.member_id)
    old.propose(b"lost")
    while not any(member.node.leads for member in followers(net, old)):
        net.tick()
    new = next(member for member in followers(net, old) if member.node.leads)
    for number in range(30):
        new.propose(b"%d" % number)
    new.snapshot()
    net.cut.clear()
    net.tick(10)
    assert old.applied == new.applied
    assert [code(outcome) for outcome in old.outcomes.values()] == [Code.UNAVAILABLE]


def test_a_slow_state_machine_slows_its_member_down() -> None:
    net = Net(3, NodeConfig(segment_bytes=64 * 1024, keep_entries=1000, backlog_bytes=2000))
    leader = net.leader()
    slow = followers(net, leader)[0]
    slow.slow = True
    for number in range(40):
        leader.propose(b"%d" % number * 100)
    assert slow.node.is_behind
    assert slow.node.status().last_index < leader.node.status().last_index, "entries are turned away"
    assert sum(len(d.entries) for d in slow._queue) < 30
    slow.slow = False
    slow.take_all()
    net.tick(20)
    slow.take_all()
    net.tick(20)
    assert slow.applied == leader.applied
    net.close()


def test_a_leader_that_cannot_keep_up_refuses_for_a_moment() -> None:
    net = Net(1, NodeConfig(segment_bytes=64 * 1024, backlog_bytes=1000))
    leader = net.leader()
    leader.slow = True
    assert leader.propose(bytes(1200)) == [None]
    (refusal,) = leader.propose(b"x")
    leader.take_all()
    refusals = [value for value in leader.outcomes.values() if isinstance(value, SwarmError)]
    assert refusal is None and [code(r) for r in refusals] == [Code.RESOURCE_EXHAUSTED]
    net.settle()
    assert isinstance(leader.propose(b"y")[0], (Commit, type(None)))
    leader.slow = False
    leader.take_all()
    net.settle()
    assert leader.applied[-1] == b"y"
    net.close()


def test_a_leader_with_a_full_disk_hands_the_lead_to_others(net: Net) -> None:
    leader = net.leader()
    while not isinstance(leader.propose(bytes(1000))[0], SwarmError):
        leader.disk.capacity_bytes = leader.disk.used_bytes
    # The reserve is left for votes; once that is used up, too, it cannot lead.
    leader.node._storage.make_room = _no_room  # type: ignore[method-assign]  # the log's reserve, used up
    net.tick(SMALL.core.election_ticks * 4)
    new = net.leader()
    assert new is not leader
    assert isinstance(new.propose(b"goes on")[0], Commit)


def _no_room(entries: int, data_bytes: int, *, control: bool = False) -> None:
    raise SwarmError(Code.RESOURCE_EXHAUSTED, "disk full", retryable=True)


def test_a_follower_with_a_full_disk_drops_entries_and_catches_up(net: Net) -> None:
    leader = net.leader()
    member = followers(net, leader)[0]
    member.disk.capacity_bytes = member.disk.used_bytes
    for _ in range(60):
        assert isinstance(leader.propose(bytes(1000))[0], Commit)
    assert member.node.status().log_full is not None
    assert len(member.applied) < 60
    member.disk.capacity_bytes = None
    net.tick(10)
    assert len(member.applied) == 60
    assert member.node.status().log_full is None


def test_a_mark_has_the_members_of_its_place(net: Net) -> None:
    leader = net.leader()
    leader.propose(b"a")
    before = leader.index
    net.join(4)
    leader.node.change_members(change(ConfChangeKind.ADD_LEARNER, 4), "learner")
    net.tick(3)
    assert leader.node.mark_at(before).conf == ConfState(voters=(1, 2, 3))
    assert leader.node.mark_at(leader.index).conf.learners == (4,)


def test_no_mark_is_made_where_a_leaders_snapshot_is_about_to_stand(net: Net) -> None:
    """Between the halves of a round, too, when the log has gone already and the old mark still counts."""
    leader, member = far_behind(net)
    net.hold_snapshots = True
    net.cut.clear()
    net.tick(5)
    ((message, chunks),) = net.snapshots
    assert message.snapshot is not None
    writer = member.node.snapshot_receiver(message.snapshot)
    for chunk in chunks:
        writer.write(chunk)
    writer.finish()
    member.node.snapshot_received(message)
    with pytest.raises(SwarmError, match=f"the last one is at {message.snapshot.index}") as caught:
        member.node.mark_at(member.index)
    assert code(caught.value) is Code.FAILED_PRECONDITION
    member.node.run()
    assert member.applied == leader.applied


def _no_new_segment(what: str, path: Path) -> int | None:
    return errno.ENOSPC if what == "allocate" and path.suffix == ".tmp" else None


def test_a_snapshot_needs_no_more_room_than_its_mark(net: Net) -> None:
    """Room for the mark's two frames was made; a third one, of what they hold already, might not fit."""
    leader, member = far_behind(net)
    net.hold_snapshots = True
    net.cut.clear()
    net.tick(5)
    member.disk.fault = _no_new_segment
    log = member.node._storage._log
    log._drop_spare()
    while log._segments[-1].size_bytes - log._end.offset > 2 * SECTOR:
        log.append((), log.hard_state)
    net.carry_snapshots()
    assert member.restored == [leader.node.status().snapshot.index]
