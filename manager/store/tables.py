"""What is stored: one typed constant a table, with its indexes. Numbers are in the log and never reused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Generic, Protocol, TypeVar

from swarmpy.model.cluster import Cluster
from swarmpy.model.config import Config
from swarmpy.model.network import Network
from swarmpy.model.node import Node
from swarmpy.model.service import Service, ServiceVersion
from swarmpy.model.task import Task


class Row(Protocol):
    """What every stored object has. `version` is the revision that wrote it; the store sets it."""

    @property
    def id(self) -> str: ...
    @property
    def version(self) -> int: ...


T = TypeVar("T", bound=Row)


@dataclass(frozen=True, slots=True)
class By(Generic[T]):
    """An index: rows by a key made from the row. `normalize` is put on keys that are asked for, too.

    With `slot`, the index is grouped: a second index named `slot` finds the rows of `<key>/<slot>` at no
    further cost in memory (a million tasks could not afford one container for each slot).
    """

    name: str
    key: Callable[[T], str]
    unique: bool = False
    normalize: Callable[[str], str] | None = None
    slot: Callable[[T], int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Table(Generic[T]):
    """A table's name, its number in the log, the type of its rows and its indexes.

    `shared_texts` and `shared_values` name the fields, strings and others, whose values many rows have in common:
    equal ones become one object (see `sharing`).
    """

    number: int
    name: str
    noun: str
    row: type[T]
    indexes: tuple[By[T], ...] = ()
    shared_texts: tuple[str, ...] = ()
    shared_values: tuple[str, ...] = ()


MANAGERS, WORKERS = "managers", "workers"
"""Keys of the nodes' index `group`."""

CLUSTERS: Final[Table[Cluster]] = Table(1, "clusters", "cluster", Cluster)
NODES: Final[Table[Node]] = Table(
    2,
    "nodes",
    "node",
    Node,
    (
        By("name", lambda node: node.name.casefold(), normalize=str.casefold),
        By("group", lambda node: WORKERS if node.manager is None else MANAGERS),
    ),
)
SERVICES: Final[Table[Service]] = Table(
    3,
    "services",
    "service",
    Service,
    (By("name", lambda service: service.name.casefold(), unique=True, normalize=str.casefold),),
)
SERVICE_VERSIONS: Final[Table[ServiceVersion]] = Table(
    4,
    "service_versions",
    "service version",
    ServiceVersion,
    (By("service_id", attrgetter("service_id")),),
    shared_texts=("service_id",),
)
TASKS: Final[Table[Task]] = Table(
    5,
    "tasks",
    "task",
    Task,
    (By("service_id", attrgetter("service_id"), slot=attrgetter("slot")), By("node_id", attrgetter("node_id"))),
    shared_texts=("service_id", "node_id", "message", "desired_reason", "pending_reason", "not_ready_reason"),
    shared_values=("slot", "version", "created_at", "host_ports"),
)
CONFIGS: Final[Table[Config]] = Table(
    6,
    "configs",
    "config",
    Config,
    (By("name", lambda config: config.name.casefold(), unique=True, normalize=str.casefold),),
)
NETWORKS: Final[Table[Network]] = Table(
    7,
    "networks",
    "network",
    Network,
    (By("name", lambda network: network.name.casefold(), unique=True, normalize=str.casefold),),
)

TABLES: Final[tuple[Table[Any], ...]] = (
    CLUSTERS,
    NODES,
    SERVICES,
    SERVICE_VERSIONS,
    TASKS,
    CONFIGS,
    NETWORKS,
)
