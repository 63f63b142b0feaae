"""Where HTTP/1.1 requests and responses begin and end, from the bytes of both directions. No input or output.

Bytes are followed, never changed: a mistake here could delay a drain, not corrupt a message. httptools
(llhttp) parses; what it cannot be told (a response to HEAD has no body) is done by hand.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, Protocol

import httptools

_REPLAYABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_H2_PREFACE: Final = b"PRI * HTTP/2.0\r\n"
_LARGEST_HEAD_BYTES: Final = 256 * 1024
_SWITCHING: Final = 101


class MalformedHttp(Exception):  # noqa: N818  # named for what the peer sent
    """The bytes are not HTTP/1.x."""


def error_response(status: str, sentence: str, *headers: str) -> bytes:
    """Return a complete response in plain text that ends the connection."""
    body = f"{sentence}\n".encode()
    lines = (
        f"HTTP/1.1 {status}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def announce_close(data: bytes) -> bytes:
    """Return `data`, which begins with a response, with `Connection: close` as its first header field.

    A 1xx response and a status line that is not complete are returned as they are.
    """
    status = _STATUS.match(data)
    line_end = data.find(b"\n") + 1
    if status is None or status[1].startswith(b"1") or not line_end:
        return data
    return data[:line_end] + b"Connection: close\r\n" + data[line_end:]


class _Parser(Protocol):
    def feed_data(self, data: bytes | memoryview) -> None: ...


class Exchange:
    """The messages of one client connection, whichever backends they go to.

    Feed `request` and `response` with the bytes in the order in which they were received.

    Attributes:
        begun: requests whose first byte was seen.
        complete: requests seen to their end.
        answered: responses seen to their end (1xx are not counted).
        answering: a byte of the first unanswered request's response was seen.
        keep_alive: whether the last answered request and its response let the connection go on.
        opaque: messages can be followed no more (upgrade, CONNECT, HTTP/2): treat both directions as bytes.
        replayable: the newest request is idempotent and has no body so far.
    """

    __slots__ = (
        "_final",
        "_head_buffer",
        "_methods",
        "_request_parser",
        "_requests",
        "_response_parser",
        "_responses",
        "_upgrading",
        "answered",
        "answering",
        "begun",
        "complete",
        "keep_alive",
        "opaque",
        "replayable",
    )

    def __init__(self) -> None:
        self.begun = 0
        self.complete = 0
        self.answered = 0
        self.answering = False
        self.keep_alive = True
        self.opaque = False
        self.replayable = False
        self._upgrading = False
        self._final = False
        self._methods: deque[bytes] = deque()
        self._head_buffer = b""
        self._requests = _RequestEvents(self)
        self._request_parser: _Parser = self._requests.new_parser()
        self._responses = _ResponseEvents(self)
        self._response_parser: _Parser = self._responses.new_parser()

    @property
    def idle(self) -> bool:
        """Whether every request was sent in full and answered in full."""
        return self.begun == self.complete == self.answered and not self.opaque

    @property
    def unanswered(self) -> int:
        """Requests whose responses have not ended."""
        return self.begun - self.answered

    def request(self, data: bytes | memoryview) -> None:
        """Follow bytes from the client.

        Raises:
            MalformedHttp: they are not a request.
        """
        if self.opaque or self._final:
            return
        if self._upgrading:
            # Bytes behind an upgrade request that was not answered yet: nobody can say yet what they are.
            self.opaque = True
            return
        if not self.begun and bytes(data[: len(_H2_PREFACE)]) == _H2_PREFACE:
            self.opaque = True
            return
        try:
            self._request_parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrading = True
            self.opaque = upgrade.args[0] < len(data)
        except httptools.HttpParserError as error:
            raise MalformedHttp(str(error)) from error

    def response(self, data: bytes | memoryview) -> None:
        """Follow bytes from a backend; at least one request must be unanswered.

        Raises:
            MalformedHttp: they are not a response.
        """
        while not self.opaque and len(data):
            self.answering = True
            if self._methods and self._methods[0] == b"HEAD":
                data = self._bodiless_response(data)
                continue
            try:
                self._response_parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self.opaque = True
            except httptools.HttpParserError as error:
                raise MalformedHttp(str(error)) from error
            return

    def end(self) -> None:
        """Let go of the parsers, which refer back to this object."""
        del self._requests, self._responses, self._request_parser, self._response_parser

    def _bodiless_response(self, data: bytes | memoryview) -> bytes:
        """Take the header of a response to HEAD; return what lies behind it."""
        held = self._head_buffer + bytes(data)
        end = _HEAD_END.search(held)
        if end is None:
            if len(held) > _LARGEST_HEAD_BYTES:
                raise MalformedHttp("the header of a response does not end")
            self._head_buffer = held
            return b""
        status = _STATUS.match(held)
        if status is None:
            raise MalformedHttp("a response has no status line")
        self._head_buffer = b""
        if not status[1].startswith(b"1"):
            header = held[: end.start()].lower()
            closes = re.search(rb"\nconnection:[^\n]*\bclose\b", header) is not None
            persists = header.startswith(b"http/1.1") or re.search(rb"\nconnection:[^\n]*\bkeep-alive\b", header)
            self._end_response(keep_alive=not closes and bool(persists))
        return held[end.end() :]

    # -- called by the parsers' event objects

    def _begin_request(self, method: bytes) -> None:
        self._methods.append(method)
        self.replayable = method in _REPLAYABLE
        if method == b"HEAD" and len(self._methods) > 1:
            # llhttp cannot be told between two pipelined responses that the second one has no body.
            self.opaque = True

    def _end_request(self, *, keep_alive: bool) -> None:
        self.complete += 1
        self._final = not keep_alive

    def _begin_response(self, status: int) -> None:
        method = self._methods[0] if self._methods else b""
        if status == _SWITCHING or (method == b"CONNECT" and 200 <= status < 300):
            self.opaque = True

    def _end_response(self, *, keep_alive: bool) -> None:
        self.answered += 1
        self.answering = False
        self.keep_alive = keep_alive
        if self._methods:
            self._methods.popleft()
        if self._final and not self._methods:
            self.keep_alive = False
        if self._upgrading and not self._methods:
            self._upgrading = False  # refused: HTTP goes on
            self._request_parser = self._requests.new_parser()


class _RequestEvents:
    """What httptools calls while it parses requests."""

    __slots__ = ("_exchange", "_parser")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def new_parser(self) -> _Parser:
        self._parser = httptools.HttpRequestParser(self)
        return self._parser

    def on_message_begin(self) -> None:
        self._exchange.begun += 1

    def on_headers_complete(self) -> None:
        self._exchange._begin_request(self._parser.get_method())

    def on_body(self, _body: bytes) -> None:
        self._exchange.replayable = False

    def on_message_complete(self) -> None:
        self._exchange._end_request(keep_alive=self._parser.should_keep_alive())


class _ResponseEvents:
    """What httptools calls while it parses responses."""

    __slots__ = ("_exchange", "_parser")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def new_parser(self) -> _Parser:
        self._parser = httptools.HttpResponseParser(self)
        return self._parser

    def on_headers_complete(self) -> None:
        self._exchange._begin_response(self._parser.get_status_code())

    def on_message_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        if status >= 200:
            self._exchange._end_response(keep_alive=parser.should_keep_alive())
