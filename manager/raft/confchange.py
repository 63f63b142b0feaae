"""Changes of the members: what configuration comes out of a change, and which changes are refused.

One voter at a time may come or go by a simple change (Raft thesis, 4.1): any majority of the old voters meets any of
the new ones. More at a time go through a joint configuration (Raft paper, section 6), in which both groups must agree.
Everything here is pure; a configuration that breaks the rules cannot be made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

import msgspec

from manager.raft.quorum import Joint, Majority
from manager.raft.types import (
    NOBODY,
    ConfChange,
    ConfChangeKind,
    ConfState,
    MemberChange,
    PeerState,
    PeerStatus,
    Transition,
)
from swarmpy.errors import Code, SwarmError, precondition


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who votes and who only listens.

    Attributes:
        voters: `outgoing` is not empty while the configuration is joint.
        learners: get the log and are counted by no quorum.
        learners_next: outgoing voters that become learners once the joint configuration is left; until then they vote.
        auto_leave: the leader leaves the joint configuration by itself.

    Raises:
        SwarmError: FAILED_PRECONDITION, the parts do not fit together.
    """

    voters: Joint = field(default_factory=Joint)
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    def __post_init__(self) -> None:
        incoming, outgoing = self.voters.incoming, self.voters.outgoing
        _refuse(self.learners & self.voters.ids, "voters and learners at once")
        _refuse(self.learners_next - set(outgoing), "learners to be, but no outgoing voters")
        _refuse(self.learners_next & set(incoming), "learners to be, but incoming voters")
        _refuse({NOBODY} & self.members, "members, but 0 means nobody")
        if outgoing and not incoming:
            raise precondition(f"a joint configuration has no incoming voters ({self}): one must stay or come")
        if self.auto_leave and not self.is_joint:
            raise precondition(f"a configuration that is not joint is to be left by itself ({self})")

    def __str__(self) -> str:
        parts = [f"voters={self.voters}"]
        if self.learners:
            parts.append(f"learners={Majority(self.learners)}")
        if self.learners_next:
            parts.append(f"learners_next={Majority(self.learners_next)}")
        if self.auto_leave:
            parts.append("autoleave")
        return " ".join(parts)

    @property
    def is_joint(self) -> bool:
        return len(self.voters.outgoing) > 0

    @property
    def members(self) -> frozenset[int]:
        """All who get the log: voters of both groups and learners."""
        return self.voters.ids | self.learners

    @classmethod
    def from_conf_state(cls, conf: ConfState) -> Configuration:
        """Return the configuration that was stored as `conf`; FAILED_PRECONDITION if its parts do not fit together."""
        voters = Joint(Majority(conf.voters), Majority(conf.voters_outgoing))
        return cls(voters, frozenset(conf.learners), frozenset(conf.learners_next), conf.auto_leave)

    def to_conf_state(self) -> ConfState:
        """Return what is stored and sent of it, with every list in order."""
        return ConfState(
            voters=self.voters.incoming.ids,
            learners=tuple(sorted(self.learners)),
            voters_outgoing=self.voters.outgoing.ids,
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=self.auto_leave,
        )


@dataclass(frozen=True, slots=True)
class Changer:
    """Makes the next configuration out of `config`.

    Changes count in order, the last one for a member wins. To remove somebody unknown, to update, and to change
    member 0 do nothing. What is refused is a SwarmError FAILED_PRECONDITION.
    """

    config: Configuration

    def enter_joint(self, auto_leave: bool, changes: Sequence[MemberChange]) -> Configuration:
        """Return the joint configuration in which today's voters go and those after `changes` come."""
        if self.config.is_joint:
            raise precondition(f"config is already joint ({self.config}): leave it first")
        now = self.config.voters.incoming
        if not now:
            raise precondition("can't make a zero-voter config joint: add the first voter by a simple change")
        joint = replace(self.config, voters=Joint(now, now))
        return replace(_changed(joint, changes), auto_leave=auto_leave)

    def leave_joint(self) -> Configuration:
        """Return the configuration of the incoming voters alone."""
        if not self.config.is_joint:
            raise precondition(f"can't leave a non-joint config ({self.config})")
        voters = Joint(self.config.voters.incoming)
        return Configuration(voters, self.config.learners | self.config.learners_next)

    def simple(self, changes: Sequence[MemberChange]) -> Configuration:
        """Return the configuration after `changes`, by which one voter at most may come or go."""
        if self.config.is_joint:
            raise precondition(f"can't apply simple config change in joint config ({self.config}): leave it first")
        changed = _changed(self.config, changes)
        differing = set(self.config.voters.incoming) ^ set(changed.voters.incoming)
        if len(differing) > 1:
            raise precondition(
                f"more than one voter changed without entering joint config ({self.config} to {changed}):"
                " change one at a time, or make a joint change"
            )
        return changed


def apply(config: Configuration, change: ConfChange) -> Configuration:
    """Return what `change` makes of `config`: leaves the joint configuration, enters one, or changes it simply.

    Raises:
        SwarmError: FAILED_PRECONDITION, the change does not fit the configuration.
    """
    changer = Changer(config)
    if leaves_joint(change):
        return changer.leave_joint()
    if change.transition is not Transition.AUTO or len(change.changes) > 1:
        return changer.enter_joint(change.transition is not Transition.JOINT_EXPLICIT, change.changes)
    return changer.simple(change.changes)


def leaves_joint(change: ConfChange) -> bool:
    """Return whether `change` is the one that ends a joint configuration."""
    return not change.changes and change.transition is Transition.AUTO


def encode(change: ConfChange) -> bytes:
    """Return the data of the CONF_CHANGE entry."""
    return msgspec.msgpack.encode(change)


def decode(data: bytes) -> ConfChange:
    """Return the change that a CONF_CHANGE entry holds.

    Raises:
        SwarmError: CORRUPT, the bytes are no change of the members.
    """
    try:
        return msgspec.msgpack.decode(data, type=ConfChange)
    except (msgspec.DecodeError, ValueError) as error:
        raise SwarmError(
            Code.CORRUPT, f"an entry of {len(data)} bytes is no change of the members that this version reads: {error}"
        ) from error


def follow(peers: Mapping[int, PeerStatus], config: Configuration, last_index: int) -> dict[int, PeerStatus]:
    """Return what a leader knows of the members of `config`: known ones keep their place, new ones are probed.

    Args:
        peers: what it knew before the change.
        last_index: of the leader's log; a new member is taken to have all of it but the last entry until it says
            otherwise, so that one that was caught up by other means is not sent everything again.
    """
    start = max(last_index, 1)
    followed = {}
    for member_id in sorted(config.members):
        new = PeerStatus(member_id, match=0, next=start, state=PeerState.PROBE, is_learner=False, active=True)
        known = peers.get(member_id, new)
        followed[member_id] = msgspec.structs.replace(known, is_learner=member_id in config.learners)
    return followed


def describe(peers: Mapping[int, PeerStatus]) -> str:
    """Return a line for each member, such as `2: StateProbe match=0 next=7 learner`, in order of their ids."""
    return "".join(
        f"{i}: State{peer.state.value.capitalize()} match={peer.match} next={peer.next}"
        f"{' learner' if peer.is_learner else ''}{'' if peer.active else ' inactive'}\n"
        for i, peer in sorted(peers.items())
    )


def _changed(config: Configuration, changes: Iterable[MemberChange]) -> Configuration:
    """Carry `changes` out on the incoming voters and the learners; the outgoing voters stay what they are."""
    voters, outgoing = set(config.voters.incoming), config.voters.outgoing
    learners, learners_next = set(config.learners), set(config.learners_next)
    for change in changes:
        member_id, kind = change.member_id, change.kind
        if member_id == NOBODY or kind is ConfChangeKind.UPDATE:
            continue
        for group in (voters, learners, learners_next):
            group.discard(member_id)
        if kind is ConfChangeKind.ADD_VOTER:
            voters.add(member_id)
        elif kind is ConfChangeKind.ADD_LEARNER:
            # Whoever votes in the outgoing half must not be a learner at the same time.
            (learners_next if member_id in outgoing else learners).add(member_id)
        elif kind is not ConfChangeKind.REMOVE:
            assert_never(kind)
    if not voters:
        raise precondition(f"removed all voters of {config}: at least one must stay or come")
    return replace(
        config,
        voters=Joint(Majority(voters), outgoing),
        learners=frozenset(learners),
        learners_next=frozenset(learners_next),
    )


def _refuse(ids: Iterable[int], what: str) -> None:
    faulty = Majority(ids)
    if faulty:
        raise precondition(f"members {faulty} are {what}: this configuration cannot be")
