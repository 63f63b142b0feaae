"""The figures of a task, from either version of control groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.any_pb2 import Any

from worker.containerd.api import metrics_v1_pb2, metrics_v2_pb2
from worker.containerd.types import TaskMetrics

_NO_LIMIT: Final = 1 << 62
"""From here on a limit stands for none: version 1 says the largest multiple of a page, version 2 the largest number."""


def read_metrics(container_id: str, at_s: float, data: Any) -> TaskMetrics:
    """Return the figures in `data`; all zero if they are of a kind that is not known."""
    if data.type_url.endswith("io.containerd.cgroups.v1.Metrics"):
        return _version_1(container_id, at_s, metrics_v1_pb2.Metrics.FromString(data.value))
    if data.type_url.endswith("io.containerd.cgroups.v2.Metrics"):
        return _version_2(container_id, at_s, metrics_v2_pb2.Metrics.FromString(data.value))
    return TaskMetrics(container_id, at_s)


def _version_1(container_id: str, at_s: float, found: metrics_v1_pb2.Metrics) -> TaskMetrics:
    entries = found.blkio.io_service_bytes_recursive
    return TaskMetrics(
        container_id=container_id,
        at_s=at_s,
        cpu_ns=found.cpu.usage.total,
        memory_bytes=found.memory.usage.usage,
        memory_limit_bytes=_limit(found.memory.usage.limit),
        memory_cache_bytes=found.memory.total_inactive_file,
        pids=found.pids.current,
        pids_limit=_limit(found.pids.limit),
        read_bytes=_moved(entries, "read"),
        written_bytes=_moved(entries, "write"),
        oom_kills=found.memory_oom_control.oom_kill,
    )


def _version_2(container_id: str, at_s: float, found: metrics_v2_pb2.Metrics) -> TaskMetrics:
    return TaskMetrics(
        container_id=container_id,
        at_s=at_s,
        cpu_ns=found.cpu.usage_usec * 1000,
        memory_bytes=found.memory.usage,
        memory_limit_bytes=_limit(found.memory.usage_limit),
        memory_cache_bytes=found.memory.inactive_file,
        pids=found.pids.current,
        pids_limit=_limit(found.pids.limit),
        read_bytes=sum(entry.rbytes for entry in found.io.usage),
        written_bytes=sum(entry.wbytes for entry in found.io.usage),
        oom_kills=found.memory_events.oom_kill,
    )


def _moved(entries: Iterable[metrics_v1_pb2.BlkIOEntry], operation: str) -> int:
    return sum(entry.value for entry in entries if entry.op.lower() == operation)


def _limit(value: int) -> int:
    return 0 if value >= _NO_LIMIT else value
