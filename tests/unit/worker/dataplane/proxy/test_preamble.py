"""The PROXY protocol's header, and that each backend gets it before its client's first byte."""

from __future__ import annotations

import asyncio
import socket

import pytest

from swarmpy.model.endpoints import AppProtocol, ServicePort
from tests.support.balancer import SERVICE, TARGET, Rig, rig
from worker.dataplane.proxy.api import ListenKey
from worker.dataplane.proxy.preamble import preamble

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_version_1_is_a_line() -> None:
    assert preamble(1, ("10.0.0.9", 40000), ("10.0.0.5", 80)) == b"PROXY TCP4 10.0.0.9 10.0.0.5 40000 80\r\n"
    assert preamble(1, ("fe80::1%eth0", 1), ("::1", 2)) == b"PROXY TCP6 fe80::1 ::1 1 2\r\n"
    assert preamble(0, ("10.0.0.9", 1), ("10.0.0.5", 2)) == b""


def test_version_2_is_binary() -> None:
    expected = SIGNATURE + bytes.fromhex("21 11 000c 0a000009 0a000005 9c40 0050")
    assert preamble(2, ("10.0.0.9", 40000), ("10.0.0.5", 80)) == expected
    assert preamble(2, ("::ffff:10.0.0.9", 40000), ("::ffff:10.0.0.5", 80)) == expected
    wide = preamble(2, ("::1", 1), ("::2", 2))
    assert wide == SIGNATURE + b"\x21\x21\x00\x24" + bytes(15) + b"\x01" + bytes(15) + b"\x02" + bytes.fromhex(
        "00010002"
    )


async def listen(made: Rig, protocol: AppProtocol, version: int) -> tuple[str, int]:
    sock = socket.create_server(("127.0.0.1", 0))
    key = ListenKey("127.0.0.1", sock.getsockname()[1])
    await made.balancer.listen(key, sock, SERVICE, ServicePort(TARGET, app_protocol=protocol, proxy_protocol=version))
    return key[:2]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("protocol", list(AppProtocol))
async def test_a_backend_is_told_the_client_first(protocol: AppProtocol, version: int) -> None:
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(REQUEST))
        writer.write(ANSWER)
        got.append(await reader.read())

    async with rig() as made:
        made.ready([await made.peers.start("one", serve)])
        address = await listen(made, protocol, version)
        reader, writer = await asyncio.open_connection(*address)
        client = writer.get_extra_info("sockname")
        writer.write(REQUEST)
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.close()
        await writer.wait_closed()
    assert got[0] == preamble(version, client, address) + REQUEST


async def test_a_backend_that_a_kept_connection_moves_to_is_told_too() -> None:
    got: dict[str, bytes] = {}

    async with rig() as made:

        def backend(name: str):  # type: ignore[no-untyped-def]  # a handler
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                got[name] = await reader.readuntil(REQUEST)
                writer.write(ANSWER)
                await reader.read()

            return serve

        one, two = [await made.peers.start(name, backend(name)) for name in ("one", "two")]
        made.ready([one])
        address = await listen(made, AppProtocol.HTTP, 1)
        reader, writer = await asyncio.open_connection(*address)
        expected = preamble(1, writer.get_extra_info("sockname"), address) + REQUEST
        for backends, withdrawn in (([one], ()), ([two], ("one",))):
            made.ready(backends, withdrawn)
            writer.write(REQUEST)
            assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.close()
        await writer.wait_closed()
    assert got == {"one": expected, "two": expected}
