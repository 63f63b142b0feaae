"""The worker's figures for Prometheus, read from its parts when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from swarmpy.model.states import word
from worker.dataplane.protocol import Counters
from worker.endpoints import EndpointsLink
from worker.logs.store import LogStore
from worker.session import Session
from worker.task.runner import TaskRunner

Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily)

_PROXY_LABELS: Final = ("service", "port", "task")
_PROXY_TOTALS: Final = {
    "connections": "Connections accepted (no task) or opened to a task",
    "failed": "Connects to a task that were refused or timed out; for clients, cut by an error",
    "refused": "Clients turned away by a limit, or because no task was ready in time",
    "held": "Clients that had to wait for a ready task",
    "requests": "HTTP requests answered in full",
    "bytes_in": "Bytes from clients to tasks",
    "bytes_out": "Bytes from tasks to clients",
}


class WorkerMetrics(Collector):
    """Register with a `CollectorRegistry`; costs nothing until it is scraped."""

    def __init__(self, runner: TaskRunner, session: Session, logs: LogStore, endpoints: EndpointsLink) -> None:
        self._runner = runner
        self._session = session
        self._logs = logs
        self._endpoints = endpoints

    def collect(self) -> Iterable[Metric]:
        yield self._tasks()
        yield self._ended()
        operations = self._runner.operations
        yield CounterMetricFamily("swarmpy_worker_tasks_started", "Task processes started", operations.started)
        read_bytes, dropped = self._logs.totals
        yield CounterMetricFamily("swarmpy_worker_log_read_bytes", "Bytes that tasks printed", read_bytes)
        yield CounterMetricFamily(
            "swarmpy_worker_log_dropped_lines", "Log lines dropped for want of disk space", dropped
        )
        yield CounterMetricFamily("swarmpy_worker_sessions", "Sessions opened", self._session.sessions)
        yield GaugeMetricFamily(
            "swarmpy_worker_connected",
            "1 while a session with a manager is open",
            1 if self._session.connected_to else 0,
        )
        yield GaugeMetricFamily(
            "swarmpy_worker_endpoints_revision",
            "Newest endpoints revision that the data plane has applied",
            self._endpoints.applied[0],
        )

    def _tasks(self) -> Metric:
        family = GaugeMetricFamily("swarmpy_worker_tasks", "Tasks held, by state", labels=["state"])
        counts = Counter(status.state for status in self._runner.statuses.values())
        for state, count in sorted(counts.items()):
            family.add_metric([word(state)], count)
        return family

    def _ended(self) -> Metric:
        family = CounterMetricFamily("swarmpy_worker_tasks_ended", "Tasks ended, by final state", labels=["state"])
        for state, count in sorted(self._runner.operations.ended.items()):
            family.add_metric([word(state)], count)
        return family


class DataPlaneMetrics(Collector):
    """The data plane's figures, fetched from it by `refresh` just before they are shown."""

    def __init__(self, endpoints: EndpointsLink) -> None:
        self._endpoints = endpoints
        self._counters: Counters | None = None

    async def refresh(self) -> None:
        """Ask the data plane; while it does not answer, nothing is shown of it."""
        self._counters = await self._endpoints.counters()

    def collect(self) -> Iterable[Metric]:
        counters = self._counters
        if counters is None:
            return
        dns = CounterMetricFamily("swarmpy_dns_events", "DNS queries and cache use, by kind", labels=["kind"])
        for kind, count in sorted(counters.dns.items()):
            dns.add_metric([kind], count)
        yield dns
        for name, help_text in _PROXY_TOTALS.items():
            yield self._proxy(CounterMetricFamily(f"swarmpy_proxy_{name}", help_text, labels=_PROXY_LABELS), name)
        active = GaugeMetricFamily("swarmpy_proxy_active", "Connections open now", labels=_PROXY_LABELS)
        yield self._proxy(active, "active")
        lag = "Lateness of the data plane's timers, the worst since the last scrape"
        yield GaugeMetricFamily("swarmpy_dataplane_loop_lag_seconds", lag, counters.loop_lag_max_s)
        yield GaugeMetricFamily("swarmpy_dataplane_resident_bytes", "Memory of the data plane", counters.rss_bytes)

    def _proxy(self, family: Family, name: str) -> Family:
        assert self._counters is not None, "collect looked"
        for row in self._counters.balancer:
            port = str(row.port) if row.transport == "tcp" else f"{row.port}/{row.transport}"
            family.add_metric([row.service_id, port, row.task_id], getattr(row, name))
        return family
