"""Ports of this machine that lead to a container, as people write them: `[ADDRESS:][PORT:]TARGET[/PROTOCOL]`."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Final

from swarmpy.errors import invalid, not_supported
from swarmpy.model.container import PortBinding, RestartKind, RestartRule
from swarmpy.model.endpoints import Transport

_TRANSPORTS: Final = {"tcp": Transport.TCP, "udp": Transport.UDP}
_HIGHEST: Final = 65535
_EVERY: Final = "0.0.0.0"
RESTARTS: Final = {
    "no": RestartKind.NO,
    "on-failure": RestartKind.ON_FAILURE,
    "always": RestartKind.ALWAYS,
    "unless-stopped": RestartKind.UNLESS_STOPPED,
}


def parse_binding(text: str) -> tuple[PortBinding, ...]:
    """Return the bindings that `text` stands for: several for a range. Without a port, or with 0, a free one is picked.

    Raises:
        SwarmError: INVALID_ARGUMENT; NOT_SUPPORTED for an IPv6 address.
    """
    ports, _, protocol = text.partition("/")
    if (protocol or "tcp") not in _TRANSPORTS:
        raise invalid(f'invalid protocol "{protocol}": use one of {", ".join(_TRANSPORTS)}')
    if text.startswith("["):
        raise not_supported(f"publishing on an IPv6 address ({text})")
    *address, target = ports.split(":")
    published = address.pop() if address else ""
    if len(address) > 1:
        raise invalid(f'invalid port "{text}": use [ADDRESS:][PORT:]TARGET[/PROTOCOL]')
    targets = _range(target)
    numbers = _range(published) if published not in ("", "0") else [0] * len(targets)
    if len(numbers) != len(targets):
        raise invalid(f'the ranges "{published}" and "{target}" differ in length')
    at = _address(address[0]) if address else ""
    return tuple(
        PortBinding(target=to, port=number, transport=_TRANSPORTS[protocol or "tcp"], address=at)
        for number, to in zip(numbers, targets, strict=True)
    )


def parse_restart(text: str) -> RestartRule:
    """Return the rule `no`, `always`, `unless-stopped` or `on-failure[:NUMBER]`."""
    name, colon, number = text.partition(":")
    if name not in RESTARTS or (colon and name != "on-failure"):
        raise invalid("use one of no, on-failure[:NUMBER], always, unless-stopped")
    if colon and not (number.isascii() and number.isdigit()):
        raise invalid(f'"{number}" is not a number of restarts')
    return RestartRule(kind=RESTARTS[name], most=int(number) if colon else 0)


def _address(text: str) -> str:
    try:
        address = str(IPv4Address(text))
    except AddressValueError:
        raise invalid(f'invalid address "{text}": use one of this machine, such as 127.0.0.1') from None
    return "" if address == _EVERY else address


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    low = _number(first)
    high = _number(last) if dash else low
    if high < low:
        raise invalid(f'invalid range "{text}": it ends before it starts')
    return range(low, high + 1)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _HIGHEST:
        raise invalid(f'invalid port "{text}": a port is a number from 1 to {_HIGHEST}')
    return int(text)
