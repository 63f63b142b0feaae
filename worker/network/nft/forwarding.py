"""Accept rules for tasks among another firewall's: Docker, for one, has the host drop what it does not forward itself.

What one base chain drops no other can let through, so the rules go where the dropping is done: into iptables' chain
FORWARD, in nf_tables by netlink, in the older tables (`legacy`) by their program. They come right after Docker's jump
to DOCKER-USER, so that what an administrator forbids there stays forbidden. When Docker starts again it puts its own
rules above ours; none of those speaks of our links.
"""

from __future__ import annotations

from typing import Final

from worker.network.nft import dump
from worker.network.nft.batch import IPV4, Batch, Hook
from worker.network.nft.expressions import ACCEPT, Counter
from worker.network.nft.legacy import LegacyTables
from worker.network.nft.phrases import comes_from, leaves_by
from worker.network.nft.sock import Netfilter

TABLE: Final = "filter"
CHAIN: Final = "FORWARD"
USER_CHAIN: Final = "DOCKER-USER"
FAMILIES: Final = {"ip": IPV4, "inet": 1}
DROPS: Final = 0


class Forwarding:
    """The accept rules of one node, known by their comment `swarmpy_<key>`.

    Args:
        sock: opened in the host's network namespace.
        key: the node's.
        prefix: what the host ends of tasks' links begin with.
        legacy: the older tables of that namespace.
    """

    def __init__(self, sock: Netfilter, key: str, prefix: str, *, legacy: LegacyTables) -> None:
        self._sock = sock
        self._mark = f"swarmpy_{key}"
        self._prefix = prefix
        self._legacy = legacy

    def ensure(self) -> tuple[str, ...]:
        """Put the rules where they are missing; call it again now and then, for Docker may be started later.

        Returns:
            Sentences about what drops tasks' packets and is left alone.

        Raises:
            SwarmError: the kernel refuses.
        """
        rules = dump.rules(self._sock, TABLE, CHAIN)
        forward = self._forward()
        if forward is not None and [rule.comment for rule in rules].count(self._mark) != 2:
            batch = Batch()
            self._delete(batch, rules)
            above = next((rule.handle for rule in rules if USER_CHAIN in rule.goes_to), 0)
            for phrase in (comes_from(self._prefix), leaves_by(self._prefix)):
                batch.add_rule(TABLE, CHAIN, *phrase, Counter(), ACCEPT, comment=self._mark, after=above)
            self._sock.commit(batch)
        return (*self._legacy.ensure(self._mark, self._prefix), *self._others())

    def remove(self) -> None:
        """Remove the rules; without any there is nothing to do."""
        batch = Batch()
        self._delete(batch, dump.rules(self._sock, TABLE, CHAIN))
        self._sock.commit(batch)
        self._legacy.remove(self._mark)

    def _delete(self, batch: Batch, rules: list[dump.RuleRow]) -> None:
        for rule in rules:
            if rule.comment == self._mark:
                batch.delete_rule(TABLE, CHAIN, rule.handle)

    def _forward(self) -> dump.ChainRow | None:
        return next((row for row in dump.chains(self._sock) if (row.table, row.name) == (TABLE, CHAIN)), None)

    def _others(self) -> list[str]:
        return [
            f"chain {row.name} of the nf_tables table {family} {row.table} drops what it does not know, tasks' packets"
            f' too; add to it: iifname "{self._prefix}*" accept; oifname "{self._prefix}*" accept'
            for family, number in FAMILIES.items()
            for row in dump.chains(self._sock, number)
            if row.hook == Hook.FORWARD and row.policy == DROPS
            if (family, row.table, row.name) != ("ip", TABLE, CHAIN)
        ]
