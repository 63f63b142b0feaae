"""What a handler raises, as the caller of a real gRPC call learns it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import control_pb2_grpc
from swarmpy.errors import Code, NotLeaderError, SwarmError
from swarmpy.rpc.dial import COMMON, unix_channel
from swarmpy.rpc.server import MAX_SENTENCE_BYTES, Authorize, Boundary
from swarmpy.rpc.status import to_error


class Failing(control_pb2_grpc.ControlServicer):
    """Raises what it is told, at once or after an answer."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> pb.GetNodeResponse:  # noqa: N802  # gRPC's
        raise self._error()

    async def Watch(  # noqa: N802  # gRPC's name
        self, request: pb.WatchRequest, context: Any
    ) -> AsyncIterator[pb.WatchResponse]:
        yield pb.WatchResponse(revision=7)
        raise self._error()


@asynccontextmanager
async def serving(
    tmp_path: Path, error: Callable[[], Exception], authorize: Authorize | None = None
) -> AsyncIterator[control_pb2_grpc.ControlAsyncStub]:
    server = grpc.aio.server(interceptors=(Boundary(authorize),), options=COMMON)
    control_pb2_grpc.add_ControlServicer_to_server(Failing(error), server)  # type: ignore[abstract]  # the rest is not served
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    try:
        async with unix_channel(tmp_path / "s") as channel:
            yield control_pb2_grpc.ControlStub(channel)
    finally:
        await server.stop(0)


async def learned(
    tmp_path: Path, error: Callable[[], Exception], authorize: Authorize | None = None
) -> tuple[SwarmError, SwarmError]:
    """Return what the callers of the unary call and of the stream learn."""
    async with serving(tmp_path, error, authorize) as stub:
        with pytest.raises(grpc.RpcError) as unary:
            await stub.GetNode(pb.GetNodeRequest(), timeout=10)
        with pytest.raises(grpc.RpcError) as stream:
            async for answer in stub.Watch(pb.WatchRequest(), timeout=10):
                assert answer.revision == 7
        return to_error(unary.value), to_error(stream.value)


@pytest.mark.parametrize("code", list(Code))
async def test_an_error_crosses_the_wire_unchanged(tmp_path: Path, code: Code) -> None:
    for retryable in (False, True):
        sentence = f"nœud {code.value}: 100 % lost\nsecond line"
        for error in await learned(tmp_path, partial(SwarmError, code, sentence, retryable=retryable)):
            assert (error.code, error.message, error.retryable) == (code, sentence, retryable)


async def test_a_value_that_cannot_be_read_is_the_callers_fault(tmp_path: Path) -> None:
    for error in await learned(tmp_path, lambda: ValueError("7 is not a valid NodeRole")):
        assert error.code is Code.INVALID_ARGUMENT
        assert error.message == "the request cannot be read: 7 is not a valid NodeRole"


async def test_a_bug_is_internal_and_shows_nothing_of_itself(tmp_path: Path) -> None:
    for error in await learned(tmp_path, lambda: KeyError("secret-key")):
        assert error.code is Code.INTERNAL
        assert "failed inside the manager (KeyError): see its log" in error.message
        assert "secret-key" not in error.message
        assert "Traceback" not in error.message


async def test_of_a_group_the_first_failure_counts(tmp_path: Path) -> None:
    def group() -> Exception:
        return ExceptionGroup("", [ExceptionGroup("", [SwarmError(Code.COMPACTED, "start again at 7")])])

    for error in await learned(tmp_path, group):
        assert (error.code, error.message) == (Code.COMPACTED, "start again at 7")


async def test_a_long_sentence_is_cut_rather_than_lost(tmp_path: Path) -> None:
    for letter in ("x", "ü", "\U0001f600"):
        for error in await learned(tmp_path, partial(SwarmError, Code.INVALID_ARGUMENT, letter * 50_000)):
            assert error.code is Code.INVALID_ARGUMENT
            assert error.message.startswith(letter * 100)
            assert len(error.message.encode()) <= MAX_SENTENCE_BYTES + 4


async def test_nobody_is_served_before_the_call_is_authorised(tmp_path: Path) -> None:
    asked = []

    def refuse(method: str, context: Any) -> None:
        asked.append(method)
        raise SwarmError(Code.PERMISSION_DENIED, "not you")

    for error in await learned(tmp_path, lambda: AssertionError("it was served"), refuse):
        assert (error.code, error.message) == (Code.PERMISSION_DENIED, "not you")
    assert asked == ["/swarmpy.api.v1.Control/GetNode", "/swarmpy.api.v1.Control/Watch"]


async def test_a_call_that_nobody_serves_is_not_supported(tmp_path: Path) -> None:
    async with serving(tmp_path, ValueError) as stub:
        with pytest.raises(grpc.RpcError) as raised:
            await stub.GetTask(pb.GetTaskRequest(ref="t"), timeout=10)
        assert to_error(raised.value).code is Code.NOT_SUPPORTED


async def test_who_does_not_lead_says_who_does_and_where_all_managers_are(tmp_path: Path) -> None:
    managers = ("10.0.0.1:2377", "[fd00::2]:2377")
    for told in (NotLeaderError("ask the other", managers[1], managers), NotLeaderError("nobody leads")):
        for error in await learned(tmp_path, partial(_same, told)):
            assert isinstance(error, NotLeaderError)
            assert (error.message, error.leader, error.managers) == (told.message, told.leader, told.managers)


def _same(error: Exception) -> Exception:
    return error
