"""Message boundaries, whatever pieces the bytes come in."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.dataplane.proxy.http_tracker import Exchange, MalformedHttp, announce_close, error_response


@dataclass(frozen=True)
class Pair:
    """A request and its whole answer, 1xx included."""

    request: bytes
    response: bytes


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PAIRS = (
    Pair(GET, OK),
    Pair(GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
    Pair(GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n"),
    Pair(GET, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    Pair(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n"),
    Pair(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    Pair(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    ),
    Pair(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", OK),
    Pair(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", OK),
    Pair(b"\r\n" + GET, OK),
)

cuts = st.sets(st.integers(1, 200))


def idle(exchange: Exchange) -> bool:
    return exchange.idle


def pieces(data: bytes, at: set[int]) -> list[bytes]:
    edges = [0, *sorted(cut for cut in at if cut < len(data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(pairs=st.lists(st.tuples(st.sampled_from(PAIRS), cuts, cuts), min_size=1, max_size=5))
def test_any_split_gives_the_same_boundaries(pairs: list[tuple[Pair, set[int], set[int]]]) -> None:
    exchange = Exchange()
    assert idle(exchange)
    for done, (pair, request_cuts, response_cuts) in enumerate(pairs):
        for piece in pieces(pair.request, request_cuts):
            assert exchange.complete == done
            exchange.request(piece)
        assert exchange.begun == exchange.complete == done + 1
        for piece in pieces(pair.response, response_cuts):
            assert exchange.answered == done
            assert not idle(exchange)
            exchange.response(piece)
        assert exchange.answered == done + 1
        assert idle(exchange)
        assert exchange.keep_alive
        assert not exchange.answering


@given(st.lists(st.sampled_from(PAIRS[:4]), min_size=2, max_size=5), cuts, cuts)
def test_pipelined_requests_are_in_flight_until_the_last_answer(
    pairs: list[Pair], request_cuts: set[int], response_cuts: set[int]
) -> None:
    exchange = Exchange()
    for piece in pieces(b"".join(pair.request for pair in pairs), request_cuts):
        exchange.request(piece)
    assert exchange.unanswered == len(pairs)
    for piece in pieces(b"".join(pair.response for pair in pairs), response_cuts):
        assert not idle(exchange)
        exchange.response(piece)
    assert idle(exchange)


def test_head_behind_another_request_cannot_be_followed() -> None:
    exchange = Exchange()
    exchange.request(GET + b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert exchange.opaque
    assert not idle(exchange)


@pytest.mark.parametrize(
    ("request_bytes", "response_bytes"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", OK),
        (b"GET / HTTP/1.0\r\n\r\n", OK),
        (GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        (GET, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\n\r\n"),
        (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"),
    ],
)
def test_either_side_may_end_the_connection(request_bytes: bytes, response_bytes: bytes) -> None:
    exchange = Exchange()
    exchange.request(request_bytes)
    exchange.response(response_bytes)
    assert idle(exchange)
    assert not exchange.keep_alive


def test_http_1_0_may_ask_to_go_on() -> None:
    exchange = Exchange()
    exchange.request(b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    exchange.response(b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n")
    assert exchange.keep_alive


def test_an_answer_without_length_lasts_until_the_stream_ends() -> None:
    exchange = Exchange()
    exchange.request(GET)
    exchange.response(b"HTTP/1.1 200 OK\r\n\r\nand so on")
    assert exchange.answering
    assert not idle(exchange)


@pytest.mark.parametrize(
    ("request_bytes", "response_bytes"),
    [
        (
            b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
        ),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nbytes"),
    ],
)
def test_an_accepted_upgrade_is_opaque(request_bytes: bytes, response_bytes: bytes) -> None:
    exchange = Exchange()
    exchange.request(request_bytes)
    before = exchange.opaque
    exchange.response(response_bytes)
    assert (before, exchange.opaque) == (False, True)
    exchange.request(b"\x00anything")
    exchange.response(b"\x00anything")
    assert not idle(exchange)


def test_bytes_behind_an_unanswered_upgrade_are_opaque() -> None:
    exchange = Exchange()
    exchange.request(b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
    exchange.request(b"more")
    assert exchange.opaque


def test_http_2_is_opaque() -> None:
    exchange = Exchange()
    exchange.request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert exchange.opaque


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
def test_garbage_from_a_client(garbage: bytes) -> None:
    with pytest.raises(MalformedHttp):
        Exchange().request(garbage)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_garbage_from_a_backend(method: bytes) -> None:
    exchange = Exchange()
    exchange.request(method + b" / HTTP/1.1\r\n\r\n")
    with pytest.raises(MalformedHttp):
        exchange.response(b"\x15\x03\x01\r\n\r\n")


def test_a_header_without_end_is_refused() -> None:
    exchange = Exchange()
    exchange.request(b"HEAD / HTTP/1.1\r\n\r\n")
    with pytest.raises(MalformedHttp):
        exchange.response(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000)


@given(st.lists(st.binary(max_size=60), max_size=6), st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_do_worse_than_malformed(requests: list[bytes], responses: list[bytes]) -> None:
    exchange = Exchange()
    try:
        for data in requests:
            exchange.request(data)
        for data in responses:
            if not exchange.idle:
                exchange.response(data)
    except MalformedHttp:
        return
    assert exchange.answered <= exchange.begun


@pytest.mark.parametrize(
    ("request_bytes", "replayable"),
    [
        (GET, True),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", False),
    ],
)
def test_what_may_be_sent_twice(request_bytes: bytes, replayable: bool) -> None:
    exchange = Exchange()
    exchange.request(request_bytes)
    assert exchange.replayable is replayable


def test_announcing_the_end() -> None:
    assert announce_close(OK) == OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
    assert announce_close(b"HTTP/1.1 100 Continue\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert announce_close(b"HTTP/1.1 200 O") == b"HTTP/1.1 200 O"


def test_error_responses_are_complete() -> None:
    exchange = Exchange()
    exchange.request(GET)
    exchange.response(error_response("503 Service Unavailable", "Sorry.", "Retry-After: 1"))
    assert idle(exchange)
    assert not exchange.keep_alive
