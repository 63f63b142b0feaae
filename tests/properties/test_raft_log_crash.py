"""Whatever a crash leaves of unsynced writes, no acknowledged proposal is lost, moved or made up."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.disk import Crash, FakeDisk
from tests.support.raft_member import WAL, Member, frames, new_log

Step = tuple[str, int]


class Life:
    """A member that lives through crashes; `acknowledged` is what it promised, `begun` what was in flight."""

    def __init__(self) -> None:
        self.disk = FakeDisk()
        self.acknowledged: list[bytes] = []
        self.begun: list[bytes] = []
        self._serial = 0

    def run(self, steps: list[Step], after: Callable[[], None] = lambda: None) -> None:
        """Open the member (making its log if there is none), carry out `steps`, and close it."""
        if not any(name.endswith(".wal") for name in self._wal_names()):
            new_log(self.disk)
        member = Member(self.disk).start()
        self._check(member)
        for name, size in steps:
            if name == "propose":
                self._propose(member, size)
            elif name == "snapshot" and member.node.applied_index > member.node.status().snapshot.index:
                member.snapshot()
            elif name == "tick":
                member.tick()
            after()
        member.close()

    def crash(self, rng: random.Random, *, power: bool) -> None:
        self.disk = self.disk.after_power_loss(rng) if power else self.disk.after_kill()

    def _propose(self, member: Member, size: int) -> None:
        self._serial += 1
        self.begun = [f"{self._serial}.{i}:".encode().ljust(1 + size * (i + 1), b"x") for i in range(1 + size % 3)]
        assert all(isinstance(result, int) for result in member.propose(*self.begun))
        self.acknowledged += self.begun
        self.begun = []
        assert member.applied == self.acknowledged

    def _check(self, member: Member) -> None:
        """All that was acknowledged is there, then possibly the frame in flight, wholly or not at all."""
        assert member.applied in (self.acknowledged, self.acknowledged + self.begun)
        self.acknowledged, self.begun = list(member.applied), []
        assert member.leadership, "it leads again"

    def _wal_names(self) -> list[str]:
        return [path.name for path in self.disk.files(WAL)]


WORKLOAD: list[Step] = [
    ("propose", 10), ("propose", 700), ("tick", 0), ("tick", 0), ("propose", 2000), ("propose", 3000),
    ("snapshot", 0), ("propose", 900), ("propose", 2500), ("tick", 0), ("tick", 0), ("propose", 2600),
    ("snapshot", 0), ("snapshot", 0), ("propose", 12000), ("tick", 0), ("propose", 1), ("snapshot", 0), ("propose", 5),
]  # fmt: skip


def operations_of_workload() -> int:
    life = Life()
    life.run(WORKLOAD)
    return life.disk.operations


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
def test_crash_at_every_operation(power: bool) -> None:
    for crash_at in range(1, operations_of_workload() + 1):
        for seed in range(6 if power else 1):
            rng = random.Random(f"{crash_at}/{seed}")
            life = Life()
            life.disk.crash_at = crash_at
            with pytest.raises(Crash):
                life.run(WORKLOAD)
            life.crash(rng, power=power)
            life.run([("propose", 300), ("tick", 0), ("tick", 0), ("snapshot", 0)])
            life.run([("propose", 20)])


steps = st.lists(
    st.tuples(st.sampled_from(["propose", "propose", "propose", "tick", "snapshot"]), st.integers(0, 3000)), max_size=12
)
crashes = st.tuples(st.integers(1, 80), st.booleans())


@settings(max_examples=150, deadline=None)
@given(lives=st.lists(st.tuples(steps, crashes), min_size=1, max_size=5), seed=st.integers(0, 2**32))
def test_many_lives(lives: list[tuple[list[Step], tuple[int, bool]]], seed: int) -> None:
    rng = random.Random(seed)
    life = Life()
    for plan, (crash_after, power) in lives:
        life.disk.crash_at = life.disk.operations + crash_after
        with contextlib.suppress(Crash):
            life.run(plan)
        life.crash(rng, power=power)
    life.run([])


def test_a_flipped_last_frame_loses_no_earlier_one_at_any_point() -> None:
    life = Life()
    rng = random.Random(5)

    def flip() -> None:
        path, offset, last = frames(life.disk)[-1]
        image = life.disk.after_kill()
        data = bytearray(image.read(path))
        data[offset + rng.randrange(last.size_bytes)] ^= 1 << rng.randrange(8)
        image.write(path, bytes(data))
        member = Member(image).start()
        count = len(member.applied)
        assert member.applied == life.acknowledged[:count]
        lost = b"".join(life.acknowledged[count:])
        assert len(lost) <= len(last.payload), "only what the flipped frame itself held may be gone"
        member.close()

    life.run(WORKLOAD * 3, after=flip)
