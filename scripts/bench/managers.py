"""What the benchmarks of consensus share: a writer that never rests, and managers that are waited for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec

from scripts.cluster import Cluster, until
from scripts.cluster.node import Node
from swarmpy.client import Client
from swarmpy.errors import Code, SwarmError
from swarmpy.model.config import ConfigSpec
from swarmpy.model.node import Node as NodeRow
from swarmpy.model.states import NodeRole

DATA: Final = b"x" * 100
PATIENCE_S: Final = 60.0
_names: Final = (f"bench-{number}" for number in itertools.count(1))

Create = Callable[[str], Awaitable[None]]


def new_name() -> str:
    """Return a name that no config has got yet."""
    return next(_names)


def creating(client: Client) -> Create:
    """Return what makes a small config through the manager of `client`."""

    async def create(name: str) -> None:
        await client.configs.create(ConfigSpec(name=name, data=DATA), timeout_s=PATIENCE_S)

    return create


class Writer:
    """Makes configs, one after the other; `writes` has when each began and how long it took, in seconds."""

    def __init__(self, create: Create) -> None:
        self._create = create
        self._written = asyncio.Event()
        self.writes: list[tuple[float, float]] = []

    async def run(self) -> None:
        while True:
            began_s = time.perf_counter()
            await self._create(new_name())
            self.writes.append((began_s, time.perf_counter() - began_s))
            self._written.set()

    async def write_more(self, count: int) -> None:
        """Wait until so many more are written."""
        goal = len(self.writes) + count
        while len(self.writes) < goal:
            await self._next()

    async def gap_since(self, moment_s: float) -> float:
        """Return the seconds from a moment to the answer to the first write that began after it."""
        while not self.writes or self.writes[-1][0] < moment_s:
            await self._next()
        return next(began + took - moment_s for began, took in self.writes if began >= moment_s)

    async def _next(self) -> None:
        self._written.clear()
        await self._written.wait()

    def longest_since(self, moment_s: float) -> float:
        """Return the most seconds that a write took which ended after a moment."""
        return max(took for began, took in self.writes if began + took >= moment_s)


@contextlib.asynccontextmanager
async def writing(create: Create) -> AsyncIterator[Writer]:
    """Keep a writer at work while inside."""
    writer = Writer(create)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(writer.run())
        await writer.write_more(20)
        yield writer
        task.cancel()


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


async def whole(cluster: Cluster, client: Client) -> None:
    """Wait until every manager of the cluster has a vote, and the leader hears of it."""

    async def ask() -> bool:
        with contextlib.suppress(SwarmError):
            voters = [n.manager for n in await client.nodes.list() if n.manager is not None and not n.manager.learner]
            return len(voters) == len(cluster.managers) and all(voter.reachable for voter in voters)
        return False

    await until(ask, what="every manager votes and is reachable", deadline_s=PATIENCE_S)
    for node in cluster.managers:
        await until(lambda n=node: _serves(n), what=f"{node.name} serves", deadline_s=PATIENCE_S)  # type: ignore[misc]  # a lambda's default has no type


async def _serves(node: Node) -> bool:
    with contextlib.suppress(SwarmError):
        await node.client.nodes.list(timeout_s=2.0)
        return True
    return False


async def row_of(client: Client, node: Node) -> NodeRow:
    return next(row for row in await client.nodes.list() if row.description.hostname == node.name)


async def set_role(client: Client, node: Node, role: NodeRole) -> None:
    """Promote or demote a node, and wait until it is what it is to be."""
    while True:
        row = await row_of(client, node)
        try:
            await client.nodes.update(row, msgspec.structs.replace(row.spec, role=role))
            break
        except SwarmError as error:
            if error.code is not Code.OUT_OF_SEQUENCE:
                raise

    async def is_so() -> bool:
        manager = (await row_of(client, node)).manager
        votes = manager is not None and not manager.learner
        return votes if role is NodeRole.MANAGER else manager is None

    await until(is_so, what=f"{node.name} is a {role.name.lower()}", deadline_s=PATIENCE_S)
