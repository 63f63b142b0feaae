"""Real clusters on this machine: every node a swarmpyd with its own address and state directory, and a clean end.

    async with Cluster(managers=1, workers=2) as cluster:
        await cluster.client.services.create(...)
        cluster.workers[0].kill("worker")

The benchmarks, the demo and the end-to-end tests start their clusters here. Owns the nodes' processes, addresses and
directories, and as root, if asked for, network namespaces whose links can be cut; leaves none of them behind.
"""

from __future__ import annotations

from scripts.cluster.cluster import Cluster
from scripts.cluster.network import Block, Localhost, Namespaces, Network, can_make_namespaces
from scripts.cluster.node import ROOT, STOP_TASKS, Node, Place
from scripts.cluster.waiting import until

__all__ = [
    "ROOT",
    "STOP_TASKS",
    "Block",
    "Cluster",
    "Localhost",
    "Namespaces",
    "Network",
    "Node",
    "Place",
    "can_make_namespaces",
    "until",
]
