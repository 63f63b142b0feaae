"""Published ports: `10.0.0.5:8080:8000/udp`, ranges, and `published=8080,target=8000,protocol=http,mode=host`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from swarmpy.errors import invalid
from swarmpy.model.endpoints import AppProtocol, PublishMode, ServicePort, Transport
from swarmpy.model.spec import PortSpec
from swarmpy.model.states import word

PROTOCOLS: Final[Mapping[str, tuple[Transport, AppProtocol]]] = {
    "tcp": (Transport.TCP, AppProtocol.TCP),
    "udp": (Transport.UDP, AppProtocol.TCP),
    "http": (Transport.TCP, AppProtocol.HTTP),
}
MODES: Final = {"ingress": PublishMode.INGRESS, "host": PublishMode.HOST}
PROXY_PROTOCOLS: Final = {"off": 0, "v1": 1, "v2": 2}
_OPTIONS: Final = ("target", "published", "protocol", "mode", "address", "name", "proxy-protocol")
_HIGHEST: Final = 65535


def parse_publish(text: str) -> tuple[PortSpec, ...]:
    """Return the ports that `text` publishes: several for a range.

    The short form is `[[address:]published:]target[/protocol]`; options may follow it (`8080:8000,protocol=http`).
    The long form is options only. Ports are numbers, or ranges of the same length; several may be published for one
    target. A target alone is published on a free port of the cluster's choice.

    Raises:
        SwarmError: INVALID_ARGUMENT.
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
        address=options.get("address", ""),
        proxy_protocol=options.get("proxy-protocol", "off"),
    )


def port_specs(
    *,
    target: str,
    published: str,
    protocol: str,
    mode: str,
    name: str = "",
    address: str = "",
    proxy_protocol: str = "off",
) -> tuple[PortSpec, ...]:
    """Return the ports that these words stand for; `target` and `published` may be ranges."""
    if protocol not in PROTOCOLS:
        raise invalid(f'invalid protocol "{protocol}": use one of {", ".join(PROTOCOLS)}')
    if mode not in MODES:
        raise invalid(f'invalid mode "{mode}": use one of {", ".join(MODES)}')
    if proxy_protocol not in PROXY_PROTOCOLS:
        raise invalid(f'invalid proxy-protocol "{proxy_protocol}": use one of {", ".join(PROXY_PROTOCOLS)}')
    transport, app_protocol = PROTOCOLS[protocol]
    targets: Sequence[int] = _range(target)
    numbers: Sequence[int] = _range(published) if published not in ("", "0") else [0] * len(targets)
    if len(targets) == 1:
        targets = [*targets] * len(numbers)
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
            address=address,
            proxy_protocol=PROXY_PROTOCOLS[proxy_protocol],
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


def shown(port: ServicePort) -> str:
    """Return a published port as tables show it: `*:8080->80/tcp`."""
    return f"{port.address or '*'}:{port.published}->{port.target}/{protocol_word(port)}"


def _short(head: str, text: str) -> dict[str, str]:
    ports, slash, protocol = head.partition("/")
    parts = ports.rsplit(":", 2)
    options = {"target": parts[-1]}
    if len(parts) > 1:
        options["published"] = parts[-2]
    if len(parts) > 2:
        if not parts[0]:
            raise invalid(f'invalid port "{text}": it has no address before the first colon')
        options["address"] = parts[0]
    if slash:
        options["protocol"] = protocol
    return options


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
