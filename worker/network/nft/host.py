"""The host's table in the kernel: made or adopted, then changed by elements only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

import structlog

from swarmpy.errors import Code, SwarmError
from worker.network.nft import dump
from worker.network.nft.batch import Batch
from worker.network.nft.layout import (
    PUBLISHED,
    PUBLISHED_ANY,
    RULES,
    SELVES,
    Links,
    Place,
    Publication,
    add_layout,
    place,
    publication_elements,
    read_publication,
    self_element,
)
from worker.network.nft.sock import Netfilter

PREFIX: Final = "swarmpy_"
ASTRAY: Final = frozenset({Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
"""Refusals of a batch that is right in itself: somebody else has been there, or its answer was lost."""
log = structlog.get_logger()


class HostTable:
    """The table `swarmpy_<key>` of one node.

    What is in force outlives this process: `ensure` reads it back. Each change is one batch, applied whole or not at
    all; connections that are already translated go on as they are.

    Args:
        sock: opened in the host's network namespace.
        key: the node's.
        links: of the node's tasks.
    """

    def __init__(self, sock: Netfilter, key: str, links: Links) -> None:
        self._sock = sock
        self._table = PREFIX + key
        self._links = links
        self._is_known = False  # before the kernel was asked
        self._ports: dict[Place, Publication] = {}
        self._targets: Counter[IPv4Address] = Counter()  # how many ports lead to each task

    @property
    def name(self) -> str:
        return self._table

    @property
    def publications(self) -> frozenset[Publication]:
        """The published ports that are in force."""
        return frozenset(self._ports.values())

    def ensure(self) -> None:
        """Make the table, or take over the one that is there; call it before anything else, and now and then.

        One of another layout, or for other links, is replaced in one step; the ports in it stay published. Called
        again, it makes the table anew if somebody else has changed it (`nft flush ruleset`, for example).

        Raises:
            SwarmError: the kernel refuses.
        """
        comment = next((row.comment for row in dump.tables(self._sock) if row.name == self._table), None)
        there = () if comment is None else self._read()
        wanted = self.publications if self._is_known else frozenset(there)
        is_whole = comment == self._links.comment() and dump.count_rules(self._sock, self._table) == RULES
        if is_whole and wanted == frozenset(there):
            self._note(there)
            return
        if comment is not None or self._is_known:
            log.warning("a table is made anew", table=self._table, was=comment, is_now=self._links.comment())
        self._make(wanted)

    def _make(self, publications: Collection[Publication]) -> None:
        """Put a new table with these ports in place of what may be there."""
        batch = Batch()
        batch.add_table(self._table)  # so that the deletion always finds one
        batch.delete_table(self._table)
        add_layout(batch, self._table, self._links)
        self._add(batch, publications, {publication.target for publication in publications})
        self._sock.commit(batch)
        self._note(publications)

    def _read(self) -> Sequence[Publication]:
        found: list[Publication] = []
        for name in (PUBLISHED, PUBLISHED_ANY):
            try:
                found += map(read_publication, dump.elements(self._sock, self._table, name))
            except SwarmError as error:
                if error.code != Code.NOT_FOUND:  # a layout that had no such map
                    raise
        return found

    def _note(self, publications: Iterable[Publication]) -> None:
        self._is_known = True
        self._ports = {place(publication): publication for publication in publications}
        self._targets = Counter(publication.target for publication in self._ports.values())

    def change(self, *, add: Iterable[Publication] = (), remove: Iterable[Publication] = ()) -> None:
        """Withdraw and publish ports in one step.

        What is in force already, or is not, is no error: a call may be repeated. A port that is withdrawn and
        published in one call leads to its new target without a gap.

        Raises:
            SwarmError: ALREADY_EXISTS, a port leads to another task (nothing is changed then); or the kernel refuses.
        """
        added = frozenset(add)
        gone = {at: old for old in remove if old not in added and self._ports.get(at := place(old)) == old}
        new: dict[Place, Publication] = {}
        for publication in sorted(added):
            at = place(publication)
            there = new.get(at) or (None if at in gone else self._ports.get(at))
            if there is None:
                new[at] = publication
            elif there != publication:
                raise taken(publication, there)
        self._apply(gone, new)

    def sync(self, publications: Iterable[Publication]) -> None:
        """Make these the published ports, all of them, in one step.

        Raises:
            SwarmError: ALREADY_EXISTS, two of them are the same port; or the kernel refuses.
        """
        wanted = frozenset(publications)
        self.change(add=wanted, remove=self.publications - wanted)

    def _apply(self, gone: Mapping[Place, Publication], new: Mapping[Place, Publication]) -> None:
        more = Counter(publication.target for publication in new.values())
        more.subtract(publication.target for publication in gone.values())
        after = {target: self._targets[target] + number for target, number in more.items()}
        batch = Batch()
        self._delete(batch, gone.values(), [target for target, count in after.items() if not count])
        self._add(batch, new.values(), [target for target in after if not self._targets[target]])
        try:
            self._sock.commit(batch)
        except SwarmError as error:
            if error.code not in ASTRAY:
                raise
            log.warning("a table is not as it was left", table=self._table, error=error.message)
            self._make(self.publications)
            self._sock.commit(batch)
        for at in gone:
            del self._ports[at]
        self._ports.update(new)
        for target, count in after.items():
            self._targets[target] = count
            if not count:
                del self._targets[target]

    def _delete(self, batch: Batch, ports: Iterable[Publication], targets: Iterable[IPv4Address]) -> None:
        for name, elements in publication_elements(ports).items():
            batch.delete_elements(self._table, name, elements)
        batch.delete_elements(self._table, SELVES, [self_element(target) for target in targets])

    def _add(self, batch: Batch, ports: Iterable[Publication], targets: Iterable[IPv4Address]) -> None:
        for name, elements in publication_elements(ports).items():
            batch.add_elements(self._table, name, elements)
        batch.add_elements(self._table, SELVES, [self_element(target) for target in targets])

    def remove(self) -> None:
        """Remove the table with everything in it; one that is not there is no error."""
        delete_table(self._sock, self._table)
        self._note(())
        self._is_known = False


def delete_table(sock: Netfilter, table: str) -> None:
    """Delete a table, if it is there."""
    batch = Batch()
    batch.add_table(table)  # so that the deletion always finds one
    batch.delete_table(table)
    sock.commit(batch)


def taken(publication: Publication, there: Publication) -> SwarmError:
    return SwarmError(
        Code.ALREADY_EXISTS,
        f"{publication} cannot lead to {publication.target}:{publication.target_port}, it leads to"
        f" {there.target}:{there.target_port}; withdraw that first or choose another port",
    )
