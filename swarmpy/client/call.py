"""How one call is made: with a deadline, repeated while that can help, its errors in the project's own type."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import grpc

from swarmpy.clock import Clock, SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.ids import RandomBytes, new_id
from swarmpy.rpc.status import to_error

DEFAULT_TIMEOUT_S: Final = 10.0
PAGE_SIZE: Final = 1000
FIRST_PAUSE_S: Final = 0.03

Req = TypeVar("Req", contravariant=True)
Res = TypeVar("Res", covariant=True)
T = TypeVar("T")


class Method(Protocol[Req, Res]):
    """A unary method of a generated asyncio stub."""

    def __call__(self, request: Req, *, timeout: float | None = None) -> Awaitable[Res]: ...


@dataclass(frozen=True)
class Caller:
    """Makes calls to one socket.

    Args:
        check: raises the SwarmError that says why the socket cannot be reached; called before each attempt.
        timeout_s: deadline of a call that names none, in seconds.
    """

    check: Callable[[], Awaitable[None]]
    timeout_s: float = DEFAULT_TIMEOUT_S
    clock: Clock = field(default_factory=SystemClock)
    random_bytes: RandomBytes = os.urandom

    def request_id(self) -> str:
        """Return the id of a new mutation; its retries carry the same one."""
        return new_id(self.random_bytes)

    async def __call__(self, method: Method[Req, Res], request: Req, timeout_s: float | None = None) -> Res:
        """Return the answer to `request`.

        Raises:
            SwarmError: the manager refused, or did not answer by the deadline.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        deadline_s = self.clock.monotonic() + limit_s
        refusals: list[SwarmError] = []

        async def attempt() -> Res:
            await self.check()
            left_s = max(deadline_s - self.clock.monotonic(), 0.001)
            try:
                return await method(request, timeout=left_s)
            except grpc.RpcError as error:
                refusals.append(_answered(error, limit_s))
                raise refusals[-1] from error

        try:
            return await self._persist(attempt, limit_s)
        except SwarmError as error:
            # The last try may have had but a moment: an answer before it says why there is none.
            reasons = [refusal for refusal in refusals if refusal.code is not Code.DEADLINE_EXCEEDED]
            if error.code is Code.DEADLINE_EXCEEDED and reasons:
                raise reasons[-1] from error
            raise

    async def stream(
        self, open_call: Callable[[], Any], convert: Callable[[Any], T], timeout_s: float | None = None
    ) -> AsyncGenerator[T, None]:
        """Yield the converted answers of a streaming call, and end the call when the reader leaves.

        A stream has no deadline, but its first answer (or the headers before it) must come in `timeout_s`.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s

        async def reachable() -> None:
            await self.check()

        await self._persist(reachable, limit_s)
        call = open_call()
        try:
            async with asyncio.timeout(limit_s):
                await call.initial_metadata()
            async for answer in call:
                yield convert(answer)
        except grpc.RpcError as error:
            raise _answered(error, limit_s) from error
        except TimeoutError as error:
            raise _silent(limit_s) from error
        finally:
            call.cancel()

    async def _persist(self, attempt: Callable[[], Awaitable[T]], limit_s: float) -> T:
        """Return what `attempt` returns, repeated for `limit_s` seconds while that can help."""
        began_s = self.clock.monotonic()
        try:
            return await attempt()
        except SwarmError as error:
            left_s = limit_s - FIRST_PAUSE_S - (self.clock.monotonic() - began_s)
            if not error.retryable or left_s <= 0:
                raise
        import tenacity  # here, as a command whose call is answered at once need not pay for the import

        await self.clock.sleep(FIRST_PAUSE_S)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(may_retry),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            stop=tenacity.stop_before_delay(left_s),
            sleep=self.clock.sleep,
            reraise=True,
        )
        return await retrying(attempt)


def may_retry(error: BaseException) -> bool:
    """Tell whether the same call may succeed later."""
    return isinstance(error, SwarmError) and error.retryable


def _answered(error: grpc.RpcError, limit_s: float) -> SwarmError:
    translated = to_error(error)
    return _silent(limit_s) if translated.code is Code.DEADLINE_EXCEEDED else translated


def _silent(limit_s: float) -> SwarmError:
    return SwarmError(
        Code.DEADLINE_EXCEEDED,
        f"no answer within {limit_s:g} s: the managers may have lost their quorum or be very busy; try again",
    )
