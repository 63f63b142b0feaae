"""Several files as one: later ones change what earlier ones say. Pure.

Mappings merge key by key, scalars are replaced, lists are appended without repeating an item; `ports`, `volumes`,
`secrets` and `configs` replace the item that they name again; `command`, `entrypoint` and probes' `test` are
replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

from swarmpy.errors import SwarmError, invalid
from swarmpy.notation.ports import parse_publish
from swarmpy.stack.tree import Node, kind

_REPLACED: Final = frozenset({"command", "entrypoint", "test"})
_PAIRS: Final = frozenset({"environment", "labels", "sysctls", "extra_hosts", "networks"})

Key = Callable[[Any], Any]


def merge(*documents: Node) -> Node:
    """Return one document of one or more, the last of which has the last word."""
    return reduce(lambda base, other: _merge(base, other, ""), documents)


def _merge(base: Node, other: Node, key: str) -> Node:
    if base.value is None or key in _REPLACED:
        return other
    if other.value is None:
        return base
    if key in _PAIRS:
        base, other = _as_mapping(base), _as_mapping(other)
    match base.value, other.value:
        case dict(), dict():
            merged = dict(base.value)
            for name, node in other.value.items():
                merged[name] = _merge(merged[name], node, name) if name in merged else node
            return Node(merged, other.place)
        case list(), list():
            return Node(_append(base.value, other.value, _IDENTITY.get(key, _as_is)), other.place)
        case dict() | list(), _:
            raise _mismatch(base, other, key)
        case _, dict() | list():
            raise _mismatch(base, other, key)
    return other


def _mismatch(base: Node, other: Node, key: str) -> SwarmError:
    was, now = kind(base.value), kind(other.value)
    return invalid(f'{other.place}: "{key}" is {now} here and {was} in {base.place}: they cannot be merged')


def _as_mapping(node: Node) -> Node:
    """Return a list of `key=value` items as a mapping; anything else as it is."""
    if not isinstance(node.value, list):
        return node
    entries = {}
    for item in node.value:
        if not isinstance(item.value, str):
            return node
        name, equals, value = item.value.partition("=")
        entries[name] = Node(value if equals else None, item.place)
    return Node(entries, node.place)


def _append(base: list[Node], other: list[Node], identity: Key) -> list[Node]:
    items = {identity(node.plain()): node for node in base}
    items.update({identity(node.plain()): node for node in other})
    return list(items.values())


def _as_is(value: Any) -> Any:
    return repr(value)


def _port(value: Any) -> Any:
    """Return what a port is published as; the same again replaces it."""
    if isinstance(value, Mapping):
        published = value.get("published")
        where = (str(value.get("host_ip") or ""), str(published or value.get("target")))
        return (*where, str(value.get("protocol", "tcp")), bool(published))
    try:
        ports = parse_publish(str(value))
    except SwarmError:
        return repr(value)
    first, last = ports[0], ports[-1]
    at = (first.published, last.published) if first.published else (first.target, last.target)
    span = str(at[0]) if at[0] == at[1] else f"{at[0]}-{at[1]}"
    return (first.address, span, first.transport.name.lower(), bool(first.published))


def _volume(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("target")
    parts = str(value).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _source(value: Any) -> Any:
    return value.get("source") if isinstance(value, Mapping) else value


_IDENTITY: Final[Mapping[str, Key]] = {
    "ports": _port,
    "volumes": _volume,
    "secrets": _source,
    "configs": _source,
}
