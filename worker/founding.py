"""Founding a cluster: the identity of its first manager, and the rows that the manager is to store."""

from __future__ import annotations

from dataclasses import dataclass

from swarmpy.clock import Clock
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model import features
from swarmpy.model.cluster import Cluster, ClusterSpec, JoinTokens, RootCA
from swarmpy.model.node import ManagerStatus, Node, NodeDescription, NodeSpec
from swarmpy.model.seed import ClusterSeed
from swarmpy.model.states import Availability, NodeRole, NodeState
from swarmpy.security.identity import Identity
from swarmpy.security.names import NodeName
from swarmpy.security.tokens import new_token, root_digest


@dataclass(frozen=True)
class Founding:
    """All that a new cluster begins with."""

    identity: Identity
    seed: ClusterSeed


def found_cluster(
    *,
    clock: Clock,
    random_bytes: RandomBytes,
    spec: ClusterSpec,
    availability: Availability,
    hostname: str,
    advertise_addr: str,
    listen_addr: str,
    node_addr: str,
    feature_level: int = features.LEVEL,
) -> Founding:
    """Make a new cluster's root, its tokens, and its first manager; nothing is stored yet."""
    # Loaded here only: it takes 12 MB that a running node does not need.
    from swarmpy.security.x509 import issue, new_csr_pem, new_key_pem, new_root

    now_s = clock.now()
    name = NodeName(new_id(random_bytes), new_id(random_bytes), NodeRole.MANAGER)
    root = new_root(name.cluster_id, now_s=now_s)
    key_pem = new_key_pem()
    cert_pem = issue(root, new_csr_pem(key_pem), name, now_s=now_s, life_s=spec.node_cert_expiry_s)
    digest = root_digest(root.cert_pem)
    cluster = Cluster(
        id=name.cluster_id,
        spec=spec,
        created_at=now_s,
        updated_at=now_s,
        root_ca=RootCA(cert_pem=root.cert_pem.decode(), key_pem=root.key_pem.decode(), digest=digest),
        join_tokens=JoinTokens(worker=new_token(digest, random_bytes), manager=new_token(digest, random_bytes)),
        feature_level=feature_level,
    )
    node = Node(
        id=name.node_id,
        spec=NodeSpec(role=NodeRole.MANAGER, availability=availability),
        description=NodeDescription(hostname=hostname),
        state=NodeState.DOWN,
        message="it has not connected yet",
        created_at=now_s,
        updated_at=now_s,
        manager=ManagerStatus(raft_id=1, addr=advertise_addr, leader=True, reachable=True, feature_level=feature_level),
    )
    identity = Identity(
        cluster_id=name.cluster_id,
        node_id=name.node_id,
        role=NodeRole.MANAGER,
        key_pem=key_pem,
        cert_pem=cert_pem,
        root_pem=root.cert_pem,
        managers=(advertise_addr,),
        advertise_addr=advertise_addr,
        listen_addr=listen_addr,
        node_addr=node_addr,
        issued_at=now_s,
        expires_at=now_s + spec.node_cert_expiry_s,
    )
    return Founding(identity, ClusterSeed(cluster=cluster, node=node))


def restored_identity(
    cluster: Cluster,
    *,
    clock: Clock,
    random_bytes: RandomBytes,
    advertise_addr: str,
    listen_addr: str,
    node_addr: str,
) -> Identity:
    """Make a new node's identity, as a manager of a cluster that is brought back, signed by the cluster's own root."""
    # Loaded here only, as above.
    from swarmpy.security.x509 import Root, issue, new_csr_pem, new_key_pem

    now_s, life_s = clock.now(), cluster.spec.node_cert_expiry_s
    name = NodeName(cluster.id, new_id(random_bytes), NodeRole.MANAGER)
    root = Root(cluster.root_ca.cert_pem.encode(), cluster.root_ca.key_pem.encode())
    key_pem = new_key_pem()
    return Identity(
        cluster_id=name.cluster_id,
        node_id=name.node_id,
        role=NodeRole.MANAGER,
        key_pem=key_pem,
        cert_pem=issue(root, new_csr_pem(key_pem), name, now_s=now_s, life_s=life_s),
        root_pem=root.cert_pem,
        managers=(advertise_addr,),
        advertise_addr=advertise_addr,
        listen_addr=listen_addr,
        node_addr=node_addr,
        issued_at=now_s,
        expires_at=now_s + life_s,
    )
