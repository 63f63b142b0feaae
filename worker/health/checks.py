"""Which checks a task gets, from its spec: parsed once, refused in words where they make no sense. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import SwarmError, invalid
from swarmpy.model.endpoints import HostPort, Transport
from swarmpy.model.spec import ContainerSpec, Healthcheck

DEFAULT_RETRIES: Final = 3
_PORT_PATH: Final = re.compile(r":(\d+)(/.*)?")


class CheckKind(enum.Enum):
    COMMAND = "CMD"
    SHELL = "CMD-SHELL"
    HTTP = "HTTP"
    TCP = "TCP"


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its pace, in seconds.

    `argv` serves COMMAND and SHELL. `ports` are host ports (with the target that each stands for) and `path` the
    request's path. `once` ends the check with its first pass; `eager` polls from 10 ms up to 250 ms until then.
    """

    kind: CheckKind
    argv: tuple[str, ...] = ()
    ports: tuple[HostPort, ...] = ()
    path: str = "/"
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = DEFAULT_RETRIES
    start_period_s: float = 0.0
    start_interval_s: float = 5.0
    once: bool = False
    eager: bool = False


@dataclass(frozen=True, slots=True)
class HealthPlan:
    """`health`: RUNNING waits for it, and failing it ends the task. `readiness`: only routes or unroutes it."""

    health: Check | None = None
    readiness: Check | None = None


def plan(
    container: ContainerSpec,
    host_ports: tuple[HostPort, ...],
    *,
    image: Healthcheck | None = None,
    any_port: bool = False,
) -> HealthPlan:
    """Return the checks of a task. Without any in the spec, its TCP ports must accept a connection once.

    Args:
        image: the health check that comes with the task's image, for a spec that says nothing of it.
        any_port: whether a check may ask for a port that is no target port: in a container every port is its own.

    Raises:
        SwarmError: INVALID_ARGUMENT, a test is malformed or names a port that the task has not.
    """
    wanted = container.healthcheck if container.healthcheck is not None else image
    health = _check(wanted, host_ports, "healthcheck", any_port=any_port)
    readiness = _check(container.readiness, host_ports, "readiness check", any_port=any_port)
    if readiness is None and health is None:
        readiness = _default_readiness(host_ports)
    return HealthPlan(health, readiness)


def _default_readiness(host_ports: Iterable[HostPort]) -> Check | None:
    """The first connection proves the listener; going on would fill the task's log with empty connections."""
    tcp = tuple(p for p in host_ports if p.transport is Transport.TCP)
    if not tcp:
        return None
    return Check(CheckKind.TCP, ports=tcp, timeout_s=2.0, interval_s=1.0, retries=1, once=True, eager=True)


def _check(spec: Healthcheck | None, host_ports: tuple[HostPort, ...], what: str, *, any_port: bool) -> Check | None:
    if spec is None or not spec.test or spec.test[0] == "NONE":
        return None
    argv: tuple[str, ...] = ()
    ports: tuple[HostPort, ...] = ()
    path = "/"
    match spec.test:
        case ("CMD", _, *_):
            kind, argv = CheckKind.COMMAND, spec.test[1:]
        case ("CMD-SHELL", line):
            kind, argv = CheckKind.SHELL, ("/bin/sh", "-c", line)
        case ("HTTP" | "TCP" as word, address):
            kind = CheckKind(word)
            port, path = _target(address, host_ports, what, any_port=any_port)
            ports = (port,)
        case _:
            raise invalid(
                f"the {what} {list(spec.test)} is not understood; give CMD with a command, CMD-SHELL with one line,"
                " HTTP with :PORT/PATH, TCP with :PORT, or NONE"
            )
    return Check(
        kind,
        argv,
        ports,
        path,
        interval_s=spec.interval_s,
        timeout_s=spec.timeout_s,
        retries=max(1, spec.retries),
        start_period_s=spec.start_period_s,
        start_interval_s=spec.start_interval_s,
    )


def _target(address: str, host_ports: tuple[HostPort, ...], what: str, *, any_port: bool) -> tuple[HostPort, str]:
    match = _PORT_PATH.fullmatch(address)
    if match is None:
        raise invalid(f"the {what}'s address {address!r} is not of the form :PORT or :PORT/PATH")
    target = int(match[1])
    for port in host_ports:
        if port.target == target and port.transport is Transport.TCP:
            return port, match[2] or "/"
    if any_port:
        return HostPort(target=target, port=target), match[2] or "/"
    raise _no_such_port(target, host_ports, what)


def _no_such_port(target: int, host_ports: tuple[HostPort, ...], what: str) -> SwarmError:
    known = ", ".join(str(p.target) for p in host_ports if p.transport is Transport.TCP) or "none"
    return invalid(f"the {what} asks for port {target}, which is no TCP target port of the service (it has {known})")
