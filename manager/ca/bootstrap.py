"""The bootstrap port: the two calls that a joiner makes before it has a certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from traceback import clear_frames
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

REQUEST_DEADLINE_S: Final = 3.0
ANSWER_DEADLINE_S: Final = 15.0
# A TLS connection costs 300 kB from its first moment, whoever made it: few have one at a time. The others wait in the
# kernel's queue, where they cost this process nothing.
MAX_SERVED: Final = 64
BACKLOG: Final = 1024
ACCEPT_AGAIN_S: Final = 0.1
CALLS_PER_SECOND: Final = 50.0
CALLS_BURST: Final = 400


Admit = Callable[[pb.IssueCertificateRequest], Awaitable[pb.IssueCertificateResponse]]


class BootstrapServer:
    """Serves GetRoot and IssueCertificate, and nothing else, over TLS without client certificates."""

    def __init__(self, root_pem: Callable[[], bytes], admit: Admit, clock: Clock) -> None:
        """
        Args:
            root_pem: returns the cluster's root certificate.
            admit: takes a node in, here or on the manager that leads.
        """
        self._root_pem = root_pem
        self._admit = admit
        self._clock = clock
        self._limit = RateLimit(clock, per_second=CALLS_PER_SECOND, burst=CALLS_BURST)
        self._places = asyncio.Semaphore(MAX_SERVED)

    @asynccontextmanager
    async def serve(self, identity: Callable[[], Identity], address: Address) -> AsyncIterator[None]:
        """Listen while the block runs.

        Args:
            identity: returns what is shown to who connects; asked each time.

        Raises:
            SwarmError: FAILED_PRECONDITION, the port cannot be had.
        """
        contexts = _Contexts(identity)
        with await _listening(address) as sock:
            async with asyncio.TaskGroup() as group:
                accepting = group.create_task(self._accept_all(sock, contexts))
                try:
                    yield
                finally:
                    accepting.cancel()

    async def _accept_all(self, sock: socket.socket, contexts: _Contexts) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._places.acquire()
                try:
                    connection, peer = await loop.sock_accept(sock)
                except OSError as error:
                    # The peer has given up already, or no descriptor is left: others may be let go soon.
                    self._places.release()
                    log.warning("bootstrap_not_accepted", reason=error.strerror)
                    await self._clock.sleep(ACCEPT_AGAIN_S)
                else:
                    group.create_task(self._serve(connection, str(peer[0]), contexts.present()))

    async def _serve(self, connection: socket.socket, peer: str, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S) as deadline:
                transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                await write_frame(writer, await self._answer(reader, peer, deadline))
                writer.close()
                await writer.wait_closed()
        except TimeoutError:
            # Anybody can bring this about as often as he likes, so it is no line in the log.
            log.debug("bootstrap_connection_silent", peer=peer)
        except (OSError, SwarmError) as error:
            log.debug("bootstrap_connection_failed", peer=peer, reason=str(error))
            # asyncio's frames hold the error that holds them, and the connection's buffers: without this they would
            # stay until the next full collection, which a flood of bad handshakes would outrun.
            clear_frames(error.__traceback__)
        finally:
            self._places.release()
            if transport is not None:
                transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, peer: str, deadline: asyncio.Timeout) -> pb.BootstrapResponse:
        try:
            if not self._limit.allows(peer):
                raise SwarmError(Code.RESOURCE_EXHAUSTED, "too many nodes join at once: try again", retryable=True)
            request = await read_frame(reader, pb.BootstrapRequest)
            deadline.reschedule(asyncio.get_running_loop().time() + ANSWER_DEADLINE_S)
            kind = request.WhichOneof("request")
            if kind == "get_root":
                return pb.BootstrapResponse(root=pb.GetRootResponse(root_pem=self._root_pem()))
            if kind == "issue_certificate":
                return pb.BootstrapResponse(certificate=await self._admit(request.issue_certificate))
            raise invalid("a bootstrap request is get_root or issue_certificate")
        except SwarmError as error:
            if error.code is Code.PERMISSION_DENIED:
                log.warning("join_refused", peer=peer)
            return _refusal(error)
        except Exception as error:  # the boundary: everything leaves as an answer
            log.error("bootstrap_call_failed", peer=peer, exc_info=error)
            return _refusal(SwarmError(Code.INTERNAL, "the call failed inside the manager: see its log"))


async def admit_node(authority: Authority, request: pb.IssueCertificateRequest) -> pb.IssueCertificateResponse:
    """Take a node in, on the leader.

    Raises:
        SwarmError: as `Authority.admit`.
    """
    try:
        availability = Availability(request.availability)
    except ValueError as error:
        raise invalid(f"the availability cannot be read: {error}") from error
    issued = await authority.admit(
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


async def _listening(address: Address) -> socket.socket:
    """Return a non-blocking socket that listens at `address`, whose host may be a name."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, _, _, _, place = found[0]
        sock = socket.create_server(place, family=family, backlog=BACKLOG)
    except OSError as error:
        raise SwarmError(
            Code.FAILED_PRECONDITION,
            f"cannot listen on {address} for joining nodes: is another program or manager using the port?",
        ) from error
    sock.setblocking(False)
    return sock


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


class _Contexts:
    """The server's context for the identity that this node has now."""

    def __init__(self, identity: Callable[[], Identity]) -> None:
        self._identity = identity
        self._shown = identity()
        self._context = server_context(self._shown)

    def present(self) -> ssl.SSLContext:
        identity = self._identity()
        if identity is not self._shown:
            self._shown, self._context = identity, server_context(identity)
        return self._context


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
