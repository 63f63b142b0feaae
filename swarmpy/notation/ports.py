"""Published ports: `8080:8000/udp`, ranges, and `published=8080,target=8000,protocol=http,mode=host`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from swarmpy.errors import SwarmError, invalid, not_supported
from swarmpy.model.endpoints import AppProtocol, PublishMode, ServicePort, Transport
from swarmpy.model.spec import PortSpec
from swarmpy.model.states import word

PROTOCOLS: Final[Mapping[str, tuple[Transport, AppProtocol]]] = {
    "tcp": (Transport.TCP, AppProtocol.TCP),
    "udp": (Transport.UDP, AppProtocol.TCP),
    "http": (Transport.TCP, AppProtocol.HTTP),
}
MODES: Final = {"ingress": PublishMode.INGRESS, "host": PublishMode.HOST}
_OPTIONS: Final = ("target", "published", "protocol", "mode", "name")
_HIGHEST: Final = 65535


def parse_publish(text: str) -> tuple[PortSpec, ...]:
    """Return the ports that `text` publishes: several for a range.

    The short form is `[published:]target[/protocol]`, each side a number or a range of the same length; options
    may follow it (`8080:8000,protocol=http`). The long form is options only. A target alone is published on a
    free port of the cluster's choice.

    Raises:
        SwarmError: INVALID_ARGUMENT, or NOT_SUPPORTED for an address.
    """
    head, *rest = text.split(",")
    options = _options(rest if "=" not in head else [head, *rest], text)
    if "=" not in head:
        options = {**_short(head, text), **options}
    if "target" not in options:
        raise invalid(f'invalid port "{text}": it has no target port')
    return port_specs(
        target=options["target"],
        published=options.get("published", ""),
        protocol=options.get("protocol", "tcp"),
        mode=options.get("mode", "ingress"),
        name=options.get("name", ""),
    )


def port_specs(*, target: str, published: str, protocol: str, mode: str, name: str = "") -> tuple[PortSpec, ...]:
    """Return the ports that these words stand for; `target` and `published` may be ranges."""
    if protocol not in PROTOCOLS:
        raise invalid(f'invalid protocol "{protocol}": use one of {", ".join(PROTOCOLS)}')
    if mode not in MODES:
        raise invalid(f'invalid mode "{mode}": use one of {", ".join(MODES)}')
    transport, app_protocol = PROTOCOLS[protocol]
    targets = _range(target)
    numbers: Sequence[int] = _range(published) if published not in ("", "0") else [0] * len(targets)
    if len(numbers) != len(targets):
        raise invalid(f'the ranges "{published}" and "{target}" differ in length')
    return tuple(
        PortSpec(
            target=to,
            published=at,
            transport=transport,
            app_protocol=app_protocol,
            mode=MODES[mode],
            name=name,
        )
        for at, to in zip(numbers, targets, strict=True)
    )


def parse_expose(text: str) -> tuple[PortSpec, ...]:
    """Return ports that are reached through the service's name only: `8000`, `8000/udp`, `8000-8002/http`."""
    target, _, protocol = text.partition("/")
    ports = port_specs(target=target, published="", protocol=protocol or "tcp", mode="ingress")
    return tuple(
        PortSpec(target=p.target, transport=p.transport, app_protocol=p.app_protocol, publish=False) for p in ports
    )


def parse_target(text: str) -> tuple[int, Transport | None]:
    """Return `(target, transport)` of `8000` (any transport) or `8000/udp`: what `--publish-rm` names."""
    number, slash, protocol = text.partition("/")
    if slash and protocol not in PROTOCOLS:
        raise invalid(f'invalid protocol "{protocol}": use one of {", ".join(PROTOCOLS)}')
    return _number(number), PROTOCOLS[protocol][0] if slash else None


def protocol_word(port: ServicePort) -> str:
    """Return the protocol as it is written: tcp, udp or http."""
    return "http" if port.app_protocol is AppProtocol.HTTP else word(port.transport)


def _options(items: list[str], text: str) -> dict[str, str]:
    options = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or key not in _OPTIONS:
            raise invalid(f'invalid port "{text}": unknown option "{key}"; options are {", ".join(_OPTIONS)}')
        options[key] = value
    return options


def _short(head: str, text: str) -> dict[str, str]:
    ports, slash, protocol = head.partition("/")
    parts = ports.rsplit(":", 2)
    if len(parts) == 3:
        raise _address(parts[0], text)
    options = {"target": parts[-1]}
    if len(parts) == 2:
        options["published"] = parts[0]
    if slash:
        options["protocol"] = protocol
    return options


def _address(address: str, text: str) -> SwarmError:
    return not_supported(f'publishing on a chosen address ("{address}" in "{text}")')


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
