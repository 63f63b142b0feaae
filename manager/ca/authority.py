"""Issuing certificates: to whoever holds a join token, and again to nodes that are known."""

from __future__ import annotations

from dataclasses import dataclass

from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from manager.store.transaction import Transaction
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import Node, NodeDescription, NodeSpec
from swarmpy.model.states import Availability, NodeRole, NodeState
from swarmpy.security.names import NodeName
from swarmpy.security.tokens import parse_token, same_token
from swarmpy.security.x509 import Root, issue


@dataclass(frozen=True)
class Issued:
    """A certificate, PEM, and whose it is."""

    name: NodeName
    cert_pem: bytes
    root_pem: bytes


class Authority:
    """The use cases of the CA."""

    def __init__(self, store: Store, clock: Clock, random_bytes: RandomBytes) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    def root_pem(self) -> bytes:
        return self._cluster().root_ca.cert_pem.encode()

    async def admit(
        self, token: str, csr_pem: bytes, *, hostname: str, availability: Availability, request_id: str
    ) -> Issued:
        """Create a node for the holder of `token` and return its certificate.

        Raises:
            SwarmError: INVALID_ARGUMENT for a malformed token or request, PERMISSION_DENIED for a wrong token.
        """
        cluster = self._cluster()
        role = self._role_of(cluster, token)
        now_s = self._clock.now()
        fresh = new_id(self._random_bytes)
        # Signed before the row is written: a request that cannot be signed must leave nothing behind.
        self._issue(cluster, csr_pem, NodeName(cluster.id, fresh, role))

        def change(tx: Transaction) -> str:
            node = Node(
                id=fresh,
                spec=NodeSpec(role=role, availability=availability),
                description=NodeDescription(hostname=hostname),
                state=NodeState.DOWN,
                message="it has joined and not connected yet",
                created_at=now_s,
                updated_at=now_s,
                spec_revision=tx.revision,
            )
            return tx.create(NODES, node).id

        node_id = await self._store.update(change, request_id=request_id)
        return self._issue(cluster, csr_pem, NodeName(cluster.id, node_id, role))

    def renew(self, holder: NodeName, csr_pem: bytes) -> Issued:
        """Return a new certificate for a node of the cluster. PERMISSION_DENIED: the node was removed."""
        node = self._store.view().get(NODES, holder.node_id)
        cluster = self._cluster()
        if node is None or holder.cluster_id != cluster.id:
            raise SwarmError(Code.PERMISSION_DENIED, "this node was removed from the cluster")
        return self._issue(cluster, csr_pem, NodeName(cluster.id, node.id, node.role))

    def _issue(self, cluster: Cluster, csr_pem: bytes, name: NodeName) -> Issued:
        root = Root(cluster.root_ca.cert_pem.encode(), cluster.root_ca.key_pem.encode())
        life_s = cluster.spec.node_cert_expiry_s
        return Issued(name, issue(root, csr_pem, name, now_s=self._clock.now(), life_s=life_s), root.cert_pem)

    def _cluster(self) -> Cluster:
        for cluster in self._store.view().all(CLUSTERS):
            return cluster
        raise SwarmError(Code.UNAVAILABLE, "the cluster is being created: try again in a moment")

    def _role_of(self, cluster: Cluster, token: str) -> NodeRole:
        given = str(parse_token(token))
        if same_token(cluster.join_tokens.worker, given):
            return NodeRole.WORKER
        if same_token(cluster.join_tokens.manager, given):
            return NodeRole.MANAGER
        raise SwarmError(
            Code.PERMISSION_DENIED,
            "the join token is wrong or was rotated: print the present one with `swarmpy swarm join-token worker`",
        )
