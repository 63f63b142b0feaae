from __future__ import annotations

import pytest

from swarmpy.errors import Code, SwarmError
from worker.dataplane import protocol
from worker.dataplane.protocol import Applied, Configure, Counters, Endpoints, GetCounters, Hello, PortCleared
from worker.dataplane.proxy.api import CounterRow

DOWN = (Configure(node_id="n", cluster_id="c"), Endpoints(payload=b"\x00" * 300), GetCounters())
UP = (
    Hello(dns_address="127.0.0.1", dns_port=53, vip_prefix="127.93", cluster_id="c", revision=7),
    Applied(revision=7, busy=("t1", "t2")),
    Applied(revision=8),
    PortCleared(transport="tcp", address="127.0.0.1", port=80),
    Counters(
        dns={"noerror": 3},
        balancer=(CounterRow(service_id="s", port=80, task_id="t1", connections=4),),
        loop_lag_max_s=0.5,
        loop_lag_total_s=1.5,
        rss_bytes=1,
    ),
)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 10_000])
def test_messages_survive_any_cutting_of_the_stream(step: int) -> None:
    stream = b"".join(map(protocol.encode, DOWN))
    decoder = protocol.data_plane_decoder()
    got = [m for at in range(0, len(stream), step) for m in decoder.feed(stream[at : at + step])]
    assert got == list(DOWN)


def test_every_message_to_the_worker_comes_back_as_it_was() -> None:
    decoder = protocol.worker_decoder()
    assert [m for message in UP for m in decoder.feed(protocol.encode(message))] == list(UP)


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    decoder = protocol.data_plane_decoder()
    with pytest.raises(SwarmError, match="over the limit") as caught:
        list(decoder.feed((protocol.MAX_FRAME_BYTES + 1).to_bytes(4, "big")))
    assert caught.value.code is Code.CORRUPT


def test_what_is_no_message_is_refused_by_a_sentence() -> None:
    for body in (b"", b"\xc1", b"\x81\xa4type\xa6Nobody", protocol.encode(UP[0])[4:]):
        with pytest.raises(SwarmError, match="not one of its messages") as caught:
            list(protocol.data_plane_decoder().feed(len(body).to_bytes(4, "big") + body))
        assert caught.value.code is Code.CORRUPT


def test_a_message_that_no_frame_holds_is_not_sent() -> None:
    with pytest.raises(SwarmError, match="larger than") as caught:
        protocol.encode(Endpoints(payload=bytes(protocol.MAX_FRAME_BYTES)))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


def test_a_field_that_a_newer_worker_adds_is_passed_over() -> None:
    body = b"\x84\xa4type\xa9Configure\xa7node_id\xa1n\xaacluster_id\xa1c\xa3new\x01"
    (message,) = protocol.data_plane_decoder().feed(len(body).to_bytes(4, "big") + body)
    assert message == DOWN[0]
