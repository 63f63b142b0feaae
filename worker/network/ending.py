"""Takes what a node's networks have made off the machine, when it ends with its tasks; the worker is gone by then."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from swarmpy.daemon.publishing import LED
from swarmpy.errors import SwarmError
from worker.network.link import names
from worker.network.link.ability import why_unsupported
from worker.network.link.links import Links
from worker.network.link.place import Place
from worker.network.nft.forwarding import Forwarding
from worker.network.nft.host import PREFIX, delete_table
from worker.network.nft.ingress import PREFIX as PORTS_PREFIX
from worker.network.nft.legacy import LegacyTables
from worker.network.nft.sock import NetfilterSocket

_NOWHERE: Final = IPv4Address("127.0.0.1")


def end_networks(state_dir: Path, key: str) -> list[str]:
    """Remove links, namespaces, table and rules of the node; return a sentence for each that could not be.

    Args:
        key: the node's, which all their names follow from.
    """
    place = Place(state_dir, key, _NOWHERE)
    if why_unsupported() or not place.gateway_record.exists():
        return []  # no task of this node was ever joined
    problems = []
    ends: tuple[Callable[[Place], None], ...] = (_end_links, _end_rules)
    for end in ends:
        try:
            end(place)
        except SwarmError as error:
            problems.append(error.message)
    if not problems:
        shutil.rmtree(place.wiring, ignore_errors=True)
        (state_dir / "run" / LED).unlink(missing_ok=True)
    return problems


def _end_links(place: Place) -> None:
    with Links(place, clock=time.monotonic) as links:
        links.clear()


def _end_rules(place: Place) -> None:
    with NetfilterSocket.open() as sock:
        delete_table(sock, f"{PREFIX}{place.key}")
        delete_table(sock, f"{PORTS_PREFIX}{place.key}")
        Forwarding(sock, place.key, names.prefix(place.key), legacy=LegacyTables()).remove()
