"""A service that a node cannot serve: every call of it is refused, with the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from swarmpy.errors import precondition


class Refusing(grpc.GenericRpcHandler):
    """Handles `/package.Service/*` without knowing its messages, so that nothing of the service need be loaded."""

    def __init__(self, service: str, reason: str) -> None:
        """
        Args:
            service: its full name, `package.Service`.
            reason: a sentence.
        """
        self._prefix = f"/{service}/"
        self._reason = reason

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return a handler of any call, of one message or many: none is read."""
        if not details.method.startswith(self._prefix):
            return None
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: AsyncIterator[bytes], context: Any) -> None:
        raise precondition(self._reason)
