"""Majorities and joint majorities, by scenarios as text in tests/testdata/raft/quorum.

    committed cfg=(1,2,3) cfgj=(3,4) idx=(10,_,12,7)     what the voters have stored, `_` being unknown
    vote cfg=(1,2,3) votes=(y,n,_)                       what they said

The values belong to the voters of `cfg`, then to those of `cfgj` that are new, in the order written. `cfgj=zero` is
a joint configuration whose second half is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from manager.raft.quorum import MAX_INDEX, Joint, Majority, VoteResult
from tests.support.scenario import check_scenario

SCENARIOS = sorted((Path(__file__).parents[3] / "testdata" / "raft" / "quorum").glob("*.txt"))
ARGUMENT = re.compile(r"(\w+)=(?:\(([^)]*)\)|(\S+))")
SAID = {"y": True, "n": False}


def execute(line: str) -> list[str]:
    given = {name: listed or word for name, listed, word in ARGUMENT.findall(line)}
    incoming = _ids(given.get("cfg", ""))
    outgoing = _ids(given["cfgj"]) if given.get("cfgj", "zero") != "zero" else []
    quorum = Joint(Majority(incoming), Majority(outgoing)) if "cfgj" in given else Majority(incoming)
    owners = list(dict.fromkeys([*incoming, *outgoing]))
    if line.split()[0] == "vote":
        votes = {i: SAID[v] for i, v in zip(owners, _words(given.get("votes", "")), strict=True) if v != "_"}
        return [quorum.vote_result(votes).value]
    acked = {i: int(v) for i, v in zip(owners, _words(given.get("idx", "")), strict=True) if v != "_"}
    index = quorum.committed_index(acked)
    assert index == quorum.committed_index(acked.get), "a mapping and a function say the same"
    return f"{quorum.describe(acked)}{'∞' if index == MAX_INDEX else index}".split("\n")


def _words(listed: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", listed) if word]


def _ids(listed: str) -> list[int]:
    return [int(word) for word in _words(listed)]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    check_scenario(path, lambda lines: [out for line in lines for out in execute(line)])


def test_a_majority_is_an_ordered_set() -> None:
    majority = Majority([3, 1, 2, 3])
    assert (list(majority), len(majority), majority.needed, str(majority)) == ([1, 2, 3], 3, 2, "(1 2 3)")
    assert 2 in majority and 4 not in majority
    assert majority == Majority((1, 2, 3)) and hash(majority) == hash(Majority((1, 2, 3)))


@pytest.mark.parametrize(("voters", "needed"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_how_many_must_agree(voters: int, needed: int) -> None:
    assert Majority(range(1, voters + 1)).needed == needed


def test_a_joint_configuration_shows_both_halves() -> None:
    assert str(Joint(Majority((1, 2)), Majority((2, 3)))) == "(1 2)&&(2 3)"
    assert str(Joint(Majority((1, 2)))) == "(1 2)"
    assert Joint(Majority((1, 2)), Majority((2, 3))).ids == {1, 2, 3}


@pytest.mark.parametrize("votes", [{}, {4: True, 5: True, 6: True}])
def test_votes_of_others_do_not_count(votes: Mapping[int, bool]) -> None:
    assert Majority((1, 2, 3)).vote_result(votes) is VoteResult.PENDING
