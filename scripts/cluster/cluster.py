"""Nodes that form one cluster."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from scripts.cluster.network import Block, Network
from scripts.cluster.node import STOP_TASKS, Node
from scripts.cluster.waiting import until
from swarmpy.addresses import CONTROL_PORT
from swarmpy.client import Client
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import ClusterSpec, JoinTokens
from swarmpy.model.node import Node as NodeRow
from swarmpy.model.states import NodeRole, NodeState

KEEP_LOGS_VARIABLE: Final = "SWARMPY_KEEP_LOGS"
"""Names a directory that the nodes' logs are copied to, for a failure that has to be looked into."""


class Cluster:
    """Nodes called node1, node2 and so on: managers first, then workers. Use it by `async with`.

    The first manager makes the cluster; the others join one after the other, as each changes who has a vote, and then
    the workers, together. The end stops every node as an operator does, and removes their files.
    """

    def __init__(
        self,
        *,
        managers: int = 1,
        workers: int = 0,
        spec: ClusterSpec | None = None,
        network: Network | None = None,
        root: Path | None = None,
        state_dirs: Mapping[str, Path] = MappingProxyType({}),
        options: Sequence[str] = STOP_TASKS,
        environ: Mapping[str, str] = os.environ,
        wrap: Sequence[str] = (),
    ) -> None:
        """
        Args:
            network: where the nodes are; None takes loopback addresses of their own. The cluster closes it.
            root: where the state directories and logs go, and stay; None takes a temporary directory.
            state_dirs: by the name of a node, where it is to be in a certain place.
            options, environ, wrap: as of `Node`, for every node.
        """
        self.network = network or Block()
        # Not below a deep directory of the caller's: the path of a UNIX socket holds 107 bytes.
        self.root = root or Path(tempfile.mkdtemp(prefix="swarmpy-"))
        self.nodes: list[Node] = []
        self.managers: list[Node] = []
        self.spec = spec or ClusterSpec()
        self._sizes = (managers, workers)
        self._state_dirs = dict(state_dirs)
        self._keep_root = root is not None
        self._options = tuple(options)
        self._environ = environ
        self._wrap = tuple(wrap)

    def __getitem__(self, place: int) -> Node:
        return self.nodes[place]

    @property
    def manager(self) -> Node:
        """The first manager."""
        return self.managers[0]

    @property
    def workers(self) -> list[Node]:
        return [node for node in self.nodes if node not in self.managers]

    @property
    def client(self) -> Client:
        """A client that is kept until the end, of the first manager that runs."""
        return next(self._running_managers(), self.manager).client

    # Making it.

    async def __aenter__(self) -> Self:
        try:
            for _ in range(sum(self._sizes)):
                self.new_node().start()
            await self.form(self._sizes[0])
        except BaseException:
            await self.close()
            await asyncio.to_thread(self.discard)
            raise
        return self

    async def form(self, managers: int = 1) -> None:
        """Make a cluster of all nodes, which have been started; the first `managers` of them manage it."""
        first, *others = self.nodes
        await first.ready()
        await first.client.node.init(self.spec)
        self.managers.append(first)
        await self._listed(first, NodeRole.MANAGER)
        await self.join(others[: managers - 1], NodeRole.MANAGER)
        await self.join(others[managers - 1 :])

    async def join(self, nodes: Sequence[Node], role: NodeRole = NodeRole.WORKER) -> None:
        """Bring started nodes into the cluster; returns when all are READY, and managers have a vote."""
        if not nodes:
            return
        tokens = await self.join_tokens()
        if role is NodeRole.MANAGER:
            for node in nodes:
                await self._join(node, tokens.manager)
                await self._listed(node, NodeRole.MANAGER)
                self.managers.append(node)
        else:
            async with asyncio.TaskGroup() as group:
                for node in nodes:
                    group.create_task(self._join(node, tokens.worker))
            for node in nodes:
                await self._listed(node, NodeRole.WORKER)

    async def _join(self, node: Node, token: str) -> None:
        await node.ready()
        await node.client.node.join(self.join_address, token)

    @property
    def join_address(self) -> str:
        """The address (host:port) that nodes join at, of the first manager that runs."""
        return f"{next(self._running_managers(), self.manager).address}:{CONTROL_PORT}"

    async def join_tokens(self) -> JoinTokens:
        return (await self.client.cluster.join_tokens()).tokens

    def new_node(self, *, name: str = "") -> Node:
        """Add a node that is in no cluster yet, and not started."""
        number = len(self.nodes) + 1
        name = name or f"node{number}"
        node = Node(
            name,
            self.network.place(number),
            self._state_dirs.get(name, self.root / name),
            log_path=self.root / f"{name}.log",
            options=self._options,
            environ=self._environ,
            wrap=self._wrap,
        )
        self.nodes.append(node)
        return node

    # Asking it.

    async def rows(self) -> list[NodeRow]:
        """Return the nodes as the first manager that answers lists them.

        Raises:
            SwarmError: none does.
        """
        failure: SwarmError | None = None
        for node in self._running_managers():
            try:
                return await node.client.nodes.list(timeout_s=2.0)
            except SwarmError as error:
                failure = error
        raise failure or SwarmError(Code.UNAVAILABLE, "no manager of the cluster runs")

    async def leader(self) -> Node:
        """Return the manager that leads, waiting for one. TimeoutError: none is found."""

        async def ask() -> Node | None:
            try:
                rows = await self.rows()
            except SwarmError:
                return None
            names = {row.description.hostname for row in rows if row.manager is not None and row.manager.leader}
            return next((node for node in self._running_managers() if node.name in names), None)

        return await until(ask, what="a manager leads")

    def _running_managers(self) -> Iterator[Node]:
        return (node for node in self.managers if "manager" in node.pids())

    async def _listed(self, node: Node, role: NodeRole) -> None:
        """Wait until the managers see that a node is there in its role."""

        def is_so(row: NodeRow) -> bool:
            has_vote = row.manager is not None and not row.manager.learner
            is_there = row.description.hostname == node.name and row.state is NodeState.READY
            return is_there and (has_vote or role is NodeRole.WORKER)

        async def ask() -> bool:
            return any(is_so(row) for row in await self.rows())

        await until(ask, what=f"{node.name} is READY as a {role.name.lower()}")

    # Ending it.

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
            await asyncio.to_thread(self.stop)
        finally:
            await asyncio.to_thread(self.discard)

    async def close(self) -> None:
        """Close the clients that are kept: they belong to the event loop."""
        for node in self.nodes:
            await node.close()

    def stop(self) -> None:
        """Stop all nodes and their tasks.

        Raises:
            RuntimeError: something was left behind; it says what. Processes that were are killed.
        """
        # Workers first, but all at once: a manager that outlives a worker would move its tasks.
        for node in reversed(self.nodes):
            node.terminate()
        left = [line for node in self.nodes for line in node.stopped()]
        if left:
            raise RuntimeError("these were left behind:\n" + "\n".join(left))

    def discard(self) -> None:
        """Kill what still runs, and remove the nodes' files and places."""
        for node in self.nodes:
            node.vanish()
            if (keep := os.environ.get(KEEP_LOGS_VARIABLE)) and node.log_path.exists():
                Path(keep).mkdir(parents=True, exist_ok=True)
                shutil.copy(node.log_path, Path(keep) / f"{node.address}-{node.name}.log")
        if not self._keep_root:
            shutil.rmtree(self.root)
        self.network.close()
