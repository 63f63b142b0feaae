"""Who may call what on the network port: real certificates on both ends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest

from manager.api.servicer import ControlServicer, HealthServicer
from manager.peers import Admission
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from manager.store.transaction import Transaction
from swarmpy.api.v1 import control_pb2, control_pb2_grpc, node_pb2, node_pb2_grpc
from swarmpy.clock import SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.node import Node
from swarmpy.model.states import Availability, NodeRole
from swarmpy.rpc.dial import SERVER, manager_channel
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.status import to_error
from swarmpy.rpc.tls import server_credentials
from swarmpy.security.identity import Identity
from swarmpy.security.names import NodeName
from swarmpy.security.x509 import Root, issue, new_csr_pem, new_key_pem
from tests.support.store import running_store
from worker.founding import Founding, found_cluster


def found() -> Founding:
    return found_cluster(
        clock=SystemClock(),
        random_bytes=os.urandom,
        spec=ClusterSpec(),
        availability=Availability.ACTIVE,
        hostname="m1",
        advertise_addr="127.0.0.1:2377",
        listen_addr="127.0.0.1:2377",
        node_addr="127.0.0.1",
    )


@dataclass
class Port:
    store: Store
    founding: Founding
    address: str

    def holder(self, node_id: str, role: NodeRole = NodeRole.WORKER, cluster_id: str = "") -> Identity:
        """Return an identity that the cluster's own root has signed."""
        name = NodeName(cluster_id or self.founding.identity.cluster_id, node_id, role)
        root = self.founding.seed.cluster.root_ca
        key_pem = new_key_pem()
        cert_pem = issue(
            Root(root.cert_pem.encode(), root.key_pem.encode()),
            new_csr_pem(key_pem),
            name,
            now_s=SystemClock().now(),
            life_s=600,
        )
        return msgspec.structs.replace(
            self.founding.identity, node_id=node_id, role=role, key_pem=key_pem, cert_pem=cert_pem
        )

    async def control(self, identity: Identity) -> Code | None:
        """Make a control call; return how it was refused."""
        return await self._call(
            identity, lambda c: control_pb2_grpc.ControlStub(c).GetCluster(control_pb2.GetClusterRequest(), timeout=5)
        )

    async def health(self, identity: Identity) -> Code | None:
        return await self._call(
            identity, lambda c: node_pb2_grpc.HealthStub(c).Check(node_pb2.HealthRequest(), timeout=5)
        )

    async def _call(self, identity: Identity, call: Callable[[grpc.aio.Channel], object]) -> Code | None:
        async with manager_channel(identity, self.address) as channel:
            try:
                await call(channel)  # type: ignore[misc]  # gRPC's calls are awaitable, whatever their stubs say
            except grpc.RpcError as error:
                return to_error(error).code
        return None


UNUSED: Any = None


def no_broker() -> Any:
    raise SwarmError(Code.UNAVAILABLE, "no logs here")


@asynccontextmanager
async def open_port() -> AsyncIterator[Port]:
    founding = found()

    def sow(tx: Transaction) -> None:
        tx.create(CLUSTERS, founding.seed.cluster)
        tx.create(NODES, founding.seed.node)
        tx.create(NODES, Node(id="w1"))

    async with running_store() as store:
        await store.update(sow)
        admission = Admission(store, founding.identity.cluster_id)
        server = grpc.aio.server(interceptors=(Boundary(admission.authorize),), options=SERVER)
        control = ControlServicer(store, SystemClock(), os.urandom, no_broker, "", UNUSED, UNUSED)
        control_pb2_grpc.add_ControlServicer_to_server(control, server)
        node_pb2_grpc.add_HealthServicer_to_server(HealthServicer(node_pb2.HealthResponse), server)
        port = server.add_secure_port("127.0.0.1:0", server_credentials(founding.identity))
        await server.start()
        try:
            yield Port(store, founding, f"127.0.0.1:{port}")
        finally:
            await server.stop(0)


async def test_a_manager_may_control_and_a_worker_may_not() -> None:
    async with open_port() as port:
        manager, worker = port.founding.identity, port.holder("w1")
        assert await port.control(manager) is None
        assert await port.control(worker) is Code.PERMISSION_DENIED
        assert await port.health(worker) is None


async def test_what_the_row_says_counts_more_than_the_certificate() -> None:
    async with open_port() as port:
        assert await port.control(port.holder("w1", NodeRole.MANAGER)) is Code.PERMISSION_DENIED
        assert await port.control(port.holder(port.founding.identity.node_id)) is Code.PERMISSION_DENIED
        assert await port.health(port.holder("nobody")) is Code.PERMISSION_DENIED
        assert await port.health(port.holder("w1", cluster_id="elsewhere")) is Code.PERMISSION_DENIED
        await port.store.update(lambda tx: tx.delete(NODES, "w1"))
        assert await port.health(port.holder("w1")) is Code.PERMISSION_DENIED


@pytest.mark.parametrize("part", ["cert", "root"])
async def test_another_cluster_does_not_even_get_to_speak(part: str) -> None:
    async with open_port() as port:
        stranger = found().identity
        if part == "cert":
            # It trusts our root, and we do not trust its certificate.
            ours = port.founding.identity
            stranger = msgspec.structs.replace(stranger, root_pem=ours.root_pem, cluster_id=ours.cluster_id)
        assert await port.control(stranger) is Code.UNAVAILABLE
