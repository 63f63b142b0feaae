"""The probes against servers on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from swarmpy.model.endpoints import HostPort
from worker.health.checks import Check, CheckKind
from worker.health.probers import probe_http, probe_tcp


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[HostPort]:
    """Answer every request with these bytes; None never answers."""
    hang = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # a TCP probe says nothing
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await hang.wait()
            else:
                writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield HostPort(target=80, port=listening.sockets[0].getsockname()[1])
    finally:
        hang.set()
        listening.close()
        await listening.wait_closed()


def http(port: HostPort, timeout_s: float = 5.0) -> Check:
    return Check(CheckKind.HTTP, ports=(port,), path="/x", timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("answer", "passed", "output"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nbody", True, "GET /x: status 200"),
        (b"HTTP/1.1 302 Found\r\n\r\n", True, "GET /x: status 302"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "GET /x: status 404"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", False, "GET /x: status 503"),
        (b"SSH-2.0-x\r\n", False, "GET /x: the answer is not HTTP: 'SSH-2.0-x'"),
        (b"", False, "GET /x: the answer is not HTTP: ''"),
    ],
)
async def test_http_passes_from_200_to_399(answer: bytes, passed: bool, output: str) -> None:
    async with server(answer) as port:
        result = await probe_http(http(port), "127.0.0.1")
    assert (result.passed, result.output) == (passed, output)


async def test_an_answer_without_end_of_line_is_refused() -> None:
    async with server(b"x" * 20_000) as port:
        result = await probe_http(http(port), "127.0.0.1")
    assert not result.passed


async def test_http_waits_no_longer_than_its_timeout() -> None:
    async with server(None) as port:
        result = await probe_http(http(port, timeout_s=0.05), "127.0.0.1")
    assert (result.passed, result.output) == (False, "no answer to GET /x within 0.05 s")


async def test_tcp_wants_every_port_to_listen() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        deaf = HostPort(target=81, port=closed.getsockname()[1])
        async with server(b"") as port:
            good = await probe_tcp(Check(CheckKind.TCP, ports=(port,)), "127.0.0.1")
            bad = await probe_tcp(Check(CheckKind.TCP, ports=(port, deaf)), "127.0.0.1")
    assert good.passed
    assert (bad.passed, bad.output) == (False, f"nothing listens on port 81 (PORT={deaf.port}) yet")
