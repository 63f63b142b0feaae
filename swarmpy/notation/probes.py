"""What a probe asks: an HTTP path, a TCP port, or a command."""

from __future__ import annotations

from collections.abc import Sequence

from swarmpy.errors import invalid
from swarmpy.model.spec import PortSpec


def http_test(text: str, ports: Sequence[PortSpec]) -> tuple[str, ...]:
    """Return the test for `/path` (of the service's first port) or `:8000/path`."""
    if text.startswith("/"):
        return ("HTTP", f":{_first(ports, text)}{text}")
    port, slash, path = text.removeprefix(":").partition("/")
    if not port.isdigit():
        raise invalid(f'invalid HTTP probe "{text}": use /path or :PORT/path')
    return ("HTTP", f":{port}{slash or '/'}{path}")


def tcp_test(text: str, ports: Sequence[PortSpec]) -> tuple[str, ...]:
    """Return the test for a target port, `8000` or `:8000`; empty is the service's first port."""
    port = text.removeprefix(":") or str(_first(ports, text))
    if not port.isdigit():
        raise invalid(f'invalid TCP probe "{text}": use a target port')
    return ("TCP", f":{port}")


def _first(ports: Sequence[PortSpec], text: str) -> int:
    if not ports:
        raise invalid(f'the probe "{text}" names no port and the service has none: use :PORT{text}, or publish a port')
    return ports[0].target
