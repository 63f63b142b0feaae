"""The text forms of ports, pairs, limits and probes."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import AppProtocol, PublishMode, Transport
from swarmpy.model.spec import PortSpec, Ulimit
from swarmpy.model.states import RestartCondition
from swarmpy.notation.choices import parse_choice
from swarmpy.notation.limits import merge_ulimits, parse_ulimit
from swarmpy.notation.pairs import merge_env, parse_env, parse_labels, read_env_file
from swarmpy.notation.ports import parse_expose, parse_publish, parse_target, protocol_word
from swarmpy.notation.probes import http_test, tcp_test

UDP, HTTP, HOST = Transport.UDP, AppProtocol.HTTP, PublishMode.HOST


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("8000", [PortSpec(target=8000)]),
        ("8080:8000", [PortSpec(target=8000, published=8080)]),
        ("8080:8000/udp", [PortSpec(target=8000, published=8080, transport=UDP)]),
        ("8080:8000/http", [PortSpec(target=8000, published=8080, app_protocol=HTTP)]),
        ("8080:8000,protocol=http", [PortSpec(target=8000, published=8080, app_protocol=HTTP)]),
        ("8080:8000/tcp,mode=host", [PortSpec(target=8000, published=8080, mode=HOST)]),
        (
            "published=8080,target=8000,protocol=udp,mode=host,name=dns",
            [PortSpec(target=8000, published=8080, transport=UDP, mode=HOST, name="dns")],
        ),
        ("target=8000", [PortSpec(target=8000)]),
        ("8080-8081:90-91", [PortSpec(target=90, published=8080), PortSpec(target=91, published=8081)]),
        ("90-91", [PortSpec(target=90), PortSpec(target=91)]),
        ("0:90", [PortSpec(target=90)]),
        ("10.0.0.5:8080:80", [PortSpec(target=80, published=8080, address="10.0.0.5")]),
        ("127.0.0.1::80/udp", [PortSpec(target=80, address="127.0.0.1", transport=UDP)]),
        ("8080:80,address=0.0.0.0", [PortSpec(target=80, published=8080, address="0.0.0.0")]),
        ("8080-8081:90", [PortSpec(target=90, published=8080), PortSpec(target=90, published=8081)]),
        ("8080:80,proxy-protocol=v2", [PortSpec(target=80, published=8080, proxy_protocol=2)]),
    ],
)
def test_published_ports(text: str, ports: list[PortSpec]) -> None:
    assert list(parse_publish(text)) == ports


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", 'invalid port "": a port is a number from 1 to 65535'),
        ("0", 'invalid port "0": a port is a number from 1 to 65535'),
        ("8080:", 'invalid port "": a port is a number'),
        ("8080:65536", 'invalid port "65536"'),
        ("²:1", 'invalid port "²"'),
        ("published=80", "it has no target port"),
        ("target=80,mode=bridge", 'invalid mode "bridge": use one of ingress, host'),
        ("80/sctp", 'invalid protocol "sctp": use one of tcp, udp, http'),
        ("80,nonsense", 'unknown option "nonsense"'),
        ("9-8", 'invalid range "9-8": it ends before it starts'),
        (":80:80", 'invalid port ":80:80": it has no address before the first colon'),
        ("80,proxy-protocol=3", 'invalid proxy-protocol "3": use one of off, v1, v2'),
        ("1-3:1-2", 'the ranges "1-3" and "1-2" differ in length'),
    ],
)
def test_wrong_ports(text: str, sentence: str) -> None:
    with pytest.raises(SwarmError) as caught:
        parse_publish(text)
    assert sentence in caught.value.message


def test_exposed_ports_are_not_published() -> None:
    assert parse_expose("8000/http") == (PortSpec(target=8000, app_protocol=HTTP, publish=False),)
    assert [port.target for port in parse_expose("90-92")] == [90, 91, 92]


def test_what_publish_rm_names() -> None:
    assert parse_target("80") == (80, None)
    assert parse_target("80/udp") == (80, UDP)
    with pytest.raises(SwarmError, match='invalid protocol "x"'):
        parse_target("80/x")


def test_protocols_are_written_as_they_are_read() -> None:
    for text in ("80/tcp", "80/udp", "80/http"):
        (port,) = parse_publish(text)
        assert protocol_word(port) == text.partition("/")[2]


def test_pairs() -> None:
    assert parse_labels(["a=1", "b", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}
    with pytest.raises(SwarmError, match="it has no key"):
        parse_labels(["=1"])
    assert parse_env(["A=1", "HOME", "NOPE", "A=2"], {"HOME": "/h"}) == ("A=2", "HOME=/h")
    with pytest.raises(SwarmError, match="use KEY=value"):
        parse_env(["A B=1"], {})
    assert merge_env(["A=1", "B=2", "C=3"], ["B=9", "D=4"], ["C"]) == ("A=1", "B=9", "D=4")


def test_env_files(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("\ufeffA=1\n\n# comment\n  B = 2\nC\n", encoding="utf-8")
    with pytest.raises(SwarmError, match=rf'{file}:4: invalid environment variable "B = 2"'):
        read_env_file(file)
    file.write_text("A=1\n#\nC\n")
    assert read_env_file(file) == ["A=1", "C"]
    file.write_bytes(b"\xff=1")
    with pytest.raises(SwarmError, match="it is not UTF-8 text"):
        read_env_file(file)


def test_ulimits() -> None:
    assert parse_ulimit("nofile=1024:2048") == Ulimit(name="nofile", soft=1024, hard=2048)
    assert parse_ulimit("nproc=5") == Ulimit(name="nproc", soft=5, hard=5)
    assert parse_ulimit("core=-1") == Ulimit(name="core", soft=-1, hard=-1)
    for text in ("nofile", "nofile=", "nofile=-2", "nofile=-1:5", "nofile=2:1", "zz=1"):
        with pytest.raises(SwarmError):
            parse_ulimit(text)
    merged = merge_ulimits([parse_ulimit("core=0"), parse_ulimit("nproc=1")], [parse_ulimit("nproc=2")], ["core"])
    assert merged == (Ulimit(name="nproc", soft=2, hard=2),)


def test_probes_take_the_first_port_where_none_is_named() -> None:
    ports = (PortSpec(target=8000), PortSpec(target=9000))
    assert http_test("/healthz", ports) == ("HTTP", ":8000/healthz")
    assert http_test(":9000/x", ports) == ("HTTP", ":9000/x")
    assert http_test("9000", ()) == ("HTTP", ":9000/")
    assert tcp_test("9000", ()) == ("TCP", ":9000")
    assert tcp_test("", ports) == ("TCP", ":8000")
    for wrong in ("healthz", ":x/y"):
        with pytest.raises(SwarmError, match="use /path or :PORT/path"):
            http_test(wrong, ports)
    with pytest.raises(SwarmError, match="the service has none"):
        http_test("/healthz", ())
    with pytest.raises(SwarmError, match="use a target port"):
        tcp_test("http", ())


def test_choices_name_what_is_known() -> None:
    assert parse_choice("on-failure", RestartCondition) is RestartCondition.ON_FAILURE
    with pytest.raises(SwarmError, match="use one of any, on-failure, none"):
        parse_choice("always", RestartCondition)
