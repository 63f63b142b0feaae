"""The rules that a spec must keep: pure functions that return every problem at once, each with its field's path.

What is known but has no effect in this release is refused ("not supported yet"), never ignored.
"""

from __future__ import annotations

from swarmpy.model.validate.cluster import validate_cluster_spec
from swarmpy.model.validate.config import validate_config_spec
from swarmpy.model.validate.network import validate_network_spec
from swarmpy.model.validate.node import validate_node_spec
from swarmpy.model.validate.service import validate_service

__all__ = [
    "validate_cluster_spec",
    "validate_config_spec",
    "validate_network_spec",
    "validate_node_spec",
    "validate_service",
]
