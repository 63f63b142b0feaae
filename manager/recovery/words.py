"""What a person is told of a cluster that begins anew: what is kept, and what is not; pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from manager.recovery.source import Source
from manager.store.state import State
from manager.store.tables import CONFIGS, NETWORKS, NODES, SERVICES, TASKS, Table
from swarmpy.model.node import Node
from swarmpy.snapshot.format import Header

TOLD: Final[tuple[Table[Any], ...]] = (NODES, SERVICES, CONFIGS, NETWORKS, TASKS)
QUORUM_LEFT: Final = 2
"""So many former managers may form a quorum without this one: two of three, three of five."""


def after_force(source: Source, revision: int, given_up: Sequence[Node], own: Node, old_log: Path) -> tuple[str, ...]:
    """Return the sentences for a manager that went on alone with what it had.

    Args:
        revision: of the state before it was changed.
        own: this node's row, as it was before.
    """
    lines = [f"kept: the state of this manager at revision {revision}: {counts(source.state)}"]
    unsure = source.index - source.committed
    if unsure:
        lines.append(
            f"kept: the last {_entries(unsure)} of its log ({source.committed + 1} to {source.index}), which it did "
            "not know to be committed: whoever wrote them may have been told that they failed"
        )
    else:
        lines.append("every entry of its log was known to be committed; what other managers committed later is lost")
    if own.manager is not None and own.manager.learner:
        lines.append("warning: this manager was catching up and had no vote: its state may be old")
    lines += _given_up(given_up)
    lines.append(f"the log before this is in {old_log}: remove it when all is well")
    return tuple(lines)


def after_restore(
    source: Source, header: Header, revision: int, given_up: Sequence[Node], addr: str
) -> tuple[str, ...]:
    """Return the sentences for a cluster that was brought back from a file."""
    saved = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(header.created_at))
    lines = [
        f"kept: the state at revision {revision}: {counts(source.state)}",
        f"kept: the swarm's id ({header.cluster.id}), root certificate and join tokens: certificates stay good",
        f"not kept: what was changed after {saved}, and the identity that this node had before",
        *_given_up(given_up),
    ]
    known = [node.manager.addr for node in given_up if node.manager is not None]
    if addr not in known and known:
        lines.append(
            f"workers look for a manager at {', '.join(known)}, and this one is at {addr}: workers that do not come "
            "back by themselves have to leave with `swarmpy swarm leave --force` and join again"
        )
    return tuple(lines)


def counts(state: State) -> str:
    """Return how many objects there are: "3 nodes, 1 service, 0 configs, 12 tasks"."""
    return ", ".join(f"{len(state.rows(t))} {t.noun}{'' if len(state.rows(t)) == 1 else 's'}" for t in TOLD)


def _given_up(nodes: Sequence[Node]) -> list[str]:
    if not nodes:
        return []
    named = ", ".join(f"{n.name} ({n.manager.addr})" if n.manager is not None else n.name for n in nodes)
    if len(nodes) == 1:
        lines = [f"given up as a manager: {named}; it is a worker from now on, and down until it comes back"]
    else:
        lines = [f"given up as managers: {named}; they are workers from now on, and down until they come back"]
    if len(nodes) >= QUORUM_LEFT:
        lines.append(
            "warning: former managers that are started again with what they stored may elect a leader of their own: "
            "remove the `manager` folder of each one's state directory first"
        )
    return lines


def _entries(count: int) -> str:
    return "entry" if count == 1 else f"{count} entries"
