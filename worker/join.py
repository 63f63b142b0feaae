"""The joiner's side of the bootstrap: from a token to an identity, checked at each step."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Final

from swarmpy.addresses import Address
from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.errors import Code, SwarmError
from swarmpy.model.base import Model
from swarmpy.model.states import Availability, NodeRole
from swarmpy.rpc.bootstrap import read_frame, write_frame
from swarmpy.security.names import role_name
from swarmpy.security.tokens import parse_token, root_digest

CALL_DEADLINE_S: Final = 10.0


class Admission(Model, frozen=True):
    """What the cluster gave us: who we are now, and the proof."""

    cluster_id: str
    node_id: str
    role: NodeRole
    key_pem: bytes
    cert_pem: bytes
    root_pem: bytes
    issued_at: float
    expires_at: float


async def request_admission(
    address: Address,
    token_text: str,
    *,
    hostname: str,
    availability: Availability,
    request_id: str,
    deadline_s: float = CALL_DEADLINE_S,
) -> Admission:
    """Join the cluster whose manager admits nodes at `address`.

    The token's digest is checked against the root before the secret is said, and the second connection is
    verified with that root.

    Args:
        deadline_s: for each of the two calls, seconds.
    Raises:
        SwarmError: INVALID_ARGUMENT for a malformed token, PERMISSION_DENIED for a wrong one, UNAVAILABLE where
            nobody answers, FAILED_PRECONDITION where what answers is no manager of that cluster.
    """
    # Loaded here only: it takes 12 MB that a running node does not need.
    from swarmpy.security.x509 import check_issued, cluster_of_root, new_csr_pem, new_key_pem, validity

    token = parse_token(token_text)
    request = pb.BootstrapRequest(get_root=pb.GetRootRequest())
    root_pem = (await _call(address, _unverified(), None, request, deadline_s)).root.root_pem
    if root_digest(root_pem) != token.digest:
        raise SwarmError(
            Code.PERMISSION_DENIED,
            f"the token is not for the cluster at {address}: print that one's with `swarmpy swarm join-token worker`",
        )
    cluster_id = cluster_of_root(root_pem)
    key_pem = new_key_pem()
    request = pb.BootstrapRequest(
        issue_certificate=pb.IssueCertificateRequest(
            request_id=request_id,
            token=str(token),
            csr_pem=new_csr_pem(key_pem),
            hostname=hostname,
            availability=types_pb2.Availability.Name(int(availability)),  # type: ignore[arg-type]  # a number of ours
        )
    )
    server_name = role_name(cluster_id, NodeRole.MANAGER)
    issued = (await _call(address, _verified(root_pem), server_name, request, deadline_s)).certificate
    check_issued(issued.certificate_pem, root_pem, key_pem)
    issued_at, expires_at = validity(issued.certificate_pem)
    return Admission(
        cluster_id=cluster_id,
        node_id=issued.node_id,
        role=NodeRole(issued.role),
        key_pem=key_pem,
        cert_pem=issued.certificate_pem,
        root_pem=root_pem,
        issued_at=issued_at,
        expires_at=expires_at,
    )


async def _call(
    address: Address,
    context: ssl.SSLContext,
    server_name: str | None,
    request: pb.BootstrapRequest,
    deadline_s: float,
) -> pb.BootstrapResponse:
    try:
        async with asyncio.timeout(deadline_s):
            response = await _exchange(address, context, server_name, request)
    except TimeoutError as error:
        # Not retried for the caller: who mistyped an address is not to wait for a minute.
        raise SwarmError(
            Code.UNAVAILABLE,
            f"{address} did not answer within {deadline_s:g} s: is it a swarm manager?",
            retryable=False,
        ) from error
    except ssl.SSLError as error:
        raise SwarmError(
            Code.FAILED_PRECONDITION,
            f"{address} is not a swarm manager of the cluster that the token is for (no TLS as expected there)",
        ) from error
    except OSError as error:
        raise SwarmError(
            Code.UNAVAILABLE,
            f"cannot reach a swarm manager at {address}: {_reason(error)}; check the address, and that the "
            "node there ran `swarmpy swarm init`",
            retryable=False,
        ) from error
    if response.HasField("error"):
        code = Code(response.error.code) if response.error.code in {c.value for c in Code} else Code.INTERNAL
        raise SwarmError(code, response.error.message)
    return response


async def _exchange(
    address: Address, context: ssl.SSLContext, server_name: str | None, request: pb.BootstrapRequest
) -> pb.BootstrapResponse:
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=context, server_hostname=server_name or address.host
    )
    try:
        await write_frame(writer, request)
        return await read_frame(reader, pb.BootstrapResponse)
    except SwarmError as error:
        raise SwarmError(
            Code.FAILED_PRECONDITION, f"{address} is not a swarm manager: it answered something else"
        ) from error
    finally:
        writer.transport.abort()


def _reason(error: OSError) -> str:
    """Return the system's words for it: asyncio puts its own into `strerror`."""
    if error.errno is None or error.errno <= 0:
        return error.strerror or str(error) or "it hung up"  # a name that cannot be resolved
    return os.strerror(error.errno).lower()


def _unverified() -> ssl.SSLContext:
    """Return a context for the one call whose answer is checked by the token instead."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _verified(root_pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=root_pem.decode("ascii"))
    return context
