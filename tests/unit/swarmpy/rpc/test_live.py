"""A server that takes up a renewed certificate while it runs."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import msgspec
import pytest

from swarmpy.api.v1 import node_pb2, node_pb2_grpc
from swarmpy.model.states import NodeRole
from swarmpy.rpc.dial import peer_channel
from swarmpy.rpc.tls import live_server_credentials
from swarmpy.security import identity as identities
from swarmpy.security.identity import Identity
from swarmpy.security.live import LiveIdentity
from swarmpy.security.names import NodeName
from swarmpy.security.x509 import Root, issue, new_csr_pem, new_key_pem, new_root

NOW_S = 1_790_000_000.0
LIFE_S = 20 * 365 * 86400.0


class Health(node_pb2_grpc.HealthServicer):
    async def Check(self, request: node_pb2.HealthRequest, context: object) -> node_pb2.HealthResponse:  # noqa: N802  # gRPC's name
        return node_pb2.HealthResponse(serving=True)


def identity(root: Root, node_id: str) -> Identity:
    key_pem = new_key_pem()
    name = NodeName("c1", node_id, NodeRole.MANAGER)
    cert_pem = issue(root, new_csr_pem(key_pem), name, now_s=NOW_S, life_s=LIFE_S)
    return Identity(
        cluster_id="c1",
        node_id=node_id,
        role=NodeRole.MANAGER,
        key_pem=key_pem,
        cert_pem=cert_pem,
        root_pem=root.cert_pem,
    )


async def test_a_renewed_certificate_is_shown_from_the_next_connection_on(tmp_path: Path) -> None:
    root = new_root("c1", now_s=NOW_S)
    before, after = identity(root, "n1"), identity(root, "n2")
    shown = [before]
    server = grpc.aio.server()
    node_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    port = server.add_secure_port("127.0.0.1:0", live_server_credentials(lambda: shown[-1]))
    await server.start()
    try:
        for now, name in ((before, "n1"), (after, "n2")):
            shown.append(now)
            async with peer_channel(before, name, f"127.0.0.1:{port}") as channel:
                answer = await node_pb2_grpc.HealthStub(channel).Check(node_pb2.HealthRequest(), timeout=10.0)
                assert answer.serving
    finally:
        await server.stop(None)


def test_the_identity_is_read_again_when_its_file_has_changed(tmp_path: Path) -> None:
    first = identity(new_root("c1", now_s=NOW_S), "n1")
    identities.save(tmp_path, first)
    live = LiveIdentity(tmp_path, first)
    assert live.current() is first
    renewed = msgspec.structs.replace(first, issued_at=5.0)
    identities.save(tmp_path, renewed)
    assert live.current() == renewed
    assert live.current() is live.current(), "the same object while nothing changes"


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_what_cannot_be_read_leaves_the_identity_that_was(tmp_path: Path, content: bytes | None) -> None:
    first = identity(new_root("c1", now_s=NOW_S), "n1")
    identities.save(tmp_path, first)
    live = LiveIdentity(tmp_path, first)
    path = identities.identity_directory(tmp_path) / identities.FILE
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert live.current() is first
