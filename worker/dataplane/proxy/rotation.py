"""Whose turn it is: strict round robin, with a short rest for members that failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Rotation(Generic[T]):
    """A ring of n members: while the set is stable and none rests, any n picks in a row hit each once."""

    __slots__ = ("_resting", "_ring")

    def __init__(self) -> None:
        self._ring: deque[T] = deque()
        self._resting: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._ring)

    def replace(self, members: Iterable[T]) -> None:
        """Make `members` the set: those that stay keep their turn, new ones come last, in the order given."""
        wanted = dict.fromkeys(members)
        kept = [member for member in self._ring if member in wanted]
        known = set(kept)
        self._ring = deque(kept + [member for member in wanted if member not in known])
        self._resting = {member: until_s for member, until_s in self._resting.items() if member in wanted}

    def rest(self, member: T, until_s: float) -> None:
        """Pass `member` over until monotonic time `until_s`, unless nothing else is left."""
        if member in self._ring:
            self._resting[member] = until_s

    def pick(self, now_s: float, tried: Collection[T] = ()) -> T | None:
        """Return the member whose turn it is and move on; None if each one is in `tried` or there is none."""
        ring = self._ring
        if not ring:
            return None
        if not tried and not self._resting:
            ring.rotate(-1)
            return ring[-1]
        self._resting = {member: until_s for member, until_s in self._resting.items() if until_s > now_s}
        candidates = [member for member in ring if member not in tried]
        awake = [member for member in candidates if member not in self._resting]
        chosen = next(iter(awake or candidates), None)
        if chosen is not None:
            # Those passed over stay ahead: their turn comes as soon as they are fit again.
            ring.remove(chosen)
            ring.append(chosen)
        return chosen
