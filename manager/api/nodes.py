"""Use cases of nodes: list, change what the user decides, remove."""

from __future__ import annotations

from collections.abc import Callable

from manager.api.paging import Rows, has_labels, has_prefix, read_page
from manager.api.resolve import find_node
from manager.api.sequence import check_in_sequence
from manager.store.store import Store
from manager.store.tables import NODES
from manager.store.transaction import Transaction
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.clock import Clock
from swarmpy.errors import InvalidSpecError, precondition
from swarmpy.model.node import Node, NodeSpec, with_spec
from swarmpy.model.states import NodeRole, NodeState
from swarmpy.model.validate import validate_node_spec


class Nodes:
    """What a user may do with nodes."""

    def __init__(self, store: Store, clock: Clock, why_needed: Callable[[Node], str | None]) -> None:
        """
        Args:
            why_needed: returns why the cluster cannot do without a node's manager; None if it can.
        """
        self._store = store
        self._clock = clock
        self._why_needed = why_needed

    def get(self, ref: str) -> Node:
        return find_node(self._store.view(), ref)

    def list(self, wanted: pb.NodeFilter, page: pb.Page) -> Rows[Node]:
        """Return one page of the nodes that pass the filter."""
        ids, names, labels = tuple(wanted.ids), tuple(wanted.names), dict(wanted.labels)
        roles, availabilities = set(wanted.roles), set(wanted.availabilities)

        def is_wanted(node: Node) -> bool:
            return (
                has_prefix(node.id, ids)
                and has_prefix(node.name, names)
                and has_labels(node.spec.labels, labels)
                and (not roles or int(node.spec.role) in roles)
                and (not availabilities or int(node.spec.availability) in availabilities)
            )

        return read_page(self._store.view(), NODES, page, is_wanted)

    async def update(self, node_id: str, version: int, spec: NodeSpec, request_id: str) -> Node:
        """Replace what the user decides about a node.

        Raises:
            SwarmError: OUT_OF_SEQUENCE where the spec changed since `version`; FAILED_PRECONDITION where it is to be
                a manager no more, and too few would be left.
        """
        problems = validate_node_spec(spec)
        if problems:
            raise InvalidSpecError(problems)
        now_s = self._clock.now()

        def change(tx: Transaction) -> Node:
            node = find_node(tx, node_id)
            check_in_sequence(f"node {node.name}", version, node.spec_revision)
            if spec.role is NodeRole.WORKER and node.spec.role is NodeRole.MANAGER:
                reason = self._why_needed(node)
                if reason is not None:
                    raise precondition(reason)
            return tx.update(NODES, with_spec(node, spec, revision=tx.revision, now_s=now_s))

        return await self._store.update(change, request_id=request_id)

    async def remove(self, ref: str, request_id: str, *, force: bool) -> str:
        """Take a node out of the cluster: its certificate is refused from now on. Returns its id.

        Raises:
            SwarmError: FAILED_PRECONDITION for a manager, or for a node that is not DOWN unless forced.
        """

        def change(tx: Transaction) -> str:
            node = find_node(tx, ref)
            if node.role is NodeRole.MANAGER:
                raise precondition(f"node {node.name} is a manager and cannot be removed: demote it first")
            if node.state is not NodeState.DOWN and not force:
                raise precondition(
                    f"node {node.name} is not down: run `swarmpy swarm leave` on it first, or use --force"
                )
            tx.delete(NODES, node.id)
            return node.id

        return await self._store.update(change, request_id=request_id)
