"""How the store reaches consensus: it knows the log by this Protocol only."""

from __future__ import annotations

from typing import Protocol


class Proposer(Protocol):
    """Puts bytes into the replicated log. The leader's log hands them back through `Store.apply`."""

    async def propose(self, data: bytes) -> object:
        """Return once the entry is committed and `Store.apply` has been given it, on the store's event loop.

        Calls overlap; entries enter the log in the order of the calls. What is returned is not looked at.

        Raises:
            SwarmError: NOT_LEADER or UNAVAILABLE. The entry may be committed nevertheless, later; the store
                copes with that, since an entry says which state it was built on.
        """
