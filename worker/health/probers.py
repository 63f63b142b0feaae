"""HTTP and TCP probes: one connection each, closed afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from swarmpy.model.endpoints import HostPort
from worker.health.checks import Check
from worker.health.probe import ProbeResult

_LONGEST_HEAD: Final = 8192
_LONGEST_LINE_SHOWN: Final = 120


async def probe_tcp(check: Check, address: str) -> ProbeResult:
    """Pass if every port of `check` accepts a connection within its timeout, at `address` if it has none of its own."""
    try:
        async with asyncio.timeout(check.timeout_s):
            for port in check.ports:
                try:
                    _, writer = await asyncio.open_connection(port.reached_at(address), port.port)
                except OSError as error:
                    return ProbeResult(False, _refused(port, error))
                await _close(writer)
    except TimeoutError:
        return ProbeResult(False, f"no connection within {check.timeout_s:g} s")
    return ProbeResult(True)


async def probe_http(check: Check, address: str) -> ProbeResult:
    """Pass if a GET of the check's path is answered with a status from 200 to 399 within the timeout."""
    (port,) = check.ports
    try:
        async with asyncio.timeout(check.timeout_s):
            return await _get(check.path, port.reached_at(address), port)
    except TimeoutError:
        return ProbeResult(False, f"no answer to GET {check.path} within {check.timeout_s:g} s")


async def _get(path: str, address: str, port: HostPort) -> ProbeResult:
    try:
        reader, writer = await asyncio.open_connection(address, port.port, limit=_LONGEST_HEAD)
    except OSError as error:
        return ProbeResult(False, _refused(port, error))
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {address}:{port.port}\r\nUser-Agent: swarmpy-health\r\n"
        writer.write(f"{request}Accept: */*\r\nConnection: close\r\n\r\n".encode("latin-1", "replace"))
        await writer.drain()
        line = await reader.readline()
    except (OSError, ValueError) as error:
        return ProbeResult(False, f"GET {path}: {error}")
    finally:
        await _close(writer)
    return _judge(path, line)


def _judge(path: str, line: bytes) -> ProbeResult:
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        shown = line[:_LONGEST_LINE_SHOWN].decode("latin-1").strip()
        return ProbeResult(False, f"GET {path}: the answer is not HTTP: {shown!r}")
    status = int(words[1])
    return ProbeResult(200 <= status < 400, f"GET {path}: status {status}")


def _refused(port: HostPort, error: OSError) -> str:
    named = str(port.target) if port.port == port.target else f"{port.target} (PORT={port.port})"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on port {named} yet"
    return f"port {named} cannot be reached: {error.strerror or error}"


async def _close(writer: asyncio.StreamWriter) -> None:
    # An abort rather than a close: the answer's rest, if any, is not wanted and must not be waited for.
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
