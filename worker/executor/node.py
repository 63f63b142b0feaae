"""What a task may know of the node that it runs on."""

from __future__ import annotations

from dataclasses import dataclass

from swarmpy.model.node import Platform


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """`data_addr` is where the node's tasks are reached; `dns` is `host:port` of its name server, empty if none."""

    id: str
    hostname: str
    platform: Platform
    data_addr: str
    dns: str = ""
