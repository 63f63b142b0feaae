"""Small HTTP/1.1 backends and clients over streams, for what a test scripts by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Answer = Callable[[bytes, bytes], Awaitable[bytes]]


@dataclass(frozen=True)
class Reply:
    """A response: status line, header lines and body."""

    status: str
    headers: tuple[str, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of the first header field called `name` (lower case)."""
        for line in self.headers:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None


def ok(body: bytes, *headers: bytes) -> bytes:
    """Return a whole 200 response."""
    lines = (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def serving(name: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return a keep-alive backend that answers each request with its name and the size of the body it got."""

    async def answer(_head: bytes, body: bytes) -> bytes:
        return ok(name + b" %d" % len(body))

    return answering(answer)


def answering(answer: Answer) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return a backend that answers each request with `answer(head, body)`, for as long as there are any."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await read_head(reader):
            size = content_length(head)
            body = await reader.readexactly(size) if size else b""
            writer.write(await answer(head, body))
            await writer.drain()

    return handler


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Return the next message's header with its empty line, or nothing at the end of the stream."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        assert end.partial == b"", f"the stream ended within a header: {end.partial!r}"
        return b""


def content_length(head: bytes) -> int:
    """Return the Content-Length that a header says, 0 if none."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def read_reply(reader: asyncio.StreamReader, *, bodiless: bool = False, deadline_s: float = 5.0) -> Reply:
    """Read one response whose length is known; `bodiless` for an answer to HEAD."""
    async with asyncio.timeout(deadline_s):
        head = await read_head(reader)
        assert head, "the connection ended instead of an answer"
        status, *headers = head.decode().rstrip("\r\n").split("\r\n")
        body = b"" if bodiless else await reader.readexactly(content_length(head))
    return Reply(status, tuple(headers), body)
