"""Placing a group of equal tasks: O((nodes + tasks) log nodes). Pure."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manager.scheduler.filters import Demand, room, why_not
from manager.scheduler.fleet import NodeInfo

Rank = tuple[bool, int, int, str]


@dataclass(frozen=True)
class Placement:
    """Where the tasks go, by task id, and why the others wait."""

    nodes: Mapping[str, str]
    waiting: Sequence[str] = ()
    reason: str = ""


def place(demand: Demand, task_ids: Sequence[str], nodes: Mapping[str, NodeInfo], now_s: float) -> Placement:
    """Spread tasks of one service version over the nodes that may take them.

    A task goes to the node with the fewest tasks of the service, then the fewest tasks at all, then the lowest
    id; nodes where this version keeps failing come last. `nodes` is not changed.

    Args:
        now_s: wall seconds, for the failures' age.
    """
    refused: Counter[str] = Counter()
    heap: list[tuple[Rank, int, NodeInfo]] = []
    for node_id, info in nodes.items():
        reason = why_not(demand, info)
        if reason is not None:
            refused[reason] += 1
            continue
        service_id = demand.need.service_id
        failing = info.fails_often(demand.version.id, now_s)
        rank = (failing, info.of_service[service_id], info.tasks, node_id)
        heap.append((rank, room(demand, info, len(task_ids)), info))
    heapq.heapify(heap)
    chosen: dict[str, str] = {}
    for task_id in task_ids:
        if not heap:
            break
        (failing, of_service, tasks, node_id), left, info = heap[0]
        chosen[task_id] = node_id
        if left > 1:
            heapq.heapreplace(heap, ((failing, of_service + 1, tasks + 1, node_id), left - 1, info))
        else:
            heapq.heappop(heap)
            refused[_full(demand)] += 1
    waiting = [t for t in task_ids if t not in chosen]
    return Placement(chosen, waiting, explain(refused) if waiting else "")


def explain(refused: Mapping[str, int]) -> str:
    """Return why no node is left: `no suitable node (insufficient resources on 3 nodes; ...)`."""
    if not refused:
        return "no suitable node (there is no node)"
    counts = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{reason} on {count} {'node' if count == 1 else 'nodes'}" for reason, count in counts]
    return f"no suitable node ({'; '.join(parts)})"


def _full(demand: Demand) -> str:
    """Return why a node that has just taken its last task takes no more."""
    if demand.need.host_ports:
        return "host-mode port already in use"
    if demand.version.task.placement.max_replicas and not (
        demand.need.reservations.nano_cpus or demand.need.reservations.memory_bytes
    ):
        return "max replicas per node reached"
    return "insufficient resources"
