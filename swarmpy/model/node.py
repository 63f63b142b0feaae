"""A node as stored: what the user says of it, what it says of itself, and whether it is there."""

from __future__ import annotations

import enum

import msgspec

from swarmpy.model.base import Model
from swarmpy.model.spec import NO_RESOURCES, Resources
from swarmpy.model.states import Availability, NodeRole, NodeState


class Capability(enum.StrEnum):
    """What a node is able to enforce or run; services that need more than a node has do not go there."""

    PROCESS = "process"
    CONTAINER = "container"
    LIMIT_MEMORY = "limit-memory"
    LIMIT_CPU = "limit-cpu"
    LIMIT_PIDS = "limit-pids"
    SWITCH_USER = "switch-user"
    LOW_PORTS = "low-ports"
    DATA_PLANE = "data-plane"
    NETWORK = "network"


class Platform(Model, frozen=True):
    os: str = ""
    arch: str = ""


class NodeSpec(Model, frozen=True):
    """What the user decides about a node."""

    name: str = ""
    labels: dict[str, str] = {}
    role: NodeRole = NodeRole.WORKER
    availability: Availability = Availability.ACTIVE


class NodeDescription(Model, frozen=True):
    """What the node says about itself in its hello.

    `container_runtime` is such as `containerd 1.6.20`, and `storage_driver` what keeps its containers' files; both are
    empty where there is none, or where it does not answer.
    """

    hostname: str = ""
    platform: Platform = Platform()
    resources: Resources = NO_RESOURCES
    engine_labels: dict[str, str] = {}
    engine_version: str = ""
    capabilities: tuple[str, ...] = ()
    container_runtime: str = ""
    storage_driver: str = ""


class ManagerStatus(Model, frozen=True):
    """A manager's place in the group that agrees. Writer: the leader's `members` loop, and joining.

    `raft_id` is its member id in Raft, never used twice; a `learner` has no vote until it has caught up.
    """

    raft_id: int = 0
    addr: str = ""
    leader: bool = False
    reachable: bool = False
    learner: bool = False
    feature_level: int = 1


class Node(Model, frozen=True):
    """Writers: `spec` the API; `description`, `state`, `message`, addresses and `boot_id` the dispatcher.

    `spec.role` says what the node is to be; `manager` says whether it is one. `version` is the store revision of the
    last change, `spec_revision` that of the last change of the spec: an update built on anything at or after it is in
    sequence.
    """

    id: str
    spec: NodeSpec = NodeSpec()
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    description: NodeDescription = NodeDescription()
    state: NodeState = NodeState.UNKNOWN
    message: str = ""
    addr: str = ""
    data_addr: str = ""
    boot_id: str = ""
    manager: ManagerStatus | None = None
    spec_revision: int = 0

    @property
    def role(self) -> NodeRole:
        """What the node is told, and certified, to be: a manager until the others have let it go."""
        return NodeRole.MANAGER if self.manager is not None else self.spec.role

    @property
    def name(self) -> str:
        """What people call the node: its given name, else its host name."""
        return self.spec.name or self.description.hostname


def with_spec(node: Node, spec: NodeSpec, *, revision: int, now_s: float) -> Node:
    """Return the node with another spec, as decided in the transaction of `revision`."""
    return msgspec.structs.replace(node, spec=spec, spec_revision=revision, updated_at=now_s)
