"""Reads that take a manager's state as it is: no leader is asked whether it is current, so no quorum is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc.aio

STALE_KEY: Final = "swarmpy-stale"
"""Metadata of such a call, whatever its value."""


def stale_interceptors() -> Sequence[grpc.aio.ClientInterceptor]:
    """Return what marks every call of a channel; to calls that change something it means nothing."""
    return (_StaleUnary(), _StaleStream())


class _StaleUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_marked(client_call_details), request)


class _StaleStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_marked(client_call_details), request)


def _marked(details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()), (STALE_KEY, "1"))
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )
