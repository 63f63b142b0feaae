"""Addresses as people write them."""

from __future__ import annotations

import pytest

from swarmpy.addresses import Address, bootstrap_address, metrics_host, parse_address
from swarmpy.errors import Code, SwarmError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1", "10.0.0.1", 2377),
        ("10.0.0.1:99", "10.0.0.1", 99),
        ("manager.example", "manager.example", 2377),
        ("::1", "::1", 2377),
        ("[::1]", "::1", 2377),
        ("[::1]:99", "::1", 99),
    ],
)
def test_what_is_an_address(text: str, host: str, port: int) -> None:
    assert parse_address(text, "it") == Address(host, port)
    assert parse_address(str(Address(host, port)), "it") == Address(host, port)


@pytest.mark.parametrize("text", ["", ":99", "a:", "a:0", "a:65536", "a:²", "a:b", "[]:9"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(SwarmError, match="is not an address: write HOST") as raised:
        parse_address(text, "it")
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_the_bootstrap_port_is_the_next_one_if_there_is_one() -> None:
    assert bootstrap_address(Address("a", 2377)) == Address("a", 2378)
    with pytest.raises(SwarmError, match="leaves no port"):
        bootstrap_address(Address("a", 65535))


def test_metrics_are_for_this_machine() -> None:
    assert metrics_host("127.0.0.3") == "127.0.0.3"
    assert metrics_host("10.0.0.1") == "127.0.0.1"
