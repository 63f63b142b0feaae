"""The rules for health and readiness checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from swarmpy.errors import Problem
from swarmpy.model.endpoints import Transport
from swarmpy.model.spec import Healthcheck, PortSpec
from swarmpy.model.validate.checks import at_least, duration, text

_FORMS: Final = "CMD with a command, CMD-SHELL with one line, HTTP with :PORT/PATH, TCP with :PORT, or NONE"
_HTTP: Final = re.compile(r":(\d{1,5})(?:/[!-~]*)?", re.ASCII)
_TCP: Final = re.compile(r":(\d{1,5})", re.ASCII)


def check_health(
    path: str, check: Healthcheck, ports: tuple[PortSpec, ...], *, any_port: bool = False
) -> Iterator[Problem]:
    """Check a test's form, that the port it asks for is one of `ports` (unless `any_port`), and its pace."""
    match check.test:
        case ("NONE",):
            return
        case ():
            yield Problem(f"{path}.test", f"is empty, so that the rest has no effect: give {_FORMS}")
        case ("CMD", program, *_) if program:
            pass
        case ("CMD-SHELL", line) if line.strip():
            pass
        case ("HTTP", address):
            yield from _address(f"{path}.test", address, _HTTP, ":PORT/PATH", None if any_port else ports)
        case ("TCP", address):
            yield from _address(f"{path}.test", address, _TCP, ":PORT", None if any_port else ports)
        case _:
            yield Problem(f"{path}.test", f"{list(check.test)} is not understood: give {_FORMS}")
    for word in check.test:
        yield from text(f"{path}.test", word)
    yield from duration(f"{path}.interval_s", check.interval_s, above_zero=True)
    yield from duration(f"{path}.timeout_s", check.timeout_s, above_zero=True)
    yield from at_least(f"{path}.retries", check.retries, 1)
    yield from duration(f"{path}.start_period_s", check.start_period_s)
    yield from duration(f"{path}.start_interval_s", check.start_interval_s, above_zero=True)


def _address(
    path: str, address: str, form: re.Pattern[str], shape: str, ports: tuple[PortSpec, ...] | None
) -> Iterator[Problem]:
    match = form.fullmatch(address)
    if match is None:
        yield Problem(path, f"{address!r} is not of the form {shape}: name a target port of the service")
        return
    if ports is None:
        if not 0 < int(match[1]) < 65536:
            yield Problem(path, f"port {match[1]} is out of range: give 1 to 65535")
        return
    targets = sorted({port.target for port in ports if port.transport is Transport.TCP})
    if int(match[1]) not in targets:
        known = ", ".join(map(str, targets)) or "none"
        yield Problem(
            path,
            f"port {match[1]} is no TCP target port of the service (it has {known}): publish it, or ask another one",
        )
