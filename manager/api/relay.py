"""Lets every manager answer every call: reads are made current first, writes go to the manager that leads.

Stands between the RPC boundary and the servicers, which know nothing of it. A call is relayed once: the leader that it
reaches answers it, or says that it does not lead (any more), and the manager that took the call looks again. That is
repeated within the caller's deadline, so that an election is a delay to him and not an error; the request id sees to
it that what is repeated takes effect once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from typing import Any, Final, Protocol, TypeVar

import grpc
import grpc.aio
import tenacity

from swarmpy.clock import Clock
from swarmpy.errors import Code, NotLeaderError, SwarmError
from swarmpy.rpc.stale import STALE_KEY
from swarmpy.rpc.status import to_error

T = TypeVar("T")

FORWARDED_KEY: Final = "swarmpy-forwarded"  # metadata of a relayed call: the node that relays it
CALLER_KEY: Final = "swarmpy-caller"  # metadata of a relayed call: the node that made it
CONTROL: Final = "/swarmpy.api.v1.Control/"
RELAYED: Final = (CONTROL, "/swarmpy.api.v1.Membership/")
OF_THE_LEADER: Final = frozenset({f"{CONTROL}Logs"})  # what it alone has, though nothing is written
LOCAL: Final = frozenset({f"{CONTROL}GetConsensus"})  # must be answered without a quorum, too
LONGEST_S: Final = 30.0  # for a caller that named no deadline
FIRST_PAUSE_S: Final = 0.01
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

    def when_leader_changes(self, callback: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `callback` at every change of the leader while the block runs."""


class LeaderCalls:
    """Has something done by whoever leads: here, or by a call to the manager that does.

    Args:
        channel: returns the channel to the manager at an address; kept and closed by whoever gives it.
    """

    def __init__(self, consensus: Consensus, channel: Callable[[str], grpc.aio.Channel], clock: Clock) -> None:
        self.consensus, self.channel, self._clock = consensus, channel, clock

    async def make(
        self,
        here: Callable[[], Awaitable[T]],
        there: Callable[[grpc.aio.Channel, float], Awaitable[T]],
        *,
        limit_s: float | None = None,
        is_relayed: bool = False,
    ) -> T:
        """Return what `here` returns on the leader, `there` elsewhere; looks again while nobody leads.

        Args:
            there: makes the call on a channel to the leader, with a deadline in seconds.
            limit_s: seconds left; None takes half a minute.
            is_relayed: another manager took us for the leader: it is told if we are not, and nothing is repeated.

        Raises:
            SwarmError: what came of it; NOT_LEADER, UNAVAILABLE if nobody led in time.
        """
        limit_s = LONGEST_S if limit_s is None else limit_s - MARGIN_S
        until_s = self._clock.monotonic() + limit_s

        async def attempt() -> T:
            if self.consensus.is_leader:
                return await here()
            if is_relayed:
                raise self.not_leader()
            return await self._elsewhere(there, max(until_s - self._clock.monotonic(), MARGIN_S))

        try:
            return await attempt()  # most calls end here, and need not pay for what repeats them
        except SwarmError as error:
            if is_relayed or not _may_end_well(error):
                raise
        await self._clock.sleep(FIRST_PAUSE_S)
        return await tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_may_end_well),
            wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
            stop=tenacity.stop_before_delay(until_s - self._clock.monotonic()),
            sleep=self._clock.sleep,
            reraise=True,
        )(attempt)

    async def _elsewhere(self, there: Callable[[grpc.aio.Channel, float], Awaitable[T]], left_s: float) -> T:
        """Make a call to the leader; given up when another one leads, since the old one may never answer."""
        channel = self.leader()
        try:
            async with asyncio.timeout(None) as waiting:
                with self.consensus.when_leader_changes(lambda: _end(waiting)):
                    return await there(channel, left_s)
        except TimeoutError as error:
            raise SwarmError(Code.UNAVAILABLE, "the leader changed during the call: try again") from error
        except grpc.RpcError as error:
            raise to_error(error) from error

    def leader(self) -> grpc.aio.Channel:
        """Return a channel to the leader. UNAVAILABLE: there is none."""
        address = self.consensus.leader_addr
        if not address:
            raise nobody_leads()
        return self.channel(address)

    def not_leader(self) -> NotLeaderError:
        """Return the error for who takes this manager for the leader."""
        address = self.consensus.leader_addr
        where = f"{address} does" if address else "nobody does at the moment"
        return NotLeaderError(f"this manager does not lead, {where}: try again there", address)


class Relay(grpc.aio.ServerInterceptor):
    """Makes reads current, and relays what the leader has to do.

    Args:
        node_id: this manager's node, told to the leader.
        caller: returns the node that makes a call, given its context.
    """

    def __init__(self, calls: LeaderCalls, node_id: str, caller: Callable[[Any], str]) -> None:
        self._calls, self._node_id, self._caller = calls, node_id, caller

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of `details.method`, wrapped if it is one that the leader may have to do."""
        handler = await continuation(details)
        method = details.method
        if handler is None or not method.startswith(RELAYED) or method in LOCAL:
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

            async def there(channel: grpc.aio.Channel, left_s: float) -> Any:
                send = channel.unary_unary(
                    method, request_serializer=type(request).SerializeToString, response_deserializer=bytes
                )
                return await send(request, timeout=left_s, metadata=self._stamp(context))

            return await self._calls.make(
                lambda: handler.unary_unary(request, context),
                there,
                limit_s=context.time_remaining(),
                is_relayed=FORWARDED_KEY in metadata,
            )

        return call

    def _stream(self, method: str, inner: Any, metadata: dict[str, Any]) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            if method not in OF_THE_LEADER or self._calls.consensus.is_leader:
                await self._be_current(metadata)
                answers = inner(request, context)
            else:
                answers = self._relayed_stream(method, request, context, metadata)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer

        return call

    async def _be_current(self, metadata: dict[str, Any]) -> None:
        if STALE_KEY in metadata:
            return
        try:
            await self._calls.consensus.read_barrier()
        except SwarmError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            raise SwarmError(error.code, f"{error.message}, or see what this manager has with --stale") from error

    async def _relayed_stream(
        self, method: str, request: Any, context: Any, metadata: dict[str, Any]
    ) -> AsyncIterator[Any]:
        if FORWARDED_KEY in metadata:
            raise self._calls.not_leader()
        open_stream = self._calls.leader().unary_stream(
            method, request_serializer=type(request).SerializeToString, response_deserializer=bytes
        )
        answers = open_stream(request, metadata=self._stamp(context))
        try:
            async for answer in answers:
                yield answer
        except grpc.RpcError as error:
            raise to_error(error) from error
        finally:
            answers.cancel()

    def _stamp(self, context: Any) -> tuple[tuple[str, str], ...]:
        return ((FORWARDED_KEY, self._node_id), (CALLER_KEY, self._caller(context)))


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


def _end(waiting: asyncio.Timeout) -> None:
    if not waiting.expired():  # what ends already takes no other time
        waiting.reschedule(0.0)


def _may_end_well(error: BaseException) -> bool:
    return isinstance(error, SwarmError) and error.code in (Code.NOT_LEADER, Code.UNAVAILABLE) and error.retryable
