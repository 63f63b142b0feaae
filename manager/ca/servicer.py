"""The CA RPC on the control port: renewal for holders of a certificate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from manager.ca.authority import Authority
from manager.ca.bootstrap import to_response
from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.api.v1 import node_pb2_grpc
from swarmpy.security.names import NodeName


class CAServicer(node_pb2_grpc.CAServicer):
    """Serves RenewCertificate. `peer` names the caller by its certificate; `current` makes what is read current."""

    def __init__(
        self, authority: Authority, peer: Callable[[Any], NodeName], current: Callable[[], Awaitable[None]]
    ) -> None:
        self._authority = authority
        self._peer = peer
        self._current = current

    async def RenewCertificate(  # noqa: N802  # gRPC's name
        self, request: pb.RenewCertificateRequest, context: Any
    ) -> pb.IssueCertificateResponse:
        await self._current()
        return to_response(self._authority.renew(self._peer(context), request.csr_pem))
