"""Things that wait for the same length of time: the order of arrival is the order of the deadlines."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """A first-in first-out set whose members expire `delay_s` after they were added; each step costs O(1)."""

    __slots__ = ("_due_s", "delay_s")

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self._due_s: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._due_s)

    def __contains__(self, item: T) -> bool:
        return item in self._due_s

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._due_s))

    def add(self, item: T, now_s: float) -> None:
        """Start the wait of `item`, which must not be waiting here already."""
        assert item not in self._due_s, "an item waits once"
        self._due_s[item] = now_s + self.delay_s

    def discard(self, item: T) -> None:
        """End the wait of `item`, if it waits."""
        self._due_s.pop(item, None)

    def expired(self, now_s: float) -> list[T]:
        """Take out and return, oldest first, the items whose time is up at monotonic `now_s`."""
        taken: list[T] = []
        for item, due_s in self._due_s.items():
            if due_s > now_s:
                break
            taken.append(item)
        for item in taken:
            del self._due_s[item]
        return taken
