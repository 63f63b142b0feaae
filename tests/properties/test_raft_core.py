"""Whatever is lost, doubled, late, out of order, crashed or changed in between: the laws of Raft hold, and it goes on.

Election safety, log matching, leader completeness, state machine safety (Raft paper, figure 3) and linearisable reads
are watched by `tests.support.raft_laws` at every step; what is asked here is that a healed net agrees again.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.raft.core import CoreConfig
from manager.raft.types import ConfChange, ConfChangeKind, MemberChange, Transition
from swarmpy.errors import SwarmError
from tests.support.raft_cores import CoreMember, CoreNet

Step = tuple[str, int, int]
SMALL: Final = CoreConfig(
    uncommitted_bytes=200,
    apply_entries=3,
    election_ticks=4,
    max_message_bytes=80,
    max_inflight=3,
    max_inflight_bytes=150,
)
MEMBERS: Final = 6


class Schedule:
    """Carries out steps; `a` and `b` of a step choose among what there is."""

    def __init__(self, config: CoreConfig, seed: int, voters: int) -> None:
        self.net = CoreNet(range(1, voters + 1), config=config, seed=seed)
        self._serial = 0

    def run(self, steps: list[Step]) -> None:
        for name, a, b in steps:
            getattr(self, f"_{name}")(a, b)

    def heal(self) -> CoreMember:
        """End all faults, and return the member that leads once all agree."""
        net = self.net
        net.heal()
        for member in net.members.values():
            if not member.is_up:
                net.restart(member.id)
            elif member.ready is not None:
                net.finish(member.id)
        net.settle(rounds=2000)
        for _ in range(40):
            net.let_time_pass(4)
            if leader := self._agree():
                return leader
        raise AssertionError(f"no agreement: {net.roles()}, {[(m.id, m.core.conf, m.applied) for m in net.up]}")

    def _agree(self) -> CoreMember | None:
        """Return the leader if all its members applied a proposal of its own just now, and no change is left over."""
        for member_id in self.net.leaders():
            leader = self.net[member_id]
            if leader.core.conf.auto_leave:
                continue
            try:
                index = self.net.propose(member_id, b"at last")[0]
            except SwarmError:
                continue
            members = [self.net[i] for i in leader.core.configuration.members]
            if all(m.applied >= index and m.state == leader.state for m in members):
                return leader
        return None

    def _up(self, a: int) -> CoreMember | None:
        up = self.net.up
        return up[a % len(up)] if up else None

    def _with(self, a: int, do: Callable[[CoreMember], object]) -> None:
        member = self._up(a)
        if member is not None:
            with contextlib.suppress(SwarmError):  # refused, as it may be
                do(member)
            self.net.laws.watch(self.net.up)

    def _leading(self, a: int) -> int:
        """Return a number that chooses a leader, if there is one, most of the time."""
        up = [m.id for m in self.net.up]
        leaders = [i for i, m in enumerate(up) if m in self.net.leaders()]
        return leaders[a % len(leaders)] if leaders and a % 8 else a

    # Steps

    def _tick(self, a: int, b: int) -> None:
        self._with(a, lambda m: self.net.tick(m.id, 1 + b % 6))

    def _begin(self, a: int, b: int) -> None:
        self._with(a, lambda m: m.ready is None and self.net.begin(m.id, hand_out=b % 4 > 0))

    def _finish(self, a: int, _b: int) -> None:
        self._with(a, lambda m: self.net.finish(m.id) if m.ready is not None else None)

    def _deliver(self, a: int, b: int) -> None:
        """One message, in or out of order, perhaps once more later."""
        wire = self.net.wire
        if wire:
            message = wire[a % len(wire)]
            if b % 8:
                wire.remove(message)
            self.net.hand(message)

    def _drop(self, a: int, _b: int) -> None:
        if self.net.wire:
            self.net.lose(self.net.wire[a % len(self.net.wire)])

    def _flow(self, _a: int, b: int) -> None:
        """Let it all go its way for a while."""
        for _ in range(1 + b % 6):
            for member in self.net.up:
                if member.ready is not None:
                    self.net.finish(member.id)
                self.net.carry_out(member.id)
            self.net.deliver()

    def _crash(self, a: int, b: int) -> None:
        self._with(a, lambda m: self.net.crash(m.id, stored=bool(b % 2)))

    def _restart(self, a: int, _b: int) -> None:
        down = [m for m in self.net.members.values() if not m.is_up]
        if down:
            self.net.restart(down[a % len(down)].id)

    def _propose(self, a: int, b: int) -> None:
        self._serial += 1
        data = b"%d" % self._serial * (1 + b % 20)
        self._with(self._leading(a), lambda m: m.core.propose(data))

    def _change(self, a: int, b: int) -> None:
        rng = random.Random(b)
        kinds = [ConfChangeKind.ADD_VOTER, ConfChangeKind.ADD_VOTER, ConfChangeKind.ADD_LEARNER, ConfChangeKind.REMOVE]
        ids = rng.sample(range(1, MEMBERS + 1), rng.choice([0, 1, 1, 1, 2, 3]))
        changes = tuple(MemberChange(rng.choice(kinds), i) for i in ids)
        change = ConfChange(
            changes, rng.choice([Transition.AUTO, Transition.AUTO, *Transition]) if changes else Transition.AUTO
        )
        self._with(self._leading(a), lambda m: m.core.propose_conf_change(change))
        for i in ids:
            if i not in self.net.members:
                self.net.join(i)

    def _transfer(self, a: int, b: int) -> None:
        self._with(self._leading(a), lambda m: m.core.transfer(1 + b % MEMBERS))

    def _snapshot(self, a: int, b: int) -> None:
        self._with(a, lambda m: m.ready is None and self.net.snapshot(m.id, keep=b % 3))

    def _read(self, a: int, _b: int) -> None:
        self._serial += 1
        self._with(a, lambda m: self.net.ask(m.id, b"read %d" % self._serial))

    def _lost(self, a: int, b: int) -> None:
        """Somebody believes that its leader is gone, and perhaps stands."""
        self._with(a, lambda m: m.core.leader_lost())
        if b % 2:
            self._with(a, lambda m: m.core.campaign())

    def _unreachable(self, a: int, b: int) -> None:
        self._with(self._leading(a), lambda m: m.core.report_unreachable(1 + b % MEMBERS))

    def _resign(self, a: int, _b: int) -> None:
        self._with(a, lambda m: m.core.resign())

    def _cut(self, a: int, b: int) -> None:
        ids = list(self.net.members)
        self.net.cut.add((ids[a % len(ids)], ids[b % len(ids)]))

    def _isolate(self, a: int, _b: int) -> None:
        self._with(a, lambda m: self.net.isolate(m.id))

    def _mend(self, _a: int, _b: int) -> None:
        self.net.heal()


WEIGHTS: Final = {
    "tick": 10, "begin": 8, "finish": 8, "deliver": 16, "drop": 3, "flow": 10, "crash": 3, "restart": 4, "propose": 8,
    "change": 4, "transfer": 2, "snapshot": 3, "read": 4, "lost": 3, "unreachable": 1, "resign": 1, "cut": 2,
    "isolate": 1, "mend": 2,
}  # fmt: skip
NAMES: Final = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
CONFIGS: Final = {
    "usual": SMALL,
    "no pre-vote": CoreConfig(election_ticks=4, pre_vote=False, max_inflight=2),
    "no leases": CoreConfig(election_ticks=4, check_quorum=False, pre_vote=False),
}


def random_steps(rng: random.Random, count: int) -> list[Step]:
    return [(rng.choice(NAMES), rng.randrange(1000), rng.randrange(1000)) for _ in range(count)]


def check(config: CoreConfig, seed: int, voters: int, steps: list[Step]) -> Schedule:
    schedule = Schedule(config, seed, voters)
    schedule.run([("lost", 0, 1), ("flow", 0, 5), *steps])
    schedule.heal()
    return schedule


steps = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 1000), st.integers(0, 1000)), max_size=150)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(CONFIGS)), st.integers(0, 2**32), st.integers(1, 5), steps)
def test_the_laws_hold_and_it_goes_on(config: str, seed: int, voters: int, steps: list[Step]) -> None:
    check(CONFIGS[config], seed, voters, steps)


@pytest.mark.parametrize("config", sorted(CONFIGS))
@pytest.mark.parametrize("first", range(0, 400, 100))
def test_long_schedules(config: str, first: int) -> None:
    for seed in range(first, first + 100):
        rng = random.Random(seed)
        check(CONFIGS[config], seed, rng.randint(1, 5), random_steps(rng, 300))
