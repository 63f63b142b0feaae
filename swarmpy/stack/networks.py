"""Networks of a Compose file: those that it declares, and those that each of its services joins; pure.

A service of containers that names no network joins `default`, which needs no declaration. Plain processes join
networks only where they are told to: they run on nodes that have none to offer, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from swarmpy.errors import invalid
from swarmpy.model.network import PREDEFINED, NetworkSpec
from swarmpy.model.spec import STACK_LABEL, NetworkAttachment
from swarmpy.model.states import NetworkDriver, Runtime
from swarmpy.model.validate import validate_network_spec
from swarmpy.model.validate.names import service_name
from swarmpy.notation.choices import parse_choice
from swarmpy.stack import values
from swarmpy.stack.faults import Faults
from swarmpy.stack.tree import Node

Keys = dict[str, Node]

DEFAULT: Final = "default"
_RANGES: Final = ("subnet", "gateway", "ip_range")


@dataclass(frozen=True)
class StackNetwork:
    """A network that a stack uses: the spec to make it from, or None where it is somebody else's (external)."""

    name: str
    spec: NetworkSpec | None = None


def declared(document: Node, stack: str, faults: Faults) -> dict[str, StackNetwork]:
    """Return the networks of the document by their short names, `default` among them."""
    networks = {DEFAULT: _own(f"{stack}_{DEFAULT}", stack, NetworkSpec())}
    node = document.mapping.get("networks")
    for short, child in (node.mapping if node is not None else {}).items():
        networks[short] = _network(short, child, stack, faults)
    return networks


def joined(
    node: Node, path: str, runtime: Runtime, networks: Mapping[str, StackNetwork], faults: Faults
) -> tuple[NetworkAttachment, ...]:
    """Return what a service joins: by name, with its own short name (the end of `path`) as an alias."""
    keys = node.mapping
    mode = faults.read(keys, "network_mode", path, _mode)
    if "networks" in keys and mode is not None:
        faults.add(keys["network_mode"], f"{path}.network_mode", "excludes networks: drop one of both")
    if mode is not None:
        return (NetworkAttachment(target=mode),)
    named = faults.read(keys, "networks", path, _named)
    if named is None:
        named = {DEFAULT: ()} if runtime is Runtime.CONTAINER and "networks" not in keys else {}
    attachments = []
    for short, aliases in named.items():
        if short not in networks:
            faults.add(keys["networks"], f"{path}.networks", f"there is no network {short}: declare it in networks")
            continue
        attachments.append(_attachment(networks[short].name, path.rpartition(".")[2], aliases))
    return tuple(attachments)


def used(networks: Iterable[StackNetwork], services: Iterable[Iterable[NetworkAttachment]]) -> list[StackNetwork]:
    """Return the networks that any service joins, in order of name; predefined ones need nothing done."""
    targets = {one.target for attachments in services for one in attachments}
    found = {one.name: one for one in networks if one.name in targets and one.name not in PREDEFINED}
    return [found[name] for name in sorted(found)]


def _attachment(name: str, short: str, aliases: tuple[str, ...]) -> NetworkAttachment:
    own = () if name in PREDEFINED or any(service_name("", short)) else (short,)
    return NetworkAttachment(target=name, aliases=tuple(dict.fromkeys((*own, *aliases))))


def _network(short: str, node: Node, stack: str, faults: Faults) -> StackNetwork:
    path = f"networks.{short}"
    if node.value is None:
        return _own(f"{stack}_{short}", stack, NetworkSpec())
    keys = node.mapping
    name = faults.read(keys, "name", path, values.text)
    external = faults.read(keys, "external", path, _external)
    if external is not None:
        for key in sorted(keys.keys() - {"name", "external"}):
            faults.add(keys[key], f"{path}.{key}", "says how to make a network that is external: drop one of both")
        return StackNetwork(external or name or short)
    spec = NetworkSpec(
        driver=faults.read(keys, "driver", path, _driver) or NetworkDriver.OVERLAY,
        options=faults.read(keys, "driver_opts", path, values.labels) or {},
        labels=faults.read(keys, "labels", path, values.labels) or {},
        internal=faults.read(keys, "internal", path, values.boolean) or False,
        attachable=faults.read(keys, "attachable", path, values.boolean) or False,
        **(faults.read(keys, "ipam", path, _ranges) or {}),
    )
    made = _own(name or f"{stack}_{short}", stack, spec)
    for problem in validate_network_spec(made.spec or spec):
        faults.add(node, path, str(problem))
    return made


def _own(name: str, stack: str, spec: NetworkSpec) -> StackNetwork:
    labels = {**spec.labels, STACK_LABEL: stack}
    return StackNetwork(name, msgspec.structs.replace(spec, name=name, labels=labels))


def _mode(node: Node) -> str:
    mode = values.text(node)
    if mode not in PREDEFINED:
        raise invalid(f"{mode} is not supported: use one of {', '.join(PREDEFINED)}, or networks")
    return mode


def _named(node: Node) -> dict[str, tuple[str, ...]]:
    """Return the short names of networks with the aliases there: from a list, or from a mapping."""
    if isinstance(node.value, list):
        return dict.fromkeys(values.strings(node), ())
    found: dict[str, tuple[str, ...]] = {}
    for short, child in node.mapping.items():
        entry = {} if child.value is None else child.mapping
        if unknown := sorted(key for key in entry.keys() - {"aliases"} if not key.startswith("x-")):
            raise invalid(f"{', '.join(unknown)} of network {short} is not supported yet")
        aliases = entry.get("aliases")
        found[short] = () if aliases is None or aliases.value is None else values.strings(aliases)
    return found


def _external(node: Node) -> str | None:
    """Return the name of an external network, empty where it is said elsewhere; None where it is not external."""
    if isinstance(node.value, dict):
        return values.text(node.value["name"]) if "name" in node.value else ""
    return "" if values.boolean(node) else None


def _driver(node: Node) -> NetworkDriver:
    return parse_choice(values.text(node), NetworkDriver)


def _ranges(node: Node) -> dict[str, str]:
    """Return what `ipam` says: one subnet, its gateway and range."""
    keys = node.mapping
    if "driver" in keys and values.text(keys["driver"]) != "default":
        raise invalid(f"the driver {values.text(keys['driver'])} is not supported: use default, or leave it out")
    config = keys["config"].items if "config" in keys and keys["config"].value is not None else []
    if len(config) > 1:
        raise invalid("a network has one subnet: drop the others from config")
    entry = config[0].mapping if config else {}
    if unknown := sorted(entry.keys() - set(_RANGES)):
        raise invalid(f"{', '.join(unknown)} of config is not supported yet")
    return {key: values.text(child) for key, child in entry.items()}
