"""Whatever a crash leaves: what was stored stays, what was replaced stays gone; tails, snapshots, keys and all."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.raft.log.storage import Storage
from tests.support.disk import Crash
from tests.support.raft_member import HERE, ME, frames
from tests.support.storage_life import SEGMENT_BYTES, STEPS, Life, Step, new_sealer

WORKLOAD: list[Step] = [
    ("append", 2), ("append", 400), ("commit", 2), ("append", 301), ("replace", 1), ("append", 499), ("room", 999),
    ("replace", 3), ("commit", 4), ("begin", 1), ("snapshot", 2), ("end", 0), ("append", 480), ("install", 0),
    ("append", 470), ("replace", 2), ("append", 401), ("commit", 5), ("begin", 2), ("install", 11), ("end", 2),
    ("append", 350), ("discard", 9), ("commit", 9), ("snapshot", 0), ("reopen", 0), ("append", 440), ("replace", 5),
    ("append", 499), ("commit", 3), ("append", 1), ("snapshot", 1), ("install", 1), ("room", 999), ("append", 2),
]  # fmt: skip
AFTER: list[Step] = [("append", 300), ("replace", 1), ("commit", 1), ("snapshot", 1), ("append", 7)]


def life(encrypted: bool) -> Life:
    return Life(new_sealer() if encrypted else None)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
def test_crash_at_every_operation(power: bool, encrypted: bool) -> None:
    whole = life(encrypted)
    whole.run(WORKLOAD)
    assert whole.disk.open_files == 0
    for crash_at in range(1, whole.disk.operations + 1):
        for seed in range(4 if power else 1):
            one = life(encrypted)
            one.disk.crash_at = crash_at
            with pytest.raises(Crash):
                one.run(WORKLOAD)
            one.crash(random.Random(f"{crash_at}/{seed}"), power=power)
            one.run(AFTER)
            one.run([])


steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1000)), max_size=15)
crashes = st.tuples(st.integers(1, 120), st.booleans())


@settings(max_examples=200, deadline=None)
@given(
    lives=st.lists(st.tuples(steps, crashes), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
    encrypted=st.booleans(),
)
def test_many_lives(lives: list[tuple[list[Step], tuple[int, bool]]], seed: int, encrypted: bool) -> None:
    rng, one = random.Random(seed), life(encrypted)
    for plan, (crash_after, power) in lives:
        one.disk.crash_at = one.disk.operations + crash_after
        with contextlib.suppress(Crash):
            one.run(plan)
        one.crash(rng, power=power)
    one.run(AFTER)
    one.run([])


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_rot_in_the_last_frame_takes_back_no_snapshot_and_no_committed_entry(encrypted: bool) -> None:
    one, rng = life(encrypted), random.Random(3)

    def flip() -> None:
        path, offset, last = frames(one.disk)[-1]
        image = one.disk.after_kill()
        data = bytearray(image.read(path))
        data[offset + rng.randrange(last.size_bytes)] ^= 1 << rng.randrange(8)
        image.write(path, bytes(data))
        store, state = Storage.open(image, HERE, ME, segment_bytes=SEGMENT_BYTES, sealer=one.sealer)
        store.close()
        assert state.mark == one.now.mark
        first, commit = state.tail.last_index - len(state.entries) + 1, state.hard_state.commit
        kept = [e for e in state.entries if e.index <= commit]
        assert kept == [e for e in one.now.entries if first <= e.index <= commit]

    one.run(WORKLOAD, after=flip)
