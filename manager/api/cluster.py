"""Use cases of the cluster: settings and join tokens."""

from __future__ import annotations

import msgspec

from manager.store.store import Store
from manager.store.tables import CLUSTERS
from manager.store.transaction import Transaction
from manager.store.view import View
from swarmpy.clock import Clock
from swarmpy.errors import Code, InvalidSpecError, SwarmError
from swarmpy.ids import RandomBytes
from swarmpy.model.cluster import Cluster, ClusterSpec, JoinTokens, RootCA
from swarmpy.model.states import NodeRole
from swarmpy.model.validate import validate_cluster_spec
from swarmpy.security.tokens import new_token


def the_cluster(view: View) -> Cluster:
    """Return the one cluster row. UNAVAILABLE: this manager has not caught up with its creation yet."""
    for cluster in view.all(CLUSTERS):
        return cluster
    raise SwarmError(Code.UNAVAILABLE, "the cluster is being created: try again in a moment")


class ClusterSettings:
    """What a user may do with the cluster as a whole."""

    def __init__(self, store: Store, clock: Clock, random_bytes: RandomBytes) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    def get(self) -> Cluster:
        """Return the cluster without its secrets."""
        cluster = the_cluster(self._store.view())
        root = RootCA(cert_pem=cluster.root_ca.cert_pem, digest=cluster.root_ca.digest)
        return msgspec.structs.replace(cluster, root_ca=root, join_tokens=JoinTokens())

    def tokens(self) -> JoinTokens:
        return the_cluster(self._store.view()).join_tokens

    async def update(self, version: int, spec: ClusterSpec, request_id: str) -> Cluster:
        """Replace the settings. OUT_OF_SEQUENCE: they changed since `version`."""
        problems = validate_cluster_spec(spec)
        if problems:
            raise InvalidSpecError(problems)
        now_s = self._clock.now()

        def change(tx: Transaction) -> str:
            cluster = the_cluster(tx)
            changed = msgspec.structs.replace(cluster, version=version, spec=spec, updated_at=now_s)
            return tx.update(CLUSTERS, changed).id

        await self._store.update(change, request_id=request_id)
        return self.get()

    async def rotate_token(self, role: NodeRole, request_id: str) -> JoinTokens:
        """Make a new token for a role; the old one admits nobody any more."""
        token = new_token(the_cluster(self._store.view()).root_ca.digest, self._random_bytes)
        field = "manager" if role is NodeRole.MANAGER else "worker"

        def change(tx: Transaction) -> str:
            cluster = the_cluster(tx)
            tokens = msgspec.structs.replace(cluster.join_tokens, **{field: token})
            return tx.update(CLUSTERS, msgspec.structs.replace(cluster, join_tokens=tokens)).id

        await self._store.update(change, request_id=request_id)
        return self.tokens()
