"""Changes of the members, by scenarios as text in tests/testdata/raft/confchange.

A block is a command (`simple`, `enter-joint autoleave=true`, `leave-joint`, or `change auto`, `change implicit`,
`change explicit` for what a log entry asks) and a line of changes: v3 adds voter 3, l3 makes it a learner, r3 removes
it, u3 updates it. Then come the configuration and what a leader knows of each member. The log grows by one entry a
block, so that a member's `next` tells when it was first heard of.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from manager.raft import confchange
from manager.raft.confchange import Changer, Configuration
from manager.raft.quorum import Joint, Majority
from manager.raft.types import ConfChange, ConfState, MemberChange, PeerStatus, Transition
from swarmpy.errors import Code, SwarmError
from tests.support.raft_text import TRANSITIONS, changes_of
from tests.support.scenario import check_scenario

SCENARIOS = sorted((Path(__file__).parents[3] / "testdata" / "raft" / "confchange").glob("*.txt"))


class Session:
    """Carries out a scenario's blocks on one configuration."""

    def __init__(self) -> None:
        self._config = Configuration()
        self._peers: dict[int, PeerStatus] = {}
        self._last_index = 0

    def execute(self, lines: list[str]) -> list[str]:
        words = lines[0].split()
        changes = changes_of(lines[1].split()) if len(lines) > 1 else ()
        try:
            self._config = self._change(words, changes)
            self._peers = confchange.follow(self._peers, self._config, self._last_index)
        except SwarmError as error:
            assert error.code is Code.FAILED_PRECONDITION
            return [str(error)]
        finally:
            self._last_index += 1
        return [str(self._config), *confchange.describe(self._peers).splitlines()]

    def _change(self, words: list[str], changes: tuple[MemberChange, ...]) -> Configuration:
        changer = Changer(self._config)
        match words[0]:
            case "simple":
                return changer.simple(changes)
            case "enter-joint":
                return changer.enter_joint("autoleave=true" in words, changes)
            case "leave-joint":
                return changer.leave_joint()
            case "change":
                return confchange.apply(self._config, ConfChange(changes, TRANSITIONS[words[1]]))
            case other:
                raise AssertionError(f"no command {other}")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    check_scenario(path, Session().execute)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Configuration(Joint(Majority((1,))), learners=frozenset({1})), r"\(1\) are voters and learners"),
        (
            lambda: Configuration(Joint(Majority((1,)), Majority((2,))), learners=frozenset({2})),
            r"\(2\) are voters and learners",
        ),
        (lambda: Configuration(Joint(Majority((1,))), learners_next=frozenset({2})), "no outgoing voters"),
        (
            lambda: Configuration(Joint(Majority((1,)), Majority((1,))), learners_next=frozenset({1})),
            "but incoming voters",
        ),
        (lambda: Configuration(Joint(Majority(), Majority((1,)))), "has no incoming voters"),
        (lambda: Configuration(Joint(Majority((1,))), auto_leave=True), "is to be left by itself"),
        (lambda: Configuration(Joint(Majority((0, 1)))), "0 means nobody"),
    ],
)
def test_a_configuration_that_breaks_the_rules_cannot_be_made(make: Callable[[], Configuration], what: str) -> None:
    with pytest.raises(SwarmError, match=what) as caught:
        make()
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_a_stored_configuration_comes_back() -> None:
    stored = ConfState((1, 2), (4, 5), (2, 3), (3,), auto_leave=True)
    config = Configuration.from_conf_state(stored)
    assert str(config) == "voters=(1 2)&&(2 3) learners=(4 5) learners_next=(3) autoleave"
    assert config.to_conf_state() == stored
    assert config.members == {1, 2, 3, 4, 5}
    assert Configuration.from_conf_state(ConfState()).to_conf_state() == ConfState()


@pytest.mark.parametrize(
    "change",
    [
        ConfChange(),
        ConfChange(changes_of(["v1", "l2", "r3", "u4"]), Transition.JOINT_EXPLICIT),
        ConfChange(changes_of(["r18446744073709551615"]), Transition.JOINT_IMPLICIT),
    ],
)
def test_a_change_is_read_as_it_was_written(change: ConfChange) -> None:
    assert confchange.decode(confchange.encode(change)) == change


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xa1x", b"\x81\xaatransition\x09", b"\x80\x80"])
def test_bytes_that_are_no_change_are_refused(data: bytes) -> None:
    with pytest.raises(SwarmError, match="no change of the members") as caught:
        confchange.decode(data)
    assert caught.value.code is Code.CORRUPT
