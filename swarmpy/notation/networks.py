"""How a service joins a network: `NAME`, or `name=NAME,alias=ALIAS,...`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from swarmpy.errors import invalid, not_found, not_supported
from swarmpy.model.network import PREDEFINED
from swarmpy.model.spec import NetworkAttachment

_SHOWN: Final = 12
_NOT_YET: Final = ("driver-opt", "ip", "ip6", "link-local-ip", "mac-address", "gw-priority")


def parse_network(text: str) -> NetworkAttachment:
    """Return what a flag says.

    Raises:
        SwarmError: INVALID_ARGUMENT, or NOT_SUPPORTED for a key that is known and has no effect.
    """
    if "=" not in text:
        if not text or "," in text:
            raise invalid("give a network's name, or name=NAME,alias=ALIAS")
        return NetworkAttachment(target=text)
    name = ""
    aliases: list[str] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise invalid(f'"{part}" is not of the form KEY=VALUE')
        match key.strip():
            case "name":
                name = value
            case "alias":
                aliases.append(value)
            case known if known in _NOT_YET:
                raise not_supported(f"{known} of a network")
            case other:
                raise invalid(f'unknown key "{other}": use name and alias')
    if not name:
        raise invalid("the name of the network is missing: add name=NAME")
    return NetworkAttachment(target=name, aliases=tuple(dict.fromkeys(aliases)))


def named(networks: Iterable[NetworkAttachment], names: Mapping[str, str]) -> tuple[NetworkAttachment, ...]:
    """Return `networks` with names in place of ids, where `names` has them."""
    return tuple(msgspec.structs.replace(one, target=names.get(one.target, one.target)) for one in networks)


def name_of(ref: str, names: Mapping[str, str]) -> str:
    """Return the name of the network that `ref` names: a name, an id, or the beginning of an id as lists show it.

    Raises:
        SwarmError: NOT_FOUND.
    """
    if ref in PREDEFINED:
        return ref
    for network_id, name in names.items():
        if ref in (name, network_id) or (len(ref) >= _SHOWN and network_id.startswith(ref)):
            return name
    raise not_found(f"no such network: {ref}")


def merge_networks(
    present: Iterable[NetworkAttachment], added: Iterable[NetworkAttachment], removed: Iterable[str]
) -> tuple[NetworkAttachment, ...]:
    """Return `present` without the targets in `removed`, and with `added` in the place of those of the same target."""
    gone = set(removed)
    joined = {one.target: one for one in present if one.target not in gone}
    joined.update((one.target, one) for one in added)
    return tuple(joined.values())
