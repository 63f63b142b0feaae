"""Is there an order of the operations that explains every answer? Wing and Gong's search, with Lowe's memo.

Linearizability is local, so each key is checked for itself. An operation without an answer may have come into force
at any time after its call, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.sim.raft.history import History, Kind, Operation

MAX_STEPS: Final = 3_000_000


@dataclass(frozen=True, slots=True)
class Failure:
    """No order explains the answers of `key`. `reached` is the longest beginning of an order that was found."""

    key: str
    operations: tuple[Operation, ...]
    reached: tuple[Operation, ...]

    def __str__(self) -> str:
        left = [each for each in self.operations if each not in self.reached]
        lines = [f"the answers for {self.key} contradict each other; in some order, these are explained:"]
        lines.extend(f"    {each}" for each in self.reached[-12:])
        lines.append("  but then none of these can be next:")
        lines.extend(f"    {each}" for each in left[:12])
        return "\n".join(lines)


class TooHardError(Exception):
    """The search was given up; nothing is known of the history."""


def apply(value: str, operation: Operation) -> tuple[bool, str]:
    """Return whether `operation`'s answer is right when it finds `value`, and the value after it."""
    told = operation.returned is not None
    if operation.kind is Kind.READ:
        return not told or operation.result == value, value
    if operation.kind is Kind.WRITE:
        return True, operation.argument
    if operation.kind is Kind.APPEND:
        after = value + operation.argument
        return not told or operation.result == after, after
    swaps = value == operation.expected
    return not told or operation.result == ("yes" if swaps else "no"), operation.argument if swaps else value


def check(history: History) -> Failure | None:
    """Return what cannot be explained, None if the history is linearizable.

    Raises:
        TooHardError: a key's history has too many operations at once.
    """
    for key, operations in sorted(history.by_key().items()):
        failure = check_key(key, operations)
        if failure is not None:
            return failure
    return None


def check_key(key: str, operations: Sequence[Operation]) -> Failure | None:
    """Check the operations of one key; see `check`."""
    kept = [each for each in operations if each.returned is not None or _may_matter(each, operations)]
    search = _Search(kept)
    if search.run():
        return None
    return Failure(key, tuple(kept), tuple(kept[place] for place in search.best))


def _may_matter(lost: Operation, operations: Sequence[Operation]) -> bool:
    """Return whether an operation without an answer could explain another's: else it came into force last, or never."""
    told = [each for each in operations if each.returned is not None]
    kinds = {each.kind for each in operations}
    if lost.kind is Kind.READ:
        return False
    if kinds <= {Kind.READ, Kind.APPEND}:
        return any(lost.argument in each.result for each in told)
    if Kind.APPEND in kinds or any(each.kind is Kind.CAS and each.result == "no" for each in told):
        return True
    return any(lost.argument == each.result for each in told if each.kind is Kind.READ) or any(
        lost.argument == each.expected for each in operations if each.kind is Kind.CAS
    )


class _Search:
    """Depth first, over the operations in the order of their calls.

    A state is the set of operations already put in order (a bit mask) and the value after them. Only an operation that
    was called before the first missing answer may be next.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = sorted(operations, key=lambda each: each.invoked)
        self._answered = sum(1 << at for at, each in enumerate(self._operations) if each.returned is not None)
        place_of = {id(each): at for at, each in enumerate(operations)}
        self._places = [place_of[id(each)] for each in self._operations]
        self.best: list[int] = []

    def run(self) -> bool:
        seen: set[tuple[int, str]] = set()
        order: list[int] = []
        stack = [(0, "", iter(self._candidates(0)))]
        for _ in range(MAX_STEPS):
            done, value, candidates = stack[-1]
            if done & self._answered == self._answered:
                return True
            for at in candidates:
                fits, after = apply(value, self._operations[at])
                state = (done | 1 << at, after)
                if fits and state not in seen:
                    seen.add(state)
                    order.append(at)
                    stack.append((*state, iter(self._candidates(state[0]))))
                    self._note(order)
                    break
            else:
                stack.pop()
                if not stack:
                    return False
                order.pop()
        raise TooHardError(f"more than {MAX_STEPS} steps for {len(self._operations)} operations")

    def _candidates(self, done: int) -> list[int]:
        """Return who may be next: those with answers first, by their answers, then those without."""
        horizon: int | None = None
        open_: list[int] = []
        start = ((~done) & (done + 1)).bit_length() - 1  # all below it are done
        for at in range(start, len(self._operations)):
            if done >> at & 1:
                continue
            operation = self._operations[at]
            if horizon is not None and operation.invoked > horizon:
                break
            open_.append(at)
            if operation.returned is not None and (horizon is None or operation.returned < horizon):
                horizon = operation.returned
        return sorted(open_, key=self._urgency)

    def _urgency(self, at: int) -> tuple[bool, int]:
        returned = self._operations[at].returned
        return returned is None, returned or self._operations[at].invoked

    def _note(self, order: list[int]) -> None:
        if len(order) > len(self.best):
            self.best = [self._places[at] for at in order]
