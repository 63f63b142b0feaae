"""The table of a task that is on internal networks only: it is reached by its way out, and begins nothing there."""

from __future__ import annotations

from typing import Final

from worker.network.nft import dump
from worker.network.nft.batch import Base, Batch, Hook
from worker.network.nft.expressions import CT_NEW, Reject
from worker.network.nft.phrases import in_state, leaves_by
from worker.network.nft.sock import Netfilter

TABLE: Final = "swarmpy-enclosure"
LAYOUT: Final = "swarmpy enclosure 1"
OUTPUT: Final = "output"


def enclose(sock: Netfilter, interface: str) -> None:
    """Refuse every connection that begins in this namespace and leaves by `interface`; may be repeated.

    Args:
        sock: opened in the task's namespace.

    Raises:
        SwarmError: the kernel refuses.
    """
    comment = f"{LAYOUT} {interface}"
    there = next((row.comment for row in dump.tables(sock) if row.name == TABLE), None)
    if there == comment:
        return
    batch = Batch()
    if there is not None:
        batch.delete_table(TABLE)
    batch.add_table(TABLE, comment)
    batch.add_chain(TABLE, OUTPUT, Base("filter", Hook.OUTPUT, 0))
    # With its closing zero the name is no beginning of another.
    batch.add_rule(TABLE, OUTPUT, *leaves_by(f"{interface}\0"), *in_state(CT_NEW), Reject())
    sock.commit(batch)
