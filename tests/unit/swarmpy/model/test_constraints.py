"""Placement constraints: the grammar, and which nodes meet them."""

from __future__ import annotations

import pytest

from swarmpy.errors import SwarmError
from swarmpy.model.constraints import matches, parse
from swarmpy.model.node import Node, NodeDescription, NodeSpec, Platform
from swarmpy.model.states import NodeRole

NODE = Node(
    id="abc",
    addr="10.1.2.3",
    spec=NodeSpec(role=NodeRole.MANAGER, labels={"zone": "East"}),
    description=NodeDescription(
        hostname="One", platform=Platform(os="linux", arch="x86_64"), engine_labels={"disk": "ssd"}
    ),
)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("node.id==abc", True),
        ("node.id != abc", False),
        ("node.hostname==one", True),
        ("node.role==manager", True),
        ("node.role == worker", False),
        ("node.platform.os==Linux", True),
        ("node.platform.arch!=arm64", True),
        ("node.labels.zone==east", True),
        ("node.labels.zone!=EAST", False),
        ("node.labels.rack==1", False),
        ("node.labels.rack!=1", True),
        ("engine.labels.disk==ssd", True),
        ("node.ip==10.1.2.3", True),
        ("node.ip==10.1.0.0/16", True),
        ("node.ip!=10.2.0.0/16", True),
        ("node.ip==fd00::/8", False),
    ],
)
def test_matching(text: str, met: bool) -> None:
    assert matches(parse(text), NODE) is met


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("node.id=abc", "KEY==VALUE"),
        ("", "KEY==VALUE"),
        ("node.rol==worker", "did you mean 'node.role'"),
        ("zzz==1", "the keys are node.id"),
        ("node.labels.==1", "name is missing"),
        ("node.id==", "is not a value"),
        ("node.ip==10.0.0.300", "neither an IP address nor a network"),
    ],
)
def test_what_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(SwarmError, match=sentence):
        parse(text)


def test_a_constraint_prints_as_it_is_written() -> None:
    assert str(parse("node.labels.zone == east")) == "node.labels.zone==east"
