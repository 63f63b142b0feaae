"""What a stack's services mount: `volumes` of the stack by the names that nodes know them by, and of each service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from swarmpy.errors import SwarmError, invalid
from swarmpy.model.spec import Mount
from swarmpy.model.states import MountType
from swarmpy.notation.mounts import parse_mount, parse_tmpfs, parse_volume
from swarmpy.stack import values
from swarmpy.stack.faults import Faults
from swarmpy.stack.tree import Node

Keys = dict[str, Node]

_LOCAL: Final = "local"
_LONG: Final = frozenset({"type", "source", "target", "read_only", "bind", "volume", "tmpfs", "consistency"})
_BELOW: Final = {
    "bind": {"propagation": "bind-propagation"},
    "volume": {"nocopy": "volume-nocopy"},
    "tmpfs": {"size": "tmpfs-size", "mode": "tmpfs-mode"},
}


def stack_volumes(document: Node, stack: str, faults: Faults) -> dict[str, str]:
    """Return the name of each volume on the nodes: `<stack>_<name>` unless the file says another one."""
    node = document.mapping.get("volumes")
    found = {}
    for name, child in (node.mapping if node is not None else {}).items():
        keys = child.mapping if isinstance(child.value, dict) else {}
        path = f"volumes.{name}"
        driver = faults.read(keys, "driver", path, values.text) or _LOCAL
        if driver != _LOCAL:
            faults.add(keys["driver"], f"{path}.driver", f'"{driver}" is not supported: local is all there is')
        external = faults.read(keys, "external", path, values.boolean)
        given = faults.read(keys, "name", path, values.text)
        found[name] = given or (name if external else f"{stack}_{name}")
    return found


def mounts(
    keys: Keys, path: str, volumes: Mapping[str, str], directory: Path, faults: Faults
) -> tuple[Mount, ...] | None:
    """Return what a service mounts; None if it says nothing of it.

    Args:
        volumes: as `stack_volumes` returns them.
        directory: where relative paths begin.
    """
    found: list[Mount] = []
    listed = faults.read(keys, "volumes", path, lambda node: node.items) or ()
    for number, item in enumerate(listed):
        key = f"volumes[{number}]"
        one = faults.read({key: item}, key, path, lambda node: _mount(node, directory))
        if one is None:
            continue
        if one.type is MountType.VOLUME and one.source:
            if one.source not in volumes:
                sentence = f'the volume "{one.source}" is not declared: name it in the file\'s own volumes'
                faults.add(item, f"{path}.volumes[{number}]", sentence)
            one = msgspec.structs.replace(one, source=volumes.get(one.source, one.source))
        found.append(one)
    for text in faults.read(keys, "tmpfs", path, values.one_or_more) or ():
        try:
            found.append(parse_tmpfs(text))
        except SwarmError as error:
            faults.add(keys["tmpfs"], f"{path}.tmpfs", error.message)
    return tuple(found) or None


def _mount(node: Node, directory: Path) -> Mount:
    """Return a mount in the short or the long form."""
    if not isinstance(node.value, dict):
        return parse_volume(values.text(node), directory)
    keys = node.mapping
    if unknown := set(keys) - _LONG:
        raise invalid(f"{', '.join(sorted(unknown))} of a volume is not supported")
    words = [f"{name}={values.text(keys[name])}" for name in ("type", "target") if name in keys]
    kind = values.text(keys["type"]) if "type" in keys else "volume"
    if "source" in keys:
        source = values.text(keys["source"])
        words.append(f"source={(directory / source).resolve() if kind == 'bind' else source}")
    if "read_only" in keys and values.boolean(keys["read_only"]):
        words.append("readonly")
    for name, known in _BELOW.items():
        for key, child in (keys[name].mapping if name in keys else {}).items():
            if key not in known:
                raise invalid(f"{name}.{key} of a volume is not supported")
            words.append(f"{known[key]}={values.text(child)}")
    return parse_mount(",".join(words))
