"""Who runs the cluster: adds, promotes, demotes and removes managers, several at once too, and moves the lead."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from manager.raft.types import ConfChange, ConfChangeKind, ConfState, MemberChange, Transition
from swarmpy.errors import SwarmError
from tests.sim.raft.checks import normal
from tests.sim.raft.cluster import Cluster
from tests.sim.raft.host import Fate
from tests.sim.raft.loop import end
from tests.sim.raft.machine import HARMLESS
from tests.sim.raft.run import Run

MOST_MEMBERS: Final = 7
MOST_IDLE: Final = 2
ADD_VOTER, ADD_LEARNER, REMOVE = ConfChangeKind.ADD_VOTER, ConfChangeKind.ADD_LEARNER, ConfChangeKind.REMOVE


def survives(cluster: Cluster, lost: frozenset[int]) -> bool:
    """Return whether every configuration that any member may come to use has a majority without `lost`."""
    confs = {cluster.checks.last_conf, *(run.node._core.conf for run in cluster.running())}
    applied = cluster.checks.last_applied
    if any(index > applied for shadow in cluster.checks.shadows.values() for index in shadow.changes):
        return False  # a change is under way
    return all(majority(conf.voters, lost) and majority(conf.voters_outgoing, lost) for conf in confs)


def majority(voters: Sequence[int], lost: frozenset[int]) -> bool:
    return not voters or 2 * len(set(voters) - lost) > len(voters)


def members_of(conf: ConfState) -> set[int]:
    return {*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next}


class Operator:
    """Does one thing at a time with the managers, never one that would leave no majority of those not lost."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self._cluster, self._rng = cluster, rng
        self.busy = False

    async def change(self) -> None:
        """Make one change, and wait for what comes of it (or not: then nobody knows)."""
        if self.busy:
            return
        run = self._leader()
        if run is None:
            return
        self.busy = True
        try:
            change = self._leave(run) or self._draw(run.node._core.conf)
            if change is not None:
                if self._rng.random() < 0.3 and (other := self._draw(run.node._core.conf)) is not None:
                    self._cluster.spawn(self._make(run, other))  # only one of the two may be let in
                await self._make(run, change)
        finally:
            self.busy = False

    async def leave_joint(self) -> None:
        """End a joint stage that waits to be ended."""
        run = self._leader()
        if run is not None and (change := self._leave(run)) is not None:
            await self._make(run, change)

    def transfer(self) -> None:
        """Ask the leader to hand over, to somebody or to whoever is best, or to step down."""
        run = self._leader()
        if run is None:
            return
        if self._rng.random() < 0.15:
            run.post(run.node.resign)
            return
        to = self._rng.choice([0, *self._cluster.hosts])
        run.note("transfer", to)
        run.spawn(self._transfer(run, to))

    async def _transfer(self, run: Run, to: int) -> None:
        waiter = run.new_waiter()
        run.post(lambda: run.node.transfer(to, waiter))
        try:
            await waiter
        except SwarmError as error:
            if error.code not in HARMLESS:
                raise

    async def _make(self, run: Run, change: ConfChange) -> None:
        run.note("change", *(f"{c.kind.name} {c.member_id}" for c in change.changes), change.transition.name)
        waiter = run.new_waiter()
        patience = self._cluster.timeline.after(self._rng.randint(500_000, 5_000_000), lambda: end(waiter, None))
        run.post(lambda: run.node.change_members(change, waiter))
        try:
            result = await waiter
        except SwarmError as error:
            if error.code not in HARMLESS:
                raise
            run.note("no change", error.code.value)
            return
        finally:
            patience.cancel()
        if result is not None:
            self._take_away()

    def _take_away(self) -> None:
        """Members that were removed are switched off, some of them much later."""
        known = members_of(self._cluster.checks.last_conf)
        for host in self._cluster.serving():
            if host.member_id not in known and host.member_id in self._ever():
                self._later_away(host.member_id)

    def _ever(self) -> set[int]:
        """Return all that were ever members: their ids are not used again."""
        return set[int]().union(*(members_of(conf) for conf in self._cluster.checks.confs.values()))

    def _later_away(self, member_id: int) -> None:
        def away() -> None:
            host = self._cluster.hosts[member_id]
            if host.fate is not Fate.SERVES or member_id in members_of(self._cluster.checks.last_conf):
                return
            if self._is_known():
                host.take_away()
            else:
                self._later_away(member_id)

        self._cluster.timeline.after(self._rng.choice((10_000, 1_000_000, 8_000_000)), away)

    def _is_known(self) -> bool:
        """Return whether a majority of the voters have applied the last change.

        Until then they need the votes of those that it removed. (The manager's own loop makes sure of it by a
        write: that commits behind the change, and only then is a member let go.)
        """
        conf = self._cluster.checks.last_conf
        know = [run.member_id for run in self._cluster.running() if normal(run.node._core.conf) == conf]
        return majority(conf.voters, frozenset(conf.voters) - frozenset(know))

    def _leader(self) -> Run | None:
        host = self._cluster.hosts.get(self._cluster.leader_id)
        return host.run if host is not None and host.run is not None and host.run.started else None

    def _leave(self, run: Run) -> ConfChange | None:
        conf = run.node._core.conf
        return ConfChange() if conf.voters_outgoing and not conf.auto_leave else None

    def _draw(self, conf: ConfState) -> ConfChange | None:
        """Choose one change, or several at once."""
        rng = self._rng
        changes = [c for c in (self._one(conf) for _ in range(rng.choice((1, 1, 2, 3, 4)))) if c is not None]
        changes = list({change.member_id: change for change in changes}.values())
        voters = set(conf.voters)
        for change in changes:
            if change.kind is ADD_VOTER:
                voters.add(change.member_id)
            else:
                voters.discard(change.member_id)
        lost = frozenset(self._cluster.lost_ids)
        if not changes or not voters or not majority(sorted(voters), lost):
            return None
        simple = len(voters ^ set(conf.voters)) <= 1
        transitions = [Transition.AUTO, Transition.JOINT_IMPLICIT, Transition.JOINT_EXPLICIT]
        return ConfChange(tuple(changes), Transition.AUTO if simple and rng.random() < 0.6 else rng.choice(transitions))

    def _one(self, conf: ConfState) -> MemberChange | None:
        rng = self._rng
        lost = sorted(self._cluster.lost_ids & {*conf.voters, *conf.learners})
        if lost and rng.random() < 0.7:
            return MemberChange(REMOVE, rng.choice(lost))
        what = rng.choice(("add", "add", "learner", "promote", "promote", "demote", "remove"))
        if what in ("add", "learner"):
            if len(conf.voters) + len(conf.learners) >= MOST_MEMBERS:
                return None
            kind = ADD_VOTER if what == "add" else ADD_LEARNER
            return MemberChange(kind, self._newcomer(conf))
        pool = conf.learners if what == "promote" else conf.voters
        if not pool:
            return None
        kind = {"promote": ADD_VOTER, "demote": ADD_LEARNER, "remove": REMOVE}[what]
        return MemberChange(kind, rng.choice(sorted(pool)))

    def _newcomer(self, conf: ConfState) -> int:
        """Return a machine whose member nobody knows yet: one from an attempt that came to nothing, or a new one."""
        known = self._ever() | members_of(conf)
        idle = [host.member_id for host in self._cluster.serving() if host.member_id not in known]
        many = len(idle) >= MOST_IDLE or self._rng.random() < 0.5
        return self._rng.choice(idle) if idle and many else self._cluster.join().member_id
