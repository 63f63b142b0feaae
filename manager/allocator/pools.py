"""Pools of numbers: which are free, lowest first, and not the one that was given back a moment ago. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Pool:
    """The integers `first`..`last`. A number that is released goes to the end of the line.

    Names and listeners of a removed service live on in caches for a few seconds, so its number should be the
    last to be given to another one.
    """

    def __init__(self, first: int, last: int) -> None:
        self._next = first
        self._first = first
        self._last = last
        self._taken: set[int] = set()
        self._released: dict[int, None] = {}

    def take(self) -> int | None:
        """Return a free number and hold it, or None if there is none."""
        while self._next <= self._last:
            number = self._next
            self._next += 1
            if number not in self._taken and number not in self._released:
                self._taken.add(number)
                return number
        for number in self._released:
            self.hold(number)
            return number
        return None

    def hold(self, number: int) -> bool:
        """Hold this very number; False if it is held already. One outside the range may be held, too."""
        if number in self._taken:
            return False
        self._taken.add(number)
        self._released.pop(number, None)
        return True

    def release(self, number: int) -> None:
        """Give a number back; one that is not held is ignored."""
        if number not in self._taken:
            return
        self._taken.remove(number)
        if self._first <= number <= self._last:
            self._released[number] = None

    def release_all(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.release(number)
