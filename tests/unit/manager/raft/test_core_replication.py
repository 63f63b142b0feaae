"""Replication: how logs become one, what is committed, what is sent when. Sections are of the Raft paper or thesis."""

from __future__ import annotations

import pytest

from manager.raft.core import CoreConfig
from manager.raft.types import Entry, EntryKind, Message, MessageKind, PeerState, Role
from tests.support.raft_cores import CoreNet

APPEND, RESPONSE = MessageKind.APPEND, MessageKind.APPEND_RESPONSE
# The logs of figure 7: what they may look like when the first member comes to lead in term 8.
FIGURE_7 = {
    1: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
    2: [1, 1, 1, 4, 4, 5, 5, 6, 6],
    3: [1, 1, 1, 4],
    4: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    5: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    6: [1, 1, 1, 4, 4, 4, 4],
    7: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


def peer_state(net: CoreNet, leader: int, member: int) -> PeerState:
    return next(p.state for p in net.core(leader).peers() if p.member_id == member)


def append(before: tuple[int, int], *terms: int, term: int = 9, commit: int = 0) -> Message:
    """Return an APPEND from member 2 to 1 behind (term, index) `before`."""
    entries = tuple(Entry(t, n, EntryKind.NORMAL, b"%d.%d" % (t, n)) for n, t in enumerate(terms, before[1] + 1))
    return Message(APPEND, 2, 1, term, log_term=before[0], index=before[1], entries=entries, commit=commit)


def test_an_entry_is_committed_once_a_majority_stored_it_and_all_apply_it() -> None:
    """Paper 5.3."""
    net = CoreNet()
    net.elect(1)
    net.propose(1, b"a", b"b")
    assert [net[i].state for i in (1, 2, 3)] == [(b"a", b"b")] * 3


@pytest.mark.parametrize("follower", [2, 3, 4, 5, 6, 7])
def test_a_leader_makes_every_log_its_own(follower: int) -> None:
    """Paper 5.3 and figure 7: missing entries come, extra ones go."""
    net = CoreNet(voters=range(1, 8), logs=FIGURE_7, term=7)
    net.isolate(follower)
    for other in range(2, 8):
        if other != follower:
            net.members[other].stored.entries = list(net[1].stored.entries)
            net.members[other].start()
    net.elect(1)
    net.heal()
    net.let_time_pass(3)
    assert net.terms_of_log(follower) == [*FIGURE_7[1], 8]
    assert net[follower].state == net[1].state


def test_whole_terms_are_skipped_where_logs_differ() -> None:
    """Paper 5.3 (end), as in etcd with hints from both sides: one refusal a term, not one an entry."""
    logs = {1: [1, *[5] * 40], 2: [1, *[2] * 30, *[3] * 30], 3: [1, *[5] * 40]}
    net = CoreNet(logs=logs)
    net.isolate(2)
    net.elect(1)
    net.heal()
    refusals = 0
    for _ in range(20):
        net.tick(1)
        for _ in range(6):
            for i in (1, 2, 3):
                net.carry_out(i)
            refusals += sum(m.reject for m in net.waiting(RESPONSE))
            net.deliver()
    assert net.terms_of_log(2) == net.terms_of_log(1)
    assert refusals <= 3


def test_an_earlier_term_s_entry_is_never_committed_by_counting() -> None:
    """Paper 5.4.2 and figure 8: in (c) entry 2 of term 2 is on a majority, and may yet be replaced in (d)."""
    logs = {1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1, 3]}
    net = CoreNet(voters=range(1, 6), logs=logs, term=3)
    net.part(1, 2, 3)
    net.core(1).campaign()
    net.settle(until=lambda: net.core(1).role is Role.LEADER)
    net.carry_out(1)
    (probe,) = net.waiting(APPEND, to=3)
    net.drop()
    # Member 3 is sent entry 2 alone, without the leader's own first entry.
    short = Message(APPEND, 1, 3, probe.term, log_term=1, index=1, entries=(net.core(1).log.between(2, 2)[0],))
    net.hand(short)
    net.carry_out(3)
    net.core(1).step(Message(RESPONSE, 2, 1, probe.term, index=2))
    net.deliver(RESPONSE, sender=3)
    assert [net.terms_of_log(i)[:2] for i in (1, 2, 3)] == [[1, 2]] * 3
    assert net.core(1).commit_index == 0, "on a majority, and not committed"
    net.crash(1)
    net.heal()
    net.core(5).campaign()
    net.settle()
    assert net.core(5).term == 4, "it was refused, and so learned the term"
    net.elect(5)
    assert [net.terms_of_log(i)[:2] for i in (2, 3, 4, 5)] == [[1, 3]] * 4


def test_an_entry_of_the_leader_s_own_commits_all_before_it() -> None:
    """Figure 8 (e): once an entry of term 4 is on a majority, those before it are safe."""
    net = CoreNet(logs={1: [1, 2], 2: [1], 3: [1]}, term=3)
    net.elect(1)
    assert (net.core(1).commit_index, net.terms_of_log(2)) == (3, [1, 2, 4])


def test_messages_that_come_again_or_late_change_nothing() -> None:
    """Paper 5.3: a repeated APPEND is answered again; one that ends earlier does not cut the log."""
    net = CoreNet()
    core = net.core(1)
    core.step(append((0, 0), 1, 1, 2))
    core.step(append((0, 0), 1))
    core.step(append((0, 0), 1, 1, 2))
    net.carry_out(1)
    assert net.terms_of_log(1) == [1, 1, 2]
    assert [(m.index, m.reject) for m in net.waiting(RESPONSE)] == [(3, False), (1, False), (3, False)]


def test_a_conflict_replaces_the_tail_and_nothing_before_it() -> None:
    """Figure 2, AppendEntries 3 and 4."""
    net = CoreNet(logs={1: [1, 1, 2, 2, 2]})
    net.core(1).step(append((1, 2), 3, commit=2))
    net.carry_out(1)
    assert net.terms_of_log(1) == [1, 1, 3]
    assert [e.term for e in net[1].stored.entries] == [1, 1, 3]


def test_the_commit_index_goes_no_further_than_what_is_known_to_agree() -> None:
    """Figure 2, AppendEntries 5: min(leaderCommit, index of last new entry); what is behind may be another leader's."""
    net = CoreNet(logs={1: [1, 1, 2, 2]})
    net.core(1).step(append((1, 1), 1, commit=4))
    assert net.core(1).commit_index == 2


def test_what_is_committed_is_never_replaced() -> None:
    """An APPEND behind the commit index is answered with that index: so much agrees with every leader."""
    net = CoreNet(logs={1: [1, 1, 1]})
    net.core(1).step(append((1, 2), 1, commit=3))
    net.core(1).step(append((1, 1), 5, 5))
    net.carry_out(1)
    assert net.terms_of_log(1) == [1, 1, 1]
    assert [m.index for m in net.waiting(RESPONSE)] == [3, 3]


@pytest.mark.parametrize(
    "message",
    [
        append((0, 0), 1, 2, 1),
        append((2, 1), 1),
        append((1, 1), 12),
        append((0, -5), 1),
        Message(APPEND, 2, 1, 9, log_term=1, index=1, entries=(Entry(1, 3, EntryKind.NORMAL, b""),)),
        Message(MessageKind.SNAPSHOT, 2, 1, 9),
        Message(RESPONSE, 2, 1, 1, index=99),
        Message(RESPONSE, 2, 1, 1, index=99, reject=True, reject_index=-7, log_term=1),
        Message(MessageKind.HEARTBEAT, 2, 1, 9, commit=99),
        Message(MessageKind.HEARTBEAT_RESPONSE, 2, 1, 1, context=b"nonsense of ours"),
        Message(MessageKind.READ_INDEX_RESPONSE, 9, 1, 1, index=99),
        Message(MessageKind.TIMEOUT_NOW, 9, 1, 1),
        Message(MessageKind.VOTE, 2, 1, 2**63),
        Message(MessageKind.VOTE, 2, 1, 0),
        Message(MessageKind.VOTE, 2, 3, 5),
        Message(MessageKind.VOTE, 1, 1, 5),
        Message(MessageKind.VOTE, 0, 1, 5),
        Message(MessageKind.APPEND, 3, 1, 1, log_term=1, index=1),
    ],
)
@pytest.mark.parametrize("leads", [False, True])
def test_nonsense_changes_no_log(message: Message, leads: bool) -> None:
    net = CoreNet(logs={1: [1], 2: [1], 3: [1]}, config=CoreConfig(check_quorum=False))
    net.elect(1 if leads else 2)
    before, commit = net.terms_of_log(1), net.core(1).commit_index
    net.core(1).step(message)
    net.carry_out(1)
    assert net.terms_of_log(1)[: len(before)] == before
    assert net.core(1).commit_index == commit
    net.let_time_pass(60)
    assert len(net.leaders()) == 1


def test_a_leader_sends_before_its_own_disk_has_it_and_counts_itself_after() -> None:
    """Thesis 10.2.1: the leader writes while its followers do; their majority alone may commit."""
    net = CoreNet()
    net.elect(1)
    index = net.core(1).propose(b"a")
    ready = net.core(1).ready()
    assert ready is not None
    assert [(m.kind, m.to) for m in ready.ahead] == [(APPEND, 2), (APPEND, 3)]
    assert ready.messages == ()
    for i in (2, 3):
        net.core(1).step(Message(RESPONSE, i, 1, 1, index=index - (i == 2)))
    assert net.core(1).commit_index == index - 1, "one follower is no majority while the own disk is busy"
    net.core(1).step(Message(RESPONSE, 2, 1, 1, index=index))
    assert net.core(1).commit_index == index
    net.core(1).advance()


def test_a_follower_acknowledges_what_is_stored() -> None:
    """Paper 5.3: the answer to an APPEND comes behind the entries in the same `Ready`, never ahead of them."""
    net = CoreNet()
    net.core(1).step(append((0, 0), 1, 1))
    ready = net.core(1).ready()
    assert ready is not None
    assert len(ready.entries) == 2
    assert ready.ahead == ()
    assert [m.kind for m in ready.messages] == [RESPONSE]


def test_only_what_was_not_replaced_meanwhile_counts_as_stored() -> None:
    """Entries that another leader replaces while they are being written are written again, and no others."""
    net = CoreNet()
    core = net.core(1)
    core.step(append((0, 0), 1, 1, 1, term=1))
    assert net.begin(1)
    core.step(Message(APPEND, 3, 1, 2, log_term=1, index=2, entries=(Entry(2, 3, EntryKind.NORMAL, b"new"),), commit=2))
    net.finish(1)
    assert core.log.stable_index == 2
    ready = core.ready()
    assert ready is not None
    assert [(e.term, e.index) for e in ready.entries] == [(2, 3)]


def test_proposals_share_a_message_and_large_ones_are_cut() -> None:
    net = CoreNet(config=CoreConfig(max_message_bytes=250, max_inflight=2))
    net.elect(1)
    for _ in range(10):
        net.core(1).propose(bytes(76))
    net.carry_out(1)
    assert [[e.index for e in m.entries] for m in net.waiting(APPEND, to=2)] == [[2, 3], [4, 5]], "two on the way"
    net.settle()
    assert net.core(2).log.last_index == 11


def test_a_follower_is_probed_one_message_at_a_time_until_logs_agree() -> None:
    net = CoreNet()
    net.elect(1)
    net.core(1).report_unreachable(2)
    assert peer_state(net, 1, 2) is PeerState.PROBE
    for data in (b"a", b"b"):
        net.core(1).propose(data)
        net.carry_out(1)
    assert len(net.waiting(APPEND, to=2)) == 1
    assert len(net.waiting(APPEND, to=3)) == 2
    net.settle()
    assert peer_state(net, 1, 2) is PeerState.REPLICATE
    assert net[2].state == (b"a", b"b")


@pytest.mark.parametrize("lost", [APPEND, RESPONSE])
def test_lost_messages_are_made_up_for_after_a_heartbeat(lost: MessageKind) -> None:
    net = CoreNet(config=CoreConfig(max_inflight=3))
    net.elect(1)
    for number in range(8):
        net.core(1).propose(b"%d" % number)
        net.carry_out(1)
        if lost is RESPONSE:
            net.deliver(APPEND)
            net.carry_out(2)
            net.carry_out(3)
        net.drop(lost)
    net.let_time_pass(4)
    assert len({net[i].state for i in (1, 2, 3)}) == 1
    assert len(net[1].state) == 8


def test_a_late_answer_does_not_lower_what_is_known() -> None:
    """Paper 5.3: matchIndex increases monotonically; else a leader could count a member twice for less."""
    net = CoreNet()
    net.elect(1)
    net.propose(1, b"a", b"b")
    for index in (1, 0, 2):
        net.core(1).step(Message(RESPONSE, 2, 1, 1, index=index))
    (second,) = [p for p in net.core(1).peers() if p.member_id == 2]
    assert (second.match, second.next) == (3, 4)


def test_an_idle_leader_tells_what_is_committed_once() -> None:
    net = CoreNet()
    net.elect(1)
    net.propose(1, b"a")
    for _ in range(3):
        net.tick(1)
        net.carry_out(1)
        assert {m.kind for m in net.wire} == {MessageKind.HEARTBEAT}
        net.settle()


def test_a_heartbeat_commits_only_what_the_follower_is_known_to_have() -> None:
    """As in etcd: min(match, commit), for a heartbeat does not say which log it speaks of."""
    net = CoreNet(logs={3: [1, 1, 1, 1]})
    net.isolate(3)
    net.core(2).step(Message(APPEND, 1, 2, 2))
    net.carry_out(2)
    net.drop()
    net.core(1).step(Message(APPEND, 2, 1, 2))
    net.carry_out(1)
    net.drop()
    net.elect(1)
    net.propose(1, b"a", b"b")
    net.heal()
    net.tick(1)
    net.carry_out(1)
    assert [m.commit for m in net.waiting(MessageKind.HEARTBEAT)] == [3, 0]


def test_a_member_behind_the_log_gets_the_snapshot_and_then_entries() -> None:
    """Paper 7."""
    net = CoreNet()
    net.elect(1)
    net.isolate(3)
    net.propose(1, *[b"%d" % n for n in range(10)])
    mark = net.snapshot(1)
    net.propose(1, b"behind")
    net.heal()
    net.let_time_pass(1)
    assert net[3].stored.mark == mark
    assert net[3].state == net[1].state
    assert peer_state(net, 1, 3) is PeerState.REPLICATE


def test_nothing_is_sent_while_a_snapshot_is_on_its_way() -> None:
    net = CoreNet()
    net.elect(1)
    net.isolate(3)
    net.propose(1, b"a")
    net.snapshot(1)
    net.heal()
    net.tick(1)
    net.settle(until=lambda: bool(net.waiting(MessageKind.SNAPSHOT)))
    assert peer_state(net, 1, 3) is PeerState.SNAPSHOT
    (snapshot,) = net.waiting(MessageKind.SNAPSHOT)
    net.wire.remove(snapshot)
    net.propose(1, b"b")
    net.let_time_pass(3)
    assert net[3].applied <= 1
    net.core(1).report_snapshot(3, ok=False)
    assert peer_state(net, 1, 3) is PeerState.PROBE
    net.let_time_pass(3)
    assert net[3].state == (b"a", b"b"), "another one was sent"


def test_no_snapshot_is_sent_to_a_member_that_is_gone() -> None:
    net = CoreNet()
    net.elect(1)
    net.crash(3)
    net.propose(1, b"a")
    net.snapshot(1)
    net.let_time_pass(20)
    net.core(1).report_unreachable(3)
    net.let_time_pass(3)
    assert peer_state(net, 1, 3) is PeerState.PROBE
    net.restart(3)
    net.let_time_pass(3)
    assert net[3].state == (b"a",)


def test_a_snapshot_of_what_the_log_holds_only_commits() -> None:
    """Paper 7: if the log has the snapshot's last entry, what follows it is kept."""
    net = CoreNet()
    net.elect(1)
    net.propose(1, b"a", b"b")
    mark = net.snapshot(1)
    net[2].stored.hard = type(net[2].stored.hard)(1, 0, 1)
    net.crash(2)
    net.restart(2)
    net.core(2).step(Message(MessageKind.SNAPSHOT, 1, 2, 1, snapshot=mark))
    assert (net.core(2).commit_index, net.core(2).log.last_index) == (3, 3)
    assert net.core(2).pending_snapshot is None
    net.carry_out(2)
    assert [m.index for m in net.waiting(RESPONSE)] == [3]


def test_an_old_snapshot_is_answered_with_the_commit_index() -> None:
    net = CoreNet()
    net.elect(1)
    net.propose(1, b"a")
    mark = net.snapshot(1)
    net.propose(1, b"b")
    net.let_time_pass(1)
    net.core(2).step(Message(MessageKind.SNAPSHOT, 1, 2, 1, snapshot=mark))
    net.carry_out(2)
    assert (net.core(2).pending_snapshot, [m.index for m in net.waiting(RESPONSE)]) == (None, [3])
