"""Which manager a worker turns to next, and when it takes a breath."""

from __future__ import annotations

from collections.abc import Sequence

from swarmpy.errors import NotLeaderError, SwarmError


class Rota:
    """The managers in turn, but first the one that another has named as the leader.

    Those known may all have moved; one that was asked and does not lead knows where to, and its word adds to theirs.
    """

    def __init__(self) -> None:
        self._place = self._in_vain = 0
        self._named = ""
        self._heard_of: tuple[str, ...] = ()

    def next(self, managers: Sequence[str]) -> str:
        """Return the address to try; `managers` holds those known now, at least one."""
        if self._named:
            address, self._named = self._named, ""
            return address
        self._place += 1
        candidates = self._candidates(managers)
        return candidates[(self._place - 1) % len(candidates)]

    def ended(self, error: SwarmError, managers: Sequence[str], *, settled: bool) -> int:
        """Take in how a session ended; return how many rounds in a row have now been in vain, 0 to go on at once.

        Args:
            settled: it was open for a while; one that ends at once counts as one in vain.
        """
        if settled:
            self._heard_of = ()
        self._named = ""
        if isinstance(error, NotLeaderError):
            self._named, self._heard_of = error.leader, error.managers
        self._in_vain = 0 if settled else self._in_vain + 1
        rounds, rest = divmod(self._in_vain, len(self._candidates(managers)))
        return rounds if not rest else 0

    def _candidates(self, managers: Sequence[str]) -> tuple[str, ...]:
        return (*managers, *(address for address in self._heard_of if address not in managers))
