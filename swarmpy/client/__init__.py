"""The client of a node: typed calls to its managers and to the node itself.

Owns how a call is made: request ids, deadlines, retries, pages, and the sentence that a person reads when nobody
answers. Reads the state directory's sockets (`run/control.sock`, `run/node.sock`); writes nothing on disk. Takes
and returns structs of `swarmpy.model`; protobuf messages do not leave this room.

    async with Client.connect() as client:
        written = await client.services.create(spec)
        async for changes in client.watch(service_id=written.service.id, since=written.service.version):
            ...

`BlockingClient` runs the same coroutines for programs without an event loop.
"""

from __future__ import annotations

from swarmpy.client.blocking import BlockingClient
from swarmpy.client.client import Client
from swarmpy.client.results import (
    Change,
    Changes,
    ClusterInfo,
    Consensus,
    ConsensusMember,
    Initialised,
    Joined,
    ListedService,
    LogBatch,
    LogLine,
    NodeInfo,
    ObjectKind,
    Recovered,
    ServiceStatus,
    Tokens,
    Written,
)
from swarmpy.client.selection import ConfigFilter, NetworkFilter, NodeFilter, ServiceFilter, TaskFilter

__all__ = [
    "BlockingClient",
    "Change",
    "Changes",
    "Client",
    "ClusterInfo",
    "ConfigFilter",
    "Consensus",
    "ConsensusMember",
    "Initialised",
    "Joined",
    "ListedService",
    "LogBatch",
    "LogLine",
    "NetworkFilter",
    "NodeFilter",
    "NodeInfo",
    "ObjectKind",
    "Recovered",
    "ServiceFilter",
    "ServiceStatus",
    "TaskFilter",
    "Tokens",
    "Written",
]
