"""Lets every manager answer every call: reads are made current first, writes go to the manager that leads.

Stands between the RPC boundary and the servicers, which know nothing of it. A call is relayed once: the leader that it
reaches answers it, or says that it does not lead (any more), and the manager that took the call looks again. That is
repeated within the caller's deadline, so that an election is a delay to him and not an error; the request id sees to
it that what is repeated takes effect once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, Protocol

import grpc
import grpc.aio
import structlog
import tenacity

from swarmpy.clock import Clock
from swarmpy.errors import Code, NotLeaderError, SwarmError
from swarmpy.rpc.status import to_error

log = structlog.get_logger(__name__)

STALE_KEY: Final = "swarmpy-stale"  # metadata of a read that takes this manager's state as it is
FORWARDED_KEY: Final = "swarmpy-forwarded"  # metadata of a relayed call: the node that relays it
CONTROL: Final = "/swarmpy.api.v1.Control/"
OF_THE_LEADER: Final = frozenset({f"{CONTROL}Logs"})  # what it alone has, though nothing is written
LOCAL: Final = frozenset({f"{CONTROL}GetConsensus"})  # must be answered without a quorum, too
LONGEST_S: Final = 30.0  # for a caller that named no deadline
MARGIN_S: Final = 0.05  # before the caller's deadline, so that he hears why


class Consensus(Protocol):
    """What is asked of the replicated log here."""

    @property
    def is_leader(self) -> bool:
        """Whether this manager leads, and has applied all that was committed before it did."""

    @property
    def leader_addr(self) -> str:
        """`host:port` of the manager that leads, as far as this one knows; empty if it knows of none."""

    async def read_barrier(self) -> None:
        """Return once everything that was acknowledged before the call is applied here. UNAVAILABLE: no quorum."""


class Relay(grpc.aio.ServerInterceptor):
    """Makes reads current, and relays what the leader has to do.

    Args:
        node_id: this manager's node, told to the leader.
        channel: returns the channel to the manager at an address; kept and closed by whoever gives it.
    """

    def __init__(
        self, consensus: Consensus, node_id: str, channel: Callable[[str], grpc.aio.Channel], clock: Clock
    ) -> None:
        self._consensus, self._node_id, self._channel, self._clock = consensus, node_id, channel, clock

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of `details.method`, wrapped if it is one of the user's API."""
        handler = await continuation(details)
        method = details.method
        if handler is None or not method.startswith(CONTROL) or method in LOCAL:
            return handler
        metadata = dict(details.invocation_metadata or ())
        codec = (handler.request_deserializer, _serializer(handler.response_serializer))
        if handler.response_streaming:
            stream = self._stream(method, handler.unary_stream, metadata)
            return grpc.unary_stream_rpc_method_handler(stream, *codec)
        return grpc.unary_unary_rpc_method_handler(self._unary(method, handler, metadata), *codec)

    def _unary(self, method: str, handler: Any, metadata: dict[str, Any]) -> Any:
        async def call(request: Any, context: Any) -> Any:
            if "request_id" not in request.DESCRIPTOR.fields_by_name:
                await self._be_current(metadata)
                return await handler.unary_unary(request, context)

            async def relayed(address: str, left_s: float) -> Any:
                send = self._channel(address).unary_unary(
                    method, request_serializer=type(request).SerializeToString, response_deserializer=bytes
                )
                return await send(request, timeout=left_s, metadata=((FORWARDED_KEY, self._node_id),))

            return await self._by_the_leader(
                lambda: handler.unary_unary(request, context), relayed, metadata, context.time_remaining()
            )

        return call

    def _stream(self, method: str, inner: Any, metadata: dict[str, Any]) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            if method not in OF_THE_LEADER or self._consensus.is_leader:
                await self._be_current(metadata)
                answers = inner(request, context)
            else:
                answers = self._relayed_stream(method, request, metadata)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer

        return call

    async def _be_current(self, metadata: dict[str, Any]) -> None:
        if STALE_KEY not in metadata:
            await self._consensus.read_barrier()

    async def _by_the_leader(
        self,
        here: Callable[[], Awaitable[Any]],
        there: Callable[[str, float], Awaitable[Any]],
        metadata: dict[str, Any],
        remaining_s: float | None,
    ) -> Any:
        """Have the call done by whoever leads; look again while it turns out that nobody does."""
        limit_s = LONGEST_S if remaining_s is None else remaining_s - MARGIN_S
        until_s = self._clock.monotonic() + limit_s

        async def attempt() -> Any:
            if self._consensus.is_leader:
                return await here()
            if FORWARDED_KEY in metadata:
                raise self._not_leader()
            address = self._consensus.leader_addr
            if not address:
                raise nobody_leads()
            try:
                return await there(address, max(until_s - self._clock.monotonic(), MARGIN_S))
            except grpc.RpcError as error:
                raise to_error(error) from error

        return await tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda e: FORWARDED_KEY not in metadata and _may_end_well(e)),
            wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
            stop=tenacity.stop_before_delay(limit_s),
            sleep=self._clock.sleep,
            reraise=True,
        )(attempt)

    async def _relayed_stream(self, method: str, request: Any, metadata: dict[str, Any]) -> AsyncIterator[Any]:
        if FORWARDED_KEY in metadata:
            raise self._not_leader()
        address = self._consensus.leader_addr
        if not address:
            raise nobody_leads()
        open_stream = self._channel(address).unary_stream(
            method, request_serializer=type(request).SerializeToString, response_deserializer=bytes
        )
        answers = open_stream(request, metadata=((FORWARDED_KEY, self._node_id),))
        try:
            async for answer in answers:
                yield answer
        except grpc.RpcError as error:
            raise to_error(error) from error
        finally:
            answers.cancel()

    def _not_leader(self) -> NotLeaderError:
        address = self._consensus.leader_addr
        where = f"{address} does" if address else "nobody does at the moment"
        return NotLeaderError(f"this manager does not lead, {where}: try again there", address)


def _serializer(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return a serializer that lets a relayed answer through as it came: it is bytes already."""
    return lambda answer: answer if isinstance(answer, bytes) else serialize(answer)


def nobody_leads() -> SwarmError:
    """Return the error of a call that needs a leader while there is none."""
    return SwarmError(
        Code.UNAVAILABLE,
        "no manager leads: an election is under way, or more than half of the managers cannot be reached; "
        "see `swarmpy swarm status`, and try again",
    )


def _may_end_well(error: BaseException) -> bool:
    return isinstance(error, SwarmError) and error.code in (Code.NOT_LEADER, Code.UNAVAILABLE) and error.retryable
