"""The checker itself: histories of which it is known whether an order explains them."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.sim.raft.history import History, Kind, Operation
from tests.sim.raft.linearizability import apply, check, check_key

READ, WRITE, CAS, APPEND = Kind.READ, Kind.WRITE, Kind.CAS, Kind.APPEND


def script(text: str) -> History:
    """Build a history of key "k" from lines such as `a call write 1`, `a ok`, `b call read`, `b ok 1`."""
    history, under_way = History(), dict[str, Operation]()
    for line in text.strip().splitlines():
        who, what, *rest = line.split()
        if what == "call":
            kind = Kind(rest[0])
            expected, argument = (rest[1], rest[2]) if kind is CAS else ("", rest[1] if len(rest) > 1 else "")
            under_way[who] = history.invoke(ord(who), kind, "k", argument, expected)
        else:
            history.answer(under_way.pop(who), rest[0] if rest else "")
    return history


GOOD = {
    "nothing happened": "",
    "one after the other": "a call write 1\na ok\nb call read\nb ok 1",
    "a read sees a write under way": "a call write 1\nb call read\nb ok 1\na ok",
    "a read does not see a write under way": "a call write 1\nb call read\nb ok\na ok",
    "two writes at once, read in either order": "a call write 1\nb call write 2\na ok\nb ok\nc call read\nc ok 1",
    "a lost write comes into force late": "a call write 1\nb call read\nb ok\nc call read\nc ok 1",
    "a lost write never comes into force": "a call write 1\nb call read\nb ok\nb call read\nb ok",
    "a cas that fails": "a call write 1\na ok\nb call cas 2 3\nb ok no\nc call read\nc ok 1",
    "appends at once": "a call append x\nb call append y\na ok yx\nb ok y\nc call read\nc ok yx",
    "a lost append is seen by the next": "a call append x\nb call append y\nb ok xy",
}
BAD = {
    "a read of the past": "a call write 1\na ok\na call write 2\na ok\nb call read\nb ok 1",
    "a lost acknowledged write": "a call write 1\na ok\nb call read\nb ok",
    "a value from nowhere": "a call write 1\na ok\nb call read\nb ok 7",
    "two reads go back in time": "a call write 1\nb call read\nb ok 1\nc call read\nc ok\na ok",
    "a cas that cannot have worked": "a call write 1\na ok\nb call cas 2 3\nb ok yes",
    "a cas that should have worked": "a call write 1\na ok\nb call cas 1 3\nb ok no",
    "two swaps of one value": "a call write 1\na ok\nb call cas 1 2\nc call cas 1 3\nb ok yes\nc ok yes",
    "an append twice": "a call append x\na ok x\nb call read\nb ok xx",
    "an append lost between two": "a call append x\na ok x\nb call append y\nb ok y",
    "a lost write that was seen is forgotten": "a call write 1\nb call read\nb ok 1\nb call read\nb ok",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_history_that_an_order_explains(name: str) -> None:
    assert check(script(GOOD[name])) is None


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_no_order_explains(name: str) -> None:
    failure = check(script(BAD[name]))
    assert failure is not None
    assert "k contradict each other" in str(failure)


def test_keys_are_independent() -> None:
    history = History()
    write = history.invoke(1, WRITE, "x", "1")
    history.answer(history.invoke(2, READ, "y"), "")
    history.answer(write, "")
    history.answer(history.invoke(2, READ, "y"), "1")
    failure = check(history)
    assert failure is not None and failure.key == "y"


def brute_force(operations: list[Operation]) -> bool:
    """Try every order of every choice of the operations without an answer."""
    lost = [each for each in operations if each.returned is None]
    told = [each for each in operations if each.returned is not None]
    for count in range(len(lost) + 1):
        for chosen in itertools.combinations(lost, count):
            for order in itertools.permutations(told + list(chosen)):
                in_time = all(
                    later.returned is None or later.returned > earlier.invoked
                    for earlier, later in itertools.combinations(order, 2)
                )
                if in_time and _explains(order):
                    return True
    return False


def _explains(order: tuple[Operation, ...]) -> bool:
    value = ""
    for operation in order:
        fits, value = apply(value, operation)
        if not fits:
            return False
    return True


def random_history(rng: random.Random) -> History:
    """A few operations at once, whose answers are often right but not always."""
    history, value, under_way = History(), "", list[Operation]()
    kinds = rng.choice(([READ, APPEND], [READ, WRITE, CAS], list(Kind)))
    for number in range(rng.randint(3, 6)):
        kind = rng.choice(kinds)
        guess = rng.choice(["", "0", "1", value])
        under_way.append(history.invoke(number, kind, "k", "" if kind is READ else str(number % 2), guess))
        while under_way and rng.random() < 0.6:
            operation = under_way.pop(rng.randrange(len(under_way)))
            right, after = (value == operation.expected, operation.argument) if operation.kind is CAS else (True, "")
            if operation.kind is not CAS:
                after = apply(value, operation)[1]
            value = after if right else value
            if rng.random() < 0.2:
                continue
            told = {WRITE: "", CAS: "yes" if right else "no"}.get(operation.kind, value)
            history.answer(operation, rng.choice(["", "0", "no"]) if rng.random() < 0.15 else told)
    return history


def test_the_search_agrees_with_trying_everything() -> None:
    rng, verdicts = random.Random(7), set[bool]()
    for _ in range(4000):
        operations = random_history(rng).operations
        linearizable = check_key("k", operations) is None
        assert linearizable == brute_force(operations), "\n".join(map(str, operations))
        verdicts.add(linearizable)
    assert verdicts == {True, False}


def test_a_long_history_is_checked_quickly() -> None:
    """Twenty clients at once on one key, hundreds of operations, some without an answer: within the step limit."""
    rng, history, value, under_way = random.Random(3), History(), "", list[Operation]()
    for number in range(400):
        if len(under_way) < 20:
            kind = rng.choice([READ, WRITE, APPEND]) if number % 40 else WRITE
            under_way.append(history.invoke(number, kind, "k", "" if kind is READ else str(number % 7)))
        if len(under_way) > 10 or rng.random() < 0.5:
            operation = under_way.pop(rng.randrange(len(under_way)))
            _, value = apply(value, operation)
            if rng.random() > 0.02:
                history.answer(operation, "" if operation.kind is WRITE else value)
    assert check(history) is None
