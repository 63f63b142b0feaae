"""Joining over real TLS on loopback: what the joiner is told by whatever it may find at the address."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from manager.ca import bootstrap
from manager.ca.authority import Authority
from manager.ca.bootstrap import BootstrapServer, admit_node
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from manager.store.transaction import Transaction
from swarmpy.addresses import Address
from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.clock import SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.states import Availability, NodeRole, NodeState
from swarmpy.rpc.bootstrap import MAX_FRAME_BYTES, read_frame
from swarmpy.security.identity import Identity
from swarmpy.security.names import NodeName, from_alternative_names
from swarmpy.security.x509 import new_csr_pem, new_key_pem, validity
from tests.support.store import running_store
from worker.founding import Founding, found_cluster
from worker.join import Admission, request_admission

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


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


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Door:
    """A cluster's bootstrap port."""

    store: Store
    authority: Authority
    identity: Identity
    address: Address
    worker_token: str
    manager_token: str


def door_of(authority: Authority) -> BootstrapServer:
    return BootstrapServer(authority.root_pem, partial(admit_node, authority), SystemClock())


@asynccontextmanager
async def open_door() -> AsyncIterator[Door]:
    founding = found()

    def sow(tx: Transaction) -> None:
        tx.create(CLUSTERS, founding.seed.cluster)
        tx.create(NODES, founding.seed.node)

    async with running_store() as store:
        await store.update(sow)
        authority = Authority(store, SystemClock(), os.urandom)
        address = Address("127.0.0.1", unused_port())
        async with door_of(authority).serve(lambda: founding.identity, address):
            tokens = founding.seed.cluster.join_tokens
            yield Door(store, authority, founding.identity, address, tokens.worker, tokens.manager)


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[Address]:
    """Serve plain TCP: what stands at an address that is no manager."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])


async def join(address: Address, token: str, *, request_id: str = "r", deadline_s: float = 10.0) -> Admission:
    return await request_admission(
        address,
        token,
        hostname="w1",
        availability=Availability.PAUSE,
        request_id=request_id,
        deadline_s=deadline_s,
    )


async def refusal(address: Address, token: str, *, deadline_s: float = 10.0) -> SwarmError:
    with pytest.raises(SwarmError) as raised:
        await join(address, token, deadline_s=deadline_s)
    return raised.value


async def test_the_worker_token_admits_a_worker() -> None:
    async with open_door() as door:
        admission = await join(door.address, door.worker_token)
        row = door.store.view().get(NODES, admission.node_id)
        assert row is not None
        assert (row.name, row.state, row.spec.availability) == ("w1", NodeState.DOWN, Availability.PAUSE)
        assert (admission.role, admission.cluster_id) == (NodeRole.WORKER, door.identity.cluster_id)
        assert admission.root_pem == door.identity.root_pem
        life_s = admission.expires_at - admission.issued_at
        assert life_s == ClusterSpec().node_cert_expiry_s
        again = await join(door.address, door.worker_token)
        assert again.node_id == admission.node_id, "the same request is the same node"
        other = await join(door.address, door.worker_token, request_id="other")
        assert other.node_id != admission.node_id
        assert len(door.store.view().all(NODES)) == 3


async def test_the_manager_token_admits_a_manager() -> None:
    async with open_door() as door:
        admission = await join(door.address, door.manager_token)
        row = door.store.view().get(NODES, admission.node_id)
        assert row is not None
        assert (row.spec.role, row.manager, admission.role) == (NodeRole.MANAGER, None, NodeRole.MANAGER)


async def test_tokens_that_are_not_the_right_one() -> None:
    async with open_door() as door:
        wrong = door.worker_token[:-1] + ("a" if door.worker_token[-1] != "a" else "b")
        error = await refusal(door.address, wrong)
        assert (error.code, "wrong or was rotated" in error.message) == (Code.PERMISSION_DENIED, True)
        error = await refusal(door.address, found().seed.cluster.join_tokens.worker)
        assert error.code is Code.PERMISSION_DENIED
        assert "is not for the cluster at" in error.message
        error = await refusal(door.address, "SWMTKN-1-abc")
        assert (error.code, "malformed" in error.message) == (Code.INVALID_ARGUMENT, True)
        assert len(door.store.view().all(NODES)) == 1, "who is refused leaves nothing behind"


async def test_whatever_is_no_manager_is_called_so() -> None:
    token = found().seed.cluster.join_tokens.worker

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(garbage) as address:
        error = await refusal(address, token)
        assert (error.code, "is not a swarm manager" in error.message) == (Code.FAILED_PRECONDITION, True)
    async with listening(hang_up) as address:
        error = await refusal(address, token)
        assert error.code in (Code.UNAVAILABLE, Code.FAILED_PRECONDITION)
        assert str(address) in error.message
        assert ": ;" not in error.message
    async with listening(silence) as address:
        error = await refusal(address, token, deadline_s=0.2)
        assert (error.code, "did not answer within 0.2 s" in error.message) == (Code.UNAVAILABLE, True)
    error = await refusal(Address("127.0.0.1", unused_port()), token)
    assert (error.code, "connection refused" in error.message) == (Code.UNAVAILABLE, True)


async def test_a_tls_server_with_another_protocol_is_no_manager() -> None:
    identity = found().identity

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff" * 64)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0, ssl=bootstrap.server_context(identity))
    async with server:
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        error = await refusal(address, found().seed.cluster.join_tokens.worker)
        assert (error.code, "answered something else" in error.message) == (Code.FAILED_PRECONDITION, True)


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def say(address: Address, data: bytes) -> pb.BootstrapResponse:
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=unverified())
    try:
        writer.write(data)
        await writer.drain()
        return await read_frame(reader, pb.BootstrapResponse)
    finally:
        writer.transport.abort()


def frame(message: pb.BootstrapRequest) -> bytes:
    data = message.SerializeToString()
    return len(data).to_bytes(4, "big") + data


async def test_frames_that_cannot_be_served_are_answered() -> None:
    async with open_door() as door:
        too_large = (MAX_FRAME_BYTES + 1).to_bytes(4, "big")
        assert "too large" in (await say(door.address, too_large)).error.message
        assert (await say(door.address, b"\0\0\0\2\xff\xff")).error.code == Code.INVALID_ARGUMENT.value
        assert "get_root or issue" in (await say(door.address, b"\0\0\0\0")).error.message
        issue = pb.IssueCertificateRequest(token=door.worker_token, csr_pem=b"nonsense", request_id="r")
        answer = await say(door.address, frame(pb.BootstrapRequest(issue_certificate=issue)))
        assert "signing request cannot be read" in answer.error.message
        issue.csr_pem = new_csr_pem(new_key_pem())
        issue.request_id = ""
        answer = await say(door.address, frame(pb.BootstrapRequest(issue_certificate=issue)))
        assert "request_id is missing" in answer.error.message
        assert len(door.store.view().all(NODES)) == 1


async def test_too_many_calls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "CALLS_BURST", 2)
    monkeypatch.setattr(bootstrap, "CALLS_PER_SECOND", 0.0)
    async with open_door() as door:
        await join(door.address, door.worker_token)
        error = await refusal(door.address, door.worker_token)
        assert (error.code, "try again" in error.message) == (Code.RESOURCE_EXHAUSTED, True)


async def test_a_silent_joiner_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "REQUEST_DEADLINE_S", 0.2)
    async with open_door() as door:
        reader, writer = await asyncio.open_connection(door.address.host, door.address.port, ssl=unverified())
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.transport.abort()


async def test_silent_connections_are_few_and_joiners_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS takes memory for each connection before anybody knows who it is: beyond a few, the others wait."""
    monkeypatch.setattr(bootstrap, "MAX_SERVED", 2)
    monkeypatch.setattr(bootstrap, "REQUEST_DEADLINE_S", 0.5)
    async with open_door() as door:
        silent = [await asyncio.open_connection(door.address.host, door.address.port) for _ in range(2)]
        ended = [asyncio.ensure_future(reader.read()) for reader, _ in silent]
        assert (await join(door.address, door.worker_token)).role is NodeRole.WORKER
        assert any(end.done() for end in ended), "the joiner was served while both places were taken"
        async with asyncio.timeout(10):
            assert await asyncio.gather(*ended) == [b"", b""]
        for _, writer in silent:
            writer.transport.abort()


async def test_a_bad_handshake_leaves_nothing_for_a_collector_that_may_not_come() -> None:
    """Each connection has 256 kB of buffers: a flood of bad handshakes outruns full collections."""
    gc.collect()
    gc.disable()
    try:
        async with open_door() as door:
            before = sum(isinstance(thing, SSLProtocol) for thing in gc.get_objects())
            for _ in range(3):
                reader, writer = await asyncio.open_connection(door.address.host, door.address.port)
                writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600))
                async with asyncio.timeout(10):
                    await reader.read()
                writer.transport.abort()
            for _ in range(100):  # the loop lets go of a closed connection in the turns that follow
                await asyncio.sleep(0)
            assert sum(isinstance(thing, SSLProtocol) for thing in gc.get_objects()) == before
    finally:
        gc.enable()


async def test_a_port_that_is_taken_is_said() -> None:
    async with open_door() as door:
        with pytest.raises(SwarmError, match="cannot listen on") as refused:
            async with BootstrapServer(
                door.authority.root_pem, partial(admit_node, door.authority), SystemClock()
            ).serve(lambda: door.identity, door.address):
                raise AssertionError("two servers on one port")
        assert refused.value.code is Code.FAILED_PRECONDITION


async def test_renewal_is_for_nodes_that_are_there() -> None:
    async with open_door() as door:
        admission = await join(door.address, door.worker_token)
        name = NodeName(admission.cluster_id, admission.node_id, NodeRole.MANAGER)
        issued = door.authority.renew(name, new_csr_pem(new_key_pem()))
        assert issued.name.role is NodeRole.WORKER, "the row says the role, not the holder"
        issued_at, expires_at = validity(issued.cert_pem)
        assert expires_at - issued_at == ClusterSpec().node_cert_expiry_s
        await door.store.update(lambda tx: tx.delete(NODES, admission.node_id))
        with pytest.raises(SwarmError, match="was removed"):
            door.authority.renew(name, new_csr_pem(new_key_pem()))


def test_names_of_others_name_nobody() -> None:
    assert from_alternative_names([b"worker.c.swarmpy", b"spiffe://other/worker/n", b"\xff"]) is None


async def test_frames_survive_any_split() -> None:
    reader = asyncio.StreamReader()
    message = pb.BootstrapRequest(get_root=pb.GetRootRequest())
    for byte in frame(message):
        reader.feed_data(bytes([byte]))
    assert await read_frame(reader, pb.BootstrapRequest) == message
    reader.feed_data(b"\0\0\0\5ab")
    reader.feed_eof()
    with pytest.raises(SwarmError, match="closed the connection"):
        await read_frame(reader, pb.BootstrapRequest)
