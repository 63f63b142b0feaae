"""How many connections a service may hold, and which idle one makes room for a new one."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

from worker.dataplane.proxy.api import Limits

_LOOKS: Final = 16


class Holder(Protocol):
    """A client connection as the room of its service counts it."""

    def total_bytes(self) -> int:
        """Return a number that changes whenever bytes move."""

    def awaits_answer(self) -> bool:
        """Whether the backend owes it something, so that it is not idle however long it is silent."""


H = TypeVar("H", bound=Holder)


def share(limits: Limits, *, connections: int) -> int:
    """Return how many connections one service may hold while there are `connections` of all services.

    As many as are left: a service by itself gets half of the whole, one that comes later half of the rest, and a
    newcomer always gets some. One that has more than is left, as others came, gets no new ones; so as connections
    end, n services that want all they can have come to a part in n + 1 each.
    """
    left = limits.max_connections - connections
    most = limits.max_connections_per_service
    return left if most is None else min(left, most)


class Holders(Generic[H]):
    """The connections of a service, ordered by when they were accepted or last looked at.

    Nothing is noted while bytes move. `idle` looks at a few of those looked at longest ago: one whose byte count
    has changed since then gets a second chance, and a place at the end.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[H, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, holder: H, now_s: float) -> None:
        """Count a connection accepted at monotonic `now_s`."""
        self._seen[holder] = (0, now_s)

    def remove(self, holder: H) -> None:
        """Count it no more."""
        del self._seen[holder]

    def idle(self, now_s: float, idle_s: float) -> H | None:
        """Return a connection that is known to have moved no byte for `idle_s`; None if the few looked at have.

        The number of looks is bounded, so a flood of new connections costs the same however many there are.
        """
        seen = self._seen
        for _ in range(min(_LOOKS, len(seen))):
            holder, (before_bytes, since_s) = next(iter(seen.items()))
            total_bytes = holder.total_bytes()
            if total_bytes != before_bytes or holder.awaits_answer():
                since_s = now_s
            elif now_s - since_s >= idle_s:
                return holder
            seen[holder] = (total_bytes, since_s)
            seen.move_to_end(holder)
        return None
