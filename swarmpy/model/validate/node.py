"""The rules for what a user decides about a node."""

from __future__ import annotations

from swarmpy.errors import Problem
from swarmpy.model.node import NodeSpec
from swarmpy.model.validate.checks import labels
from swarmpy.model.validate.names import node_name


def validate_node_spec(spec: NodeSpec) -> list[Problem]:
    """Return every problem of a node's spec."""
    return [*node_name("name", spec.name), *labels("labels", spec.labels)]
