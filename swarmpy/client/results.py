"""What calls answer with, beyond the objects of the model."""

from __future__ import annotations

import enum

import msgspec

from swarmpy.model.base import Model
from swarmpy.model.cluster import Cluster, JoinTokens
from swarmpy.model.config import Config
from swarmpy.model.network import Network
from swarmpy.model.node import Node, NodeDescription
from swarmpy.model.service import Service
from swarmpy.model.states import NodeRole
from swarmpy.model.task import Task


class ServiceStatus(Model, frozen=True):
    """How many tasks are to run, run, and may be given connections."""

    desired: int = 0
    running: int = 0
    ready: int = 0


class ListedService(Model, frozen=True):
    service: Service
    status: ServiceStatus = ServiceStatus()


class Written(Model, frozen=True):
    """A service as a mutation left it, and what the manager has to say about it."""

    service: Service
    warnings: tuple[str, ...] = ()


class ClusterInfo(Model, frozen=True):
    cluster: Cluster
    leader_addr: str = ""


class ConsensusMember(Model, frozen=True):
    """A manager in the group that agrees. `state` is empty where only the leader would know the rest."""

    member_id: int
    node_id: str = ""
    hostname: str = ""
    addr: str = ""
    voter: bool = False
    leader: bool = False
    active: bool = False
    state: str = ""
    match: int = 0
    lag: int = 0
    last_contact_s: float | None = None


class Consensus(Model, frozen=True):
    """How the managers agree, as the manager that was asked sees it.

    `leader_id` 0: nobody leads; `log_full` says why writes are refused; `problem` why `members` lack what the leader
    knows of them.
    """

    node_id: str
    member_id: int
    role: str
    term: int
    leader_id: int
    leader_addr: str
    first_index: int
    last_index: int
    commit_index: int
    applied_index: int
    log_bytes: int
    log_segments: int
    snapshot_index: int
    log_full: str
    feature_level: int
    problem: str
    members: tuple[ConsensusMember, ...] = ()


class Tokens(Model, frozen=True):
    """The join tokens, and the manager's address (`host:port`) to join with them."""

    tokens: JoinTokens
    addr: str = ""


class ObjectKind(enum.IntEnum):
    """What a watch is about."""

    ANY = 0
    CLUSTER = 1
    NODE = 2
    SERVICE = 3
    TASK = 4
    CONFIG = 5
    NETWORK = 6


class Change(Model, frozen=True):
    """An object after a change; with `removed`, the last one there was."""

    object: Cluster | Node | Service | Task | Config | Network
    removed: bool = False


class Changes(Model, frozen=True):
    """The changes up to a store revision, in commit order."""

    revision: int
    changes: tuple[Change, ...] = ()


class LogLine(Model, frozen=True):
    """One line of a task's output, without its end. `at` is wall seconds."""

    task_id: str
    node_id: str
    at: float
    data: bytes
    stderr: bool = False


class LogBatch(Model, frozen=True):
    """Lines as they arrived, and sentences on what is missing (such as a node that does not answer)."""

    lines: tuple[LogLine, ...] = ()
    warnings: tuple[str, ...] = ()


class NodeInfo(Model, frozen=True):
    """What the node says of itself. `cluster_id` is empty outside of a swarm.

    `state` is inactive, joining, connected or disconnected; `missing` tells for each capability that the node
    lacks why; `problems` are sentences, such as a published port that another program holds.
    """

    node_id: str = ""
    cluster_id: str = ""
    role: NodeRole = NodeRole.WORKER
    state: str = "inactive"
    error: str = ""
    addr: str = ""
    data_addr: str = ""
    managers: tuple[str, ...] = ()
    description: NodeDescription = NodeDescription()
    dns_addr: str = ""
    metrics_addr: str = ""
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Initialised(Model, frozen=True):
    """A new cluster: this node's id, and what a worker needs to join it."""

    node_id: str
    cluster_id: str
    worker_token: str
    addr: str


class Recovered(Model, frozen=True):
    """A cluster that began anew with this node as its manager, and sentences on what it kept and what not."""

    node_id: str
    cluster_id: str
    kept: tuple[str, ...]
    addr: str = ""


class Joined(Model, frozen=True):
    node_id: str
    role: NodeRole
