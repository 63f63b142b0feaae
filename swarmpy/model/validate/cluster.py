"""The rules for the cluster's settings."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Final

from swarmpy import units
from swarmpy.errors import Problem
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.validate.checks import at_least, labels
from swarmpy.model.validate.network import NARROWEST, WIDEST, check_subnet

MIN_HEARTBEAT_S: Final = 0.1
MAX_HEARTBEAT_S: Final = 600.0
MIN_DEAD_S: Final = 60.0
MIN_CERT_EXPIRY_S: Final = 3600.0
_NAME: Final = "default"


def validate_cluster_spec(spec: ClusterSpec) -> list[Problem]:
    """Return every problem of the cluster's settings."""
    return list(_problems(spec))


def _problems(spec: ClusterSpec) -> Iterator[Problem]:
    if spec.name != _NAME:
        yield Problem("name", f"{spec.name!r} cannot be set: a cluster's name is always {_NAME!r}")
    yield from labels("labels", spec.labels)
    if not MIN_HEARTBEAT_S <= spec.heartbeat_period_s <= MAX_HEARTBEAT_S:
        yield Problem(
            "heartbeat_period_s",
            f"{spec.heartbeat_period_s:g}s is out of range: give {units.format_duration(MIN_HEARTBEAT_S)} to "
            f"{units.format_duration(MAX_HEARTBEAT_S)}",
        )
    yield from at_least("task_history_limit", spec.task_history_limit, 0)
    if not MIN_CERT_EXPIRY_S <= spec.node_cert_expiry_s < float("inf"):
        yield Problem("node_cert_expiry_s", f"{spec.node_cert_expiry_s:g}s is too short: give one hour (1h) or more")
    yield from at_least("snapshot_interval", spec.snapshot_interval, 1, "log entries between two snapshots")
    if spec.remove_dead_managers_after_s and not MIN_DEAD_S <= spec.remove_dead_managers_after_s < float("inf"):
        yield Problem(
            "remove_dead_managers_after_s",
            f"{spec.remove_dead_managers_after_s:g}s is too short: give a minute (1m) or more, or 0 for never",
        )
    yield from at_least("keep_old_snapshots", spec.keep_old_snapshots, 0)
    yield from _pools(spec)


def _pools(spec: ClusterSpec) -> Iterator[Problem]:
    pools: list[IPv4Network] = []
    for number, text in enumerate(spec.default_addr_pools):
        path = f"default_addr_pools[{number}]"
        problems = list(check_subnet(path, text))
        yield from problems
        if problems:
            continue
        pool = IPv4Network(text)
        overlapped = next((other for other in pools if other.overlaps(pool)), None)
        if overlapped is not None:
            yield Problem(path, f"{pool} overlaps {overlapped}: drop one")
        elif pool.prefixlen > spec.default_addr_mask:
            yield Problem(path, f"{pool} has no room for a subnet of /{spec.default_addr_mask}: give a larger pool")
        pools.append(pool)
    if not WIDEST <= spec.default_addr_mask <= NARROWEST:
        yield Problem("default_addr_mask", f"{spec.default_addr_mask} is out of range: give {WIDEST} to {NARROWEST}")
