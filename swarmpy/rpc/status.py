"""SwarmError on the wire: a gRPC status whose details are the sentence, code and retryability in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc

from swarmpy.errors import Code, NotLeaderError, SwarmError

CODE_KEY: Final = "swarmpy-code"
RETRY_KEY: Final = "swarmpy-retryable"
LEADER_KEY: Final = "swarmpy-leader"
MANAGERS_KEY: Final = "swarmpy-managers"

STATUS: Final[Mapping[Code, grpc.StatusCode]] = {
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Code.OUT_OF_SEQUENCE: grpc.StatusCode.ABORTED,
    Code.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Code.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Code.NOT_SUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Code.NOT_LEADER: grpc.StatusCode.UNAVAILABLE,
    Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Code.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.COMPACTED: grpc.StatusCode.OUT_OF_RANGE,
    Code.CORRUPT: grpc.StatusCode.DATA_LOSS,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
}
_NAMES: Final = frozenset(code.value for code in Code)
_CODES: Final[Mapping[grpc.StatusCode, Code]] = {
    **{status: code for code, status in STATUS.items() if code is not Code.NOT_LEADER},
    grpc.StatusCode.CANCELLED: Code.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN: Code.INTERNAL,
}


def to_metadata(error: SwarmError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that lets the caller rebuild `error`."""
    pairs = ((CODE_KEY, error.code.value), (RETRY_KEY, "1" if error.retryable else "0"))
    if not isinstance(error, NotLeaderError):
        return pairs
    return (*pairs, (LEADER_KEY, error.leader), (MANAGERS_KEY, ",".join(error.managers)))


def to_error(failure: grpc.RpcError) -> SwarmError:
    """Return the error that a failed call stands for, whoever raised it."""
    status = failure.code() if isinstance(failure, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    details = (failure.details() if isinstance(failure, grpc.Call | grpc.aio.AioRpcError) else "") or str(failure)
    metadata = _trailing(failure)
    name = metadata.get(CODE_KEY, "")
    if LEADER_KEY in metadata:
        managers = metadata.get(MANAGERS_KEY, "")
        return NotLeaderError(details, metadata[LEADER_KEY], managers.split(",") if managers else ())
    if name in _NAMES:
        return SwarmError(Code(name), details, retryable=metadata.get(RETRY_KEY) == "1")
    return SwarmError(_CODES.get(status, Code.INTERNAL), details)


def _trailing(failure: grpc.RpcError) -> dict[str, str]:
    if not isinstance(failure, grpc.Call | grpc.aio.AioRpcError):
        return {}
    pairs = failure.trailing_metadata() or ()
    return {key: value if isinstance(value, str) else value.decode("utf-8", "replace") for key, value in pairs}
