"""What `swarm init` leaves for the manager that it starts: the first rows of the new cluster."""

from __future__ import annotations

from typing import Final

from swarmpy.model.base import Model
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import Node

SEED_FILE: Final = "seed.msgpack"


class ClusterSeed(Model, frozen=True):
    """The rows that the first manager stores once it leads for the first time. It then deletes the file."""

    cluster: Cluster
    node: Node
