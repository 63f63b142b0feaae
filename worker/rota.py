"""Which manager a worker turns to next, and when it takes a breath."""

from __future__ import annotations

from collections.abc import Sequence

from swarmpy.errors import NotLeaderError, SwarmError


class Rota:
    """The managers in turn, but first the one that another has named as the leader."""

    def __init__(self) -> None:
        self._place = self._in_vain = 0
        self._named = ""

    def next(self, managers: Sequence[str]) -> str:
        """Return the address to try; `managers` holds those known now, at least one."""
        if self._named:
            address, self._named = self._named, ""
            return address
        self._place += 1
        return managers[(self._place - 1) % len(managers)]

    def ended(self, error: SwarmError, managers: Sequence[str], *, settled: bool) -> int:
        """Take in how a session ended; return how many rounds in a row have now been in vain, 0 to go on at once.

        Args:
            settled: it was open for a while; one that ends at once counts as one in vain.
        """
        self._named = error.leader if isinstance(error, NotLeaderError) else ""
        self._in_vain = 0 if settled else self._in_vain + 1
        rounds, rest = divmod(self._in_vain, len(managers))
        return rounds if not rest else 0
