"""The RPC boundary: every handler's failure leaves as a status with a sentence, never as a traceback."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio
import structlog

from swarmpy.errors import Code, SwarmError
from swarmpy.rpc.status import STATUS, to_metadata

log = structlog.get_logger(__name__)

MAX_SENTENCE_BYTES: Final = 2000  # a status has 8 KiB, in which each of these may take three

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Authorize = Callable[[str, Context], None]


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps every handler: authorises the call, and translates what it raises.

    Args:
        authorize: raises SwarmError where the caller may not call the method; given `/package.Service/Method`.
    """

    def __init__(self, authorize: Authorize | None = None) -> None:
        self._authorize = authorize

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of `details.method`, wrapped; None for a method that nobody serves."""
        handler: grpc.RpcMethodHandler[Any, Any] | None = await continuation(details)
        if handler is None:
            return None
        codec = (handler.request_deserializer, handler.response_serializer)
        if handler.request_streaming and handler.response_streaming:
            wrapped = self._stream(details.method, handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(wrapped, *codec)
        if handler.response_streaming:
            wrapped = self._stream(details.method, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(wrapped, *codec)
        if handler.request_streaming:
            wrapped = self._unary(details.method, handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(wrapped, *codec)
        return grpc.unary_unary_rpc_method_handler(self._unary(details.method, handler.unary_unary), *codec)

    def _unary(self, method: str, inner: Any) -> Any:
        """Serve the handlers that give one answer, whatever they are asked with."""

        async def call(request: Any, context: Context) -> Any:
            try:
                if self._authorize is not None:
                    self._authorize(method, context)
                return await inner(request, context)
            except Exception as error:  # noqa: BLE001  # the boundary: everything leaves as a status
                await _abort(context, method, error)

        return call

    def _stream(self, method: str, inner: Any) -> Any:
        """Serve both kinds of streaming handler: a generator of answers, and a coroutine that writes them itself."""

        async def call(request: Any, context: Context) -> None:
            try:
                if self._authorize is not None:
                    self._authorize(method, context)
                if not inspect.isasyncgenfunction(inner):
                    await inner(request, context)
                    return
                async with contextlib.aclosing(inner(request, context)) as answers:
                    async for answer in answers:
                        await context.write(answer)
            except Exception as error:  # noqa: BLE001  # the boundary: everything leaves as a status
                await _abort(context, method, error)

        return call


async def _abort(context: Context, method: str, error: Exception) -> NoReturn:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]  # the first failure is what the others followed from
    if isinstance(error, grpc.aio.AbortError | grpc.aio.BaseError):
        raise error
    if isinstance(error, ValueError):
        translated = SwarmError(Code.INVALID_ARGUMENT, f"the request cannot be read: {error}")
    elif isinstance(error, SwarmError):
        translated = error
    elif isinstance(error, NotImplementedError):
        translated = SwarmError(Code.NOT_SUPPORTED, f"{method} is not served here: ask a node of a newer release")
    else:
        log.error("call failed", method=method, exc_info=error)
        translated = SwarmError(
            Code.INTERNAL, f"{method} failed inside the manager ({type(error).__name__}): see its log"
        )
    await context.abort(STATUS[translated.code], _short(translated.message), to_metadata(translated))


def _short(sentence: str) -> str:
    """Cut a sentence that would not fit in a status: one too long arrives as another error altogether."""
    data = sentence.encode()
    return sentence if len(data) <= MAX_SENTENCE_BYTES else data[:MAX_SENTENCE_BYTES].decode(errors="ignore") + " ..."
