"""Values of a Compose file as typed ones: each function takes a node and raises a sentence on what is wrong."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from swarmpy import units
from swarmpy.errors import invalid
from swarmpy.model.spec import PortSpec, Ulimit
from swarmpy.notation.limits import ulimit
from swarmpy.notation.pairs import read_env_file
from swarmpy.notation.ports import parse_expose, parse_publish, port_specs
from swarmpy.stack.tree import Node, kind

T = TypeVar("T")

_PORT_KEYS = frozenset(
    {"target", "published", "protocol", "mode", "name", "app_protocol", "host_ip", "x-proxy-protocol"}
)


def text(node: Node) -> str:
    """Return a scalar as text."""
    match node.value:
        case dict() | list() | None:
            raise invalid(f"must be text, not {kind(node.value)}")
        case bool():
            return "true" if node.value else "false"
    return str(node.value)


def boolean(node: Node) -> bool:
    words = {"true": True, "false": False}
    word = text(node).lower()
    if word not in words:
        raise invalid(f'must be true or false, not "{word}"')
    return words[word]


def integer(lowest: int = 0) -> Callable[[Node], int]:
    """Return a parser of whole numbers of at least `lowest`."""

    def parse(node: Node) -> int:
        try:
            number = int(text(node))
        except ValueError:
            raise invalid(f'must be a whole number, not "{text(node)}"') from None
        if number < lowest:
            raise invalid(f"must be {lowest} or more, not {number}")
        return number

    return parse


def ratio(node: Node) -> float:
    try:
        number = float(text(node))
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise invalid(f'must be a number from 0 to 1, not "{text(node)}"')
    return number


def duration_s(node: Node) -> float:
    return units.parse_duration_s(text(node))


def memory_bytes(node: Node) -> int:
    return units.parse_memory_bytes(text(node))


def nano_cpus(node: Node) -> int:
    return units.parse_nano_cpus(text(node))


def strings(node: Node) -> tuple[str, ...]:
    """Return a list of scalars."""
    return tuple(text(item) for item in node.items)


def command(node: Node) -> tuple[str, ...]:
    """Return a command line: a list of words, or text that is split as a shell would."""
    if isinstance(node.value, list):
        return strings(node)
    try:
        return tuple(shlex.split(text(node)))
    except ValueError as error:
        raise invalid(str(error).lower()) from error


def pairs(node: Node) -> dict[str, str | None]:
    """Return a mapping, or a list of `key=value`; None where there is no value."""
    if isinstance(node.value, list):
        items = (text(item).partition("=") for item in node.items)
        return {key: value if equals else None for key, equals, value in items}
    return {key: None if child.value is None else text(child) for key, child in node.mapping.items()}


def labels(node: Node) -> dict[str, str]:
    return {key: value or "" for key, value in pairs(node).items()}


def env_entries(node: Node) -> list[str]:
    """Return `KEY=value` entries, or `KEY` alone where the value is to come from outside."""
    return [key if value is None else f"{key}={value}" for key, value in pairs(node).items()]


def env_files(directory: Path) -> Callable[[Node], list[str]]:
    """Return a parser of `env_file`: a path, or a list of paths or of `{path, required}`."""

    def parse(node: Node) -> list[str]:
        entries: list[str] = []
        for item in node.items if isinstance(node.value, list) else [node]:
            required = True
            if isinstance(item.value, dict):
                required = boolean(item.value["required"]) if "required" in item.value else True
                path = directory / text(item.value["path"]) if "path" in item.value else None
            else:
                path = directory / text(item)
            if path is None:
                raise invalid("an env_file needs a path")
            if required or path.exists():
                entries.extend(read_env_file(path))
        return entries

    return parse


def ports(node: Node) -> tuple[PortSpec, ...]:
    """Return published ports, in the short or the long form."""
    found: list[PortSpec] = []
    for item in node.items:
        found.extend(_long_port(item.value) if isinstance(item.value, dict) else parse_publish(text(item)))
    return tuple(found)


def _long_port(entry: dict[str, Node]) -> tuple[PortSpec, ...]:
    values = {key: text(node) for key, node in entry.items() if node.value is not None}
    if unknown := set(values) - _PORT_KEYS:
        raise invalid(f"{', '.join(sorted(unknown))} of a port is not supported yet")
    if "target" not in values:
        raise invalid("a port needs a target")
    if values.get("app_protocol", "http") != "http":
        raise invalid(f'app_protocol "{values["app_protocol"]}" is not supported yet: use http, or leave it out')
    protocol = values.get("protocol", "tcp")
    return port_specs(
        target=values["target"],
        published=values.get("published", ""),
        protocol="http" if "app_protocol" in values and protocol == "tcp" else protocol,
        mode=values.get("mode", "ingress"),
        name=values.get("name", ""),
        address=values.get("host_ip", ""),
        proxy_protocol=values.get("x-proxy-protocol", "off"),
    )


def exposed(node: Node) -> tuple[PortSpec, ...]:
    """Return ports that are reached through the service's name only."""
    return tuple(port for item in node.items for port in parse_expose(text(item)))


def ulimits(node: Node) -> tuple[Ulimit, ...]:
    """Return limits: a number, or a soft and a hard one."""
    found = []
    for name, child in node.mapping.items():
        if isinstance(child.value, dict):
            soft, hard = child.value.get("soft"), child.value.get("hard")
            if soft is None or hard is None:
                raise invalid(f"{name} needs both soft and hard")
            found.append(ulimit(name, text(soft), text(hard)))
        else:
            found.append(ulimit(name, text(child), text(child)))
    return tuple(found)


def depends_on(node: Node) -> tuple[str, ...]:
    """Return the services to create before; only `condition: service_started` is honoured."""
    if isinstance(node.value, list):
        return strings(node)
    for name, child in node.mapping.items():
        condition = child.mapping.get("condition")
        if condition is not None and condition.value != "service_started":
            raise invalid(f"condition {text(condition)} of {name} is not supported yet: use service_started")
    return tuple(node.mapping)


def one_or_more(node: Node) -> tuple[str, ...]:
    """Return a list of scalars, or one alone."""
    return strings(node) if isinstance(node.value, list) else (text(node),)


def hosts(node: Node) -> tuple[str, ...]:
    """Return lines of a hosts file, `name:address`, from a list of them (with `=`, too) or a mapping."""
    if isinstance(node.value, list):
        return tuple(item.replace("=", ":", 1) for item in strings(node))
    return tuple(f"{name}:{text(child)}" for name, child in node.mapping.items())
