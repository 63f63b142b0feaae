"""The cluster itself: one row that holds its settings, its root certificate and its join tokens."""

from __future__ import annotations

from typing import Final

from swarmpy.model.base import Model

DEFAULT_ADDR_POOL: Final = "10.0.0.0/8"


class RootCA(Model, frozen=True):
    """The root certificate and its key, PEM. Only managers ever see the key."""

    cert_pem: str = ""
    key_pem: str = ""
    digest: str = ""


class JoinTokens(Model, frozen=True):
    """The secrets that admit a node, in the form `SWMTKN-1-<digest of the root>-<secret>`."""

    worker: str = ""
    manager: str = ""


class ClusterSpec(Model, frozen=True):
    """The cluster's settings. `remove_dead_managers_after_s` 0: never.

    Networks without a subnet of their own get one of `default_addr_mask` bits out of `default_addr_pools` (none:
    `DEFAULT_ADDR_POOL`); both are decided when the cluster begins.
    """

    name: str = "default"
    labels: dict[str, str] = {}
    heartbeat_period_s: float = 2.0
    task_history_limit: int = 5
    node_cert_expiry_s: float = 90 * 86400.0
    snapshot_interval: int = 10_000
    keep_old_snapshots: int = 0
    remove_dead_managers_after_s: float = 0.0
    default_addr_pools: tuple[str, ...] = ()
    default_addr_mask: int = 24


class Cluster(Model, frozen=True):
    """Writer: the API; the leader's `members` loop and joining the last two.

    `feature_level` is the lowest of the managers: nothing above it is ever written. `next_raft_id` is the member id
    that the next manager gets.
    """

    id: str
    spec: ClusterSpec = ClusterSpec()
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    root_ca: RootCA = RootCA()
    join_tokens: JoinTokens = JoinTokens()
    feature_level: int = 1
    next_raft_id: int = 2
