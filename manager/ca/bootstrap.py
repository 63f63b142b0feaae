"""The bootstrap port: the two calls that a joiner makes before it has a certificate."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from manager.ca.authority import Authority, Issued
from manager.ca.ratelimit import RateLimit
from swarmpy.addresses import Address
from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, invalid
from swarmpy.model.states import Availability
from swarmpy.rpc.bootstrap import read_frame, write_frame
from swarmpy.security.identity import Identity

log = structlog.get_logger(__name__)

CONNECTION_DEADLINE_S: Final = 15.0
MAX_CONNECTIONS: Final = 256
CALLS_PER_SECOND: Final = 50.0
CALLS_BURST: Final = 400


class BootstrapServer:
    """Serves GetRoot and IssueCertificate, and nothing else, over TLS without client certificates."""

    def __init__(self, authority: Authority, clock: Clock) -> None:
        self._authority = authority
        self._limit = RateLimit(clock, per_second=CALLS_PER_SECOND, burst=CALLS_BURST)
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serve(self, identity: Identity, address: Address) -> AsyncIterator[None]:
        """Listen while the block runs.

        Raises:
            SwarmError: FAILED_PRECONDITION, the port cannot be had.
        """
        try:
            server = await asyncio.start_server(
                self._connection,
                address.host,
                address.port,
                ssl=server_context(identity),
                ssl_handshake_timeout=CONNECTION_DEADLINE_S,
                ssl_shutdown_timeout=CONNECTION_DEADLINE_S,
            )
        except OSError as error:
            raise SwarmError(
                Code.FAILED_PRECONDITION,
                f"cannot listen on {address} for joining nodes: is another program or manager using the port?",
            ) from error
        try:
            async with server:
                yield
        finally:
            for writer in self._writers:
                writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        peer = writer.get_extra_info("peername")
        try:
            async with asyncio.timeout(CONNECTION_DEADLINE_S):
                await write_frame(writer, await self._answer(reader, str(peer[0]) if peer else ""))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, SwarmError) as error:
            # Joiners hang up as soon as they have their answer, so this is nothing to wake anybody for.
            log.debug("bootstrap_connection_failed", peer=peer, reason=str(error))
        finally:
            self._writers.remove(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, peer: str) -> pb.BootstrapResponse:
        try:
            if len(self._writers) > MAX_CONNECTIONS or not self._limit.allows(peer):
                raise SwarmError(Code.RESOURCE_EXHAUSTED, "too many nodes join at once: try again", retryable=True)
            request = await read_frame(reader, pb.BootstrapRequest)
            kind = request.WhichOneof("request")
            if kind == "get_root":
                return pb.BootstrapResponse(root=pb.GetRootResponse(root_pem=self._authority.root_pem()))
            if kind == "issue_certificate":
                return pb.BootstrapResponse(certificate=await self._issue(request.issue_certificate))
            raise invalid("a bootstrap request is get_root or issue_certificate")
        except SwarmError as error:
            if error.code is Code.PERMISSION_DENIED:
                log.warning("join_refused", peer=peer)
            return _refusal(error)
        except Exception as error:  # the boundary: everything leaves as an answer
            log.error("bootstrap_call_failed", peer=peer, exc_info=error)
            return _refusal(SwarmError(Code.INTERNAL, "the call failed inside the manager: see its log"))

    async def _issue(self, request: pb.IssueCertificateRequest) -> pb.IssueCertificateResponse:
        try:
            availability = Availability(request.availability)
        except ValueError as error:
            raise invalid(f"the availability cannot be read: {error}") from error
        issued = await self._authority.admit(
            request.token,
            request.csr_pem,
            hostname=request.hostname[:253],
            availability=availability,
            request_id=_request_id(request),
        )
        log.info("node_admitted", node=issued.name.node_id, hostname=request.hostname)
        return to_response(issued)


def _request_id(request: pb.IssueCertificateRequest) -> str:
    if not 0 < len(request.request_id) <= 64:
        raise invalid("request_id is missing or longer than 64 characters: it is made once and kept for retries")
    # Apart from the ids of the user's calls: the result of another call is no node.
    return f"{type(request).__name__}/{request.request_id}"


def _refusal(error: SwarmError) -> pb.BootstrapResponse:
    return pb.BootstrapResponse(error=pb.BootstrapError(code=error.code.value, message=error.message))


def to_response(issued: Issued) -> pb.IssueCertificateResponse:
    """Return the wire's form of a certificate."""
    return pb.IssueCertificateResponse(
        certificate_pem=issued.cert_pem,
        root_pem=issued.root_pem,
        node_id=issued.name.node_id,
        cluster_id=issued.name.cluster_id,
        role=types_pb2.NodeRole.Name(int(issued.name.role)),  # type: ignore[arg-type]  # a number of ours
    )


def server_context(identity: Identity) -> ssl.SSLContext:
    """Return a server context for this identity; the ssl module takes certificates from files only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "identity.pem"
        path.touch(mode=0o600)
        path.write_bytes(identity.cert_pem + identity.key_pem)
        context.load_cert_chain(path)
    return context
