"""Whatever managers may not do is found, and nothing else."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from manager.store.snapshot import Snapshot, SnapshotReader
from manager.store.state import State
from manager.store.tables import CONFIGS
from scripts.faults.verdict import Held, held_in, judge
from scripts.faults.workload import Append
from swarmpy.model.config import Config, ConfigSpec
from tests.sim.raft.history import History, Kind
from tests.sim.raft.linearizability import TooHardError

HELD = Held(revision=9, chain="c", digest="d", configs={"a": "1", "b": "2"})
AGREED = {"node1": HELD, "node2": HELD}


def judged(*appends: Append, held: dict[str, Held] = AGREED) -> list[str]:
    verdict = judge(History(), appends, held)
    assert not verdict.undecided
    return verdict.wrong


def test_nothing_is_wrong() -> None:
    assert judged(Append("a", ["1", "1"]), Append("b", []), Append("never", [])) == []


def test_an_append_that_is_lost() -> None:
    assert judged(Append("gone", ["3"])) == ["gone was acknowledged (config 3), and is not there"]


def test_an_append_that_is_another_one() -> None:
    assert judged(Append("a", ["3"])) == ["a was acknowledged as config 3, and config 1 is there"]


def test_a_request_with_two_effects() -> None:
    assert judged(Append("a", ["1", "3"])) == [
        "one request to make a was answered with several configs: ['1', '3']",
    ]


def test_managers_that_hold_different_states() -> None:
    for other in ({"revision": 8}, {"chain": "x"}, {"digest": "x"}):
        wrong = judged(held={"node1": HELD, "node2": dataclasses.replace(HELD, **other)})
        assert len(wrong) == 1
        assert wrong[0].startswith("the managers hold different states: node1: revision 9, chain c, rows d; node2: ")


def test_a_read_of_what_was_overwritten() -> None:
    history = History()
    for value in ("1", "2"):
        history.answer(history.invoke(0, Kind.WRITE, "r0", value), "")
    history.answer(history.invoke(1, Kind.READ, "r0"), "1")
    wrong = judge(history, (), AGREED).wrong
    assert len(wrong) == 1
    assert wrong[0].startswith("the answers for r0 contradict each other")


def test_a_history_that_is_too_hard_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(history: History) -> None:
        raise TooHardError

    monkeypatch.setattr("scripts.faults.verdict.check", gives_up)
    verdict = judge(History(), [Append("gone", ["3"])], AGREED)
    assert verdict.undecided
    assert verdict.wrong == ["gone was acknowledged (config 3), and is not there"]


def test_the_order_of_rows_does_not_count_but_their_content_does() -> None:
    rows = [Config(id=name, spec=ConfigSpec(name=name, data=b"x")) for name in ("a", "b")]
    changed = [rows[0], msgspec.structs.replace(rows[1], spec=ConfigSpec(name="b", data=b"y"))]
    assert held_in(_state(rows)) == held_in(_state(rows[::-1]))
    assert held_in(_state(rows)).digest != held_in(_state(changed)).digest
    assert held_in(_state(rows)).configs == {"a": "a", "b": "b"}


def _state(configs: list[Config]) -> State:
    state = State()
    state.rows(CONFIGS).load(configs)
    reader = SnapshotReader()
    for chunk in Snapshot(state):
        for _ in reader.feed(chunk):
            pass
    return reader.finish()
