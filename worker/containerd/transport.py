"""One channel to a containerd: calls with namespace, lease and deadline, and failures in our own words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from swarmpy.errors import Code, SwarmError
from swarmpy.rpc.dial import COMMON, Options

UNARY_S: Final = 10.0
SLOW_S: Final = 60.0
"""For calls behind which a runtime, a file system or a disk has work to do."""
NAMESPACE_KEY: Final = "containerd-namespace"
LEASE_KEY: Final = "containerd-lease"

_OPTIONS: Final[Options] = (
    *COMMON,
    ("grpc.default_authority", "localhost"),  # a path is not a valid one
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # the time that one attempt may take
    ("grpc.max_reconnect_backoff_ms", 500),
)
_CODES: Final[Mapping[grpc.StatusCode, Code]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Code.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND: Code.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: Code.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION: Code.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED: Code.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED: Code.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED: Code.NOT_SUPPORTED,
    grpc.StatusCode.UNAVAILABLE: Code.UNAVAILABLE,
    grpc.StatusCode.CANCELLED: Code.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Code.RESOURCE_EXHAUSTED,
    grpc.StatusCode.OUT_OF_RANGE: Code.OUT_OF_SEQUENCE,
    grpc.StatusCode.ABORTED: Code.OUT_OF_SEQUENCE,
    grpc.StatusCode.DATA_LOSS: Code.CORRUPT,
}

Request = TypeVar("Request")
Response = TypeVar("Response")
Metadata = tuple[tuple[str, str], ...]


class Transport:
    """What the parts of the client share. `metadata` goes with every call."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.channel = channel
        self.metadata = metadata

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        what: str,
        deadline_s: float | None = UNARY_S,
    ) -> Response:
        """Make one call.

        Args:
            what: what is being done, to what: goes behind "cannot" where it fails.
            deadline_s: how long it may take; None for ever.
        Raises:
            SwarmError: it failed.
        """
        with translated(what):
            return await method(request, timeout=deadline_s, metadata=self.metadata)

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request, what: str
    ) -> AsyncIterator[Response]:
        """Yield the answers to one request.

        Raises:
            SwarmError: it failed, be it in the middle.
        """
        call = method(request, metadata=self.metadata)
        try:
            with translated(what):
                async for answer in call:
                    yield answer
        finally:
            call.cancel()


def open_channel(socket: Path) -> grpc.aio.Channel:
    """Return a channel to the containerd behind `socket`; it connects with the first call, and again by itself."""
    return grpc.aio.insecure_channel(f"unix:{socket}", options=_OPTIONS)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn a failed call into a SwarmError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise to_error(error.code(), error.details() or "", what) from error


def to_error(status: grpc.StatusCode, details: str, what: str) -> SwarmError:
    """Return the error of a call that failed while doing `what`."""
    code = _CODES.get(status, Code.INTERNAL)
    words = details.strip() or status.name.lower().replace("_", " ")
    # A held lock is "unavailable" too, and has words of its own.
    if status is grpc.StatusCode.UNAVAILABLE and "locked" not in words:
        words = f"containerd does not answer ({words})"
    elif status is grpc.StatusCode.DEADLINE_EXCEEDED:
        words = "containerd did not answer in time"
    return SwarmError(code, f"cannot {what}: {words}")


def seconds(time: Timestamp) -> float:
    """Return wall seconds; 0.0 of a time that is not set, which Go puts in year 1."""
    return max(0.0, time.seconds + time.nanos / 1e9)
