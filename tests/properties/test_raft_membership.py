"""The laws of quorums and of membership changes: what any two decisions have in common, whoever comes and goes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.raft import confchange
from manager.raft.confchange import Changer, Configuration
from manager.raft.quorum import MAX_INDEX, Joint, Majority, VoteResult
from manager.raft.types import ConfChange, ConfChangeKind, MemberChange, PeerStatus, Transition
from swarmpy.errors import Code, SwarmError

IDS = range(1, 7)
groups = st.frozensets(st.sampled_from(IDS)).map(Majority)
voters = st.frozensets(st.sampled_from(IDS), min_size=1).map(Majority)
joints = st.builds(Joint, voters, groups)
indexes = st.dictionaries(st.sampled_from(IDS), st.integers(0, 9))
ballots = st.dictionaries(st.sampled_from(IDS), st.booleans())
member_changes = st.builds(MemberChange, st.sampled_from(ConfChangeKind), st.integers(0, 6))
conf_changes = st.builds(ConfChange, st.lists(member_changes, max_size=4).map(tuple), st.sampled_from(Transition))


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Any configuration that is not joint: each of six members is a voter, a learner or nobody, one is a voter."""
    parts = draw(st.tuples(*(st.sampled_from("vvl-") for _ in IDS)).filter(lambda parts: "v" in parts))
    listed = {part: frozenset(i for i, p in zip(IDS, parts, strict=True) if p == part) for part in "vl"}
    return Configuration(Joint(Majority(listed["v"])), listed["l"])


def more_than_half(group: Majority, ids: Sequence[int]) -> bool:
    return 2 * len(set(group) & set(ids)) > len(group)


def quorums(config: Configuration) -> Iterator[frozenset[int]]:
    """Yield every set of voters that may decide in `config`."""
    ids = sorted(config.voters.ids)
    for size in range(1, len(ids) + 1):
        for chosen in itertools.combinations(ids, size):
            if config.voters.vote_result(dict.fromkeys(chosen, True)) is VoteResult.WON:
                yield frozenset(chosen)


def decides_alone(one: Configuration, other: Configuration) -> bool:
    """Return whether one configuration could decide without anybody who decides in the other."""
    return any(not (a & b) for a in quorums(one) for b in quorums(other))


@given(voters, indexes)
def test_an_index_is_committed_that_more_than_half_have(group: Majority, acked: Mapping[int, int]) -> None:
    stored = [i for i in range(10) if more_than_half(group, [m for m in group if acked.get(m, 0) >= i])]
    assert group.committed_index(acked) == max(stored)


@given(groups, groups, indexes)
def test_a_joint_index_is_the_lesser_one(one: Majority, other: Majority, acked: Mapping[int, int]) -> None:
    joint = Joint(one, other).committed_index(acked)
    assert joint == min(one.committed_index(acked), other.committed_index(acked))
    assert joint == Joint(other, one).committed_index(acked)
    assert Joint(one, one).committed_index(acked) == Joint(one).committed_index(acked) == one.committed_index(acked)
    assert (joint == MAX_INDEX) == (not one and not other)


@given(joints, indexes, st.sampled_from(IDS), st.integers(0, 9))
def test_a_committed_index_never_falls(joint: Joint, acked: Mapping[int, int], who: int, more: int) -> None:
    later = {**acked, who: acked.get(who, 0) + more}
    assert joint.committed_index(later) >= joint.committed_index(acked)


@given(joints, ballots)
def test_an_election_is_won_or_lost_once_nothing_can_change_it(joint: Joint, votes: Mapping[int, bool]) -> None:
    result = joint.vote_result(votes)
    best = joint.vote_result({**dict.fromkeys(IDS, True), **votes})
    worst = joint.vote_result({**dict.fromkeys(IDS, False), **votes})
    assert VoteResult.PENDING not in (best, worst)
    assert result is (best if best is worst else VoteResult.PENDING)


@given(joints, ballots)
def test_an_election_is_won_with_half_of_each_group(joint: Joint, votes: Mapping[int, bool]) -> None:
    granted = [i for i, vote in votes.items() if vote]
    both = all(more_than_half(group, granted) for group in (joint.incoming, joint.outgoing) if group)
    assert (joint.vote_result(votes) is VoteResult.WON) == both


@given(joints, ballots)
def test_two_candidates_never_win(joint: Joint, votes: Mapping[int, bool]) -> None:
    against = {i: not vote for i, vote in votes.items()}
    assert {joint.vote_result(votes), joint.vote_result(against)} != {VoteResult.WON}


@given(st.lists(conf_changes, max_size=12))
def test_whatever_is_asked_for_the_configuration_stays_sound(changes: Sequence[ConfChange]) -> None:
    config, peers = Configuration(Joint(Majority((1,)))), dict[int, PeerStatus]()
    for number, change in enumerate(changes):
        try:
            config = confchange.apply(config, change)
        except SwarmError as error:
            assert error.code is Code.FAILED_PRECONDITION
        before, peers = peers, confchange.follow(peers, config, number)
        incoming, outgoing = set(config.voters.incoming), set(config.voters.outgoing)
        assert incoming, "somebody votes"
        assert not config.learners & (incoming | outgoing)
        assert config.learners_next <= outgoing - incoming - config.learners
        assert outgoing or not (config.learners_next or config.auto_leave)
        assert set(peers) == incoming | outgoing | config.learners
        assert {i for i, peer in peers.items() if peer.is_learner} == config.learners
        assert all(peers[i].next == before[i].next for i in before.keys() & peers.keys()), "a place in the log stays"
        assert Configuration.from_conf_state(config.to_conf_state()) == config


@given(configurations(), st.lists(member_changes, max_size=6), st.booleans())
def test_what_decides_before_in_between_and_after_has_somebody_in_common(
    old: Configuration, changes: Sequence[MemberChange], auto_leave: bool
) -> None:
    try:
        joint = Changer(old).enter_joint(auto_leave, changes)
    except SwarmError as error:
        assert "removed all voters" in str(error)
        return
    new = Changer(joint).leave_joint()
    assert joint.auto_leave is auto_leave and not new.is_joint
    assert set(joint.voters.outgoing) == set(old.voters.incoming)
    assert joint.voters.incoming == new.voters.incoming
    assert joint.members == old.voters.ids | new.members
    assert not decides_alone(old, joint)
    assert not decides_alone(joint, new)


@given(configurations(), st.lists(member_changes, max_size=4))
def test_a_simple_change_does_what_a_joint_one_does(old: Configuration, changes: Sequence[MemberChange]) -> None:
    try:
        new = Changer(old).simple(changes)
    except SwarmError:
        return
    assert new == Changer(Changer(old).enter_joint(False, changes)).leave_joint()
    assert not decides_alone(old, new), "one voter at a time needs no joint configuration"


@given(configurations(), st.lists(member_changes, max_size=4))
def test_a_simple_change_is_refused_for_a_reason(old: Configuration, changes: Sequence[MemberChange]) -> None:
    try:
        joint = Changer(old).enter_joint(False, changes)
    except SwarmError:
        with pytest.raises(SwarmError, match="removed all voters"):
            Changer(old).simple(changes)
        return
    differing = set(joint.voters.incoming) ^ set(joint.voters.outgoing)
    if len(differing) > 1:
        with pytest.raises(SwarmError, match="more than one voter"):
            Changer(old).simple(changes)
    else:
        assert Changer(old).simple(changes).voters.incoming == joint.voters.incoming


@given(conf_changes)
def test_a_change_comes_back_from_its_bytes(change: ConfChange) -> None:
    assert confchange.decode(confchange.encode(change)) == change


@given(st.binary(max_size=40))
def test_any_bytes_are_a_change_or_refused(data: bytes) -> None:
    try:
        confchange.decode(data)
    except SwarmError as error:
        assert error.code is Code.CORRUPT
