"""What a manager shows on /metrics, read from the store and the log when it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from operator import attrgetter

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from manager.raft.types import Role, Status
from manager.store.store import Store
from manager.store.tables import NODES, SERVICES, TASKS
from swarmpy.model.states import word


class ManagerCollector(Collector):
    """Counts objects by state. Asked rarely, so it counts then rather than at every change."""

    def __init__(self, store: Store, raft: Callable[[], Status]) -> None:
        self._store = store
        self._raft = raft

    def collect(self) -> Iterator[Metric]:
        view = self._store.view()
        tasks = GaugeMetricFamily("swarmpy_manager_tasks", "Tasks by state.", labels=["state"])
        for state, count in Counter(map(attrgetter("state"), view.all(TASKS))).items():
            tasks.add_metric([word(state)], count)
        yield tasks
        nodes = GaugeMetricFamily("swarmpy_manager_nodes", "Nodes by state.", labels=["state"])
        for node_state, count in Counter(n.state for n in view.all(NODES)).items():
            nodes.add_metric([word(node_state)], count)
        yield nodes
        yield GaugeMetricFamily("swarmpy_manager_services", "Services.", value=len(view.all(SERVICES)))
        yield GaugeMetricFamily("swarmpy_manager_revision", "Revision of the store.", value=view.revision)
        status = self._raft()
        yield GaugeMetricFamily("swarmpy_raft_leads", "1 on the manager that leads.", value=status.role is Role.LEADER)
        yield GaugeMetricFamily("swarmpy_raft_term", "Present term.", value=status.term)
        yield GaugeMetricFamily("swarmpy_raft_commit_index", "Last committed entry.", value=status.commit_index)
        yield GaugeMetricFamily("swarmpy_raft_applied_index", "Last applied entry.", value=status.applied_index)
        yield GaugeMetricFamily("swarmpy_raft_log_bytes", "Size of the log on disk.", value=status.log_bytes)
        lag = GaugeMetricFamily(
            "swarmpy_raft_member_lag", "Entries that a member is behind; known to the leader.", labels=["member"]
        )
        for peer in status.peers:
            lag.add_metric([str(peer.member_id)], max(0, status.last_index - peer.match))
        yield lag


def registry(store: Store, raft: Callable[[], Status]) -> tuple[CollectorRegistry, Gauge]:
    """Return a registry of its own for this manager, and the gauge of its event loop's lag."""
    metrics = CollectorRegistry()
    metrics.register(ManagerCollector(store, raft))
    lag = Gauge("swarmpy_manager_loop_lag_seconds", "Lateness of the main event loop's timers.", registry=metrics)
    return metrics, lag
