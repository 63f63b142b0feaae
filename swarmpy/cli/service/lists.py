"""Flags that hold several values -> the parts of a spec: added, and for an update removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Final

import msgspec

from swarmpy.cli.given import Given
from swarmpy.model.endpoints import PublishMode, Transport, addresses_meet
from swarmpy.model.kernel import capability_name
from swarmpy.model.spec import ContainerSpec, Mount, PortSpec, ServiceSpec
from swarmpy.notation.limits import merge_ulimits, parse_ulimit
from swarmpy.notation.mounts import parse_mount
from swarmpy.notation.networks import merge_networks, name_of, named, parse_network
from swarmpy.notation.pairs import merge_env, parse_env, parse_labels
from swarmpy.notation.ports import parse_expose, parse_publish, parse_target

NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


def apply_lists(
    spec: ServiceSpec,
    given: Given,
    environ: Mapping[str, str],
    *,
    added: str = "",
    removed: str = "",
    networks: Mapping[str, str] = NO_NAMES,
) -> ServiceSpec:
    """Return `spec` with the flags' items added and removed.

    Args:
        added, removed: what the names of the flags end with: empty for create, `-add` and `-rm` for update.
        networks: names of networks by id: flags name them as people do, stored specs by id.
    """

    def gone(name: str) -> tuple[str, ...]:
        return given.items(name + removed) if removed else ()

    container = msgspec.structs.replace(
        spec.task.container,
        env=merge_env(spec.task.container.env, _env(given, f"env{added}", environ), gone("env")),
        labels=_labels(spec.task.container.labels, given, f"container-label{added}", gone("container-label")),
        groups=_items(spec.task.container.groups, given.items(f"group{added}"), gone("group")),
        dns=_items(spec.task.container.dns, given.items(f"dns{added}"), gone("dns")),
        dns_options=_items(spec.task.container.dns_options, given.items(f"dns-option{added}"), gone("dns-option")),
        dns_search=_items(spec.task.container.dns_search, given.items(f"dns-search{added}"), gone("dns-search")),
        hosts=_items(spec.task.container.hosts, given.items(f"host{added}"), gone("host")),
        mounts=_mounts(spec.task.container.mounts, given.parse_items(f"mount{added}", parse_mount), gone("mount")),
        sysctls=_labels(spec.task.container.sysctls, given, f"sysctl{added}", gone("sysctl")),
        **_capabilities(spec.task.container, given),
        ulimits=merge_ulimits(
            spec.task.container.ulimits, given.parse_items(f"ulimit{added}", parse_ulimit), gone("ulimit")
        ),
    )
    constraints = _items(
        spec.task.placement.constraints, given.items(f"constraint{added}"), map(_compact, gone("constraint"))
    )
    placement = msgspec.structs.replace(spec.task.placement, constraints=constraints)
    return msgspec.structs.replace(
        spec,
        labels=_labels(spec.labels, given, f"label{added}", gone("label")),
        task=msgspec.structs.replace(
            spec.task,
            container=container,
            placement=placement,
            networks=merge_networks(
                named(spec.task.networks, networks),
                given.parse_items(f"network{added}", parse_network),
                [name_of(ref, networks) for ref in gone("network")],
            ),
        ),
        endpoint=msgspec.structs.replace(spec.endpoint, ports=_ports(spec.endpoint.ports, given, added, removed)),
    )


def _env(given: Given, flag: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    return merge_env((), chain.from_iterable(given.parse_items(flag, lambda text: parse_env((text,), environ))))


def _labels(present: Mapping[str, str], given: Given, flag: str, removed: Iterable[str]) -> dict[str, str]:
    labels = {key: value for key, value in present.items() if key not in set(removed)}
    for item in given.parse_items(flag, lambda text: parse_labels((text,))):
        labels.update(item)
    return labels


def _mounts(present: Iterable[Mount], added: Iterable[Mount], removed: Iterable[str]) -> tuple[Mount, ...]:
    """Return the mounts by target: an added one takes the place of the one that is there."""
    gone = set(removed)
    mounts = {mount.target: mount for mount in present if mount.target not in gone}
    mounts.update({mount.target: mount for mount in added})
    return tuple(mounts.values())


def _capabilities(container: ContainerSpec, given: Given) -> dict[str, tuple[str, ...]]:
    """Return what is added and dropped: what was dropped before and is added now is neither, and the reverse."""
    added = tuple(_capability(name) for name in given.items("cap-add"))
    dropped = tuple(_capability(name) for name in given.items("cap-drop"))
    present_added = tuple(name for name in map(_capability, container.cap_add) if name not in dropped)
    present_dropped = tuple(name for name in map(_capability, container.cap_drop) if name not in added)
    return {
        "cap_add": tuple(dict.fromkeys((*present_added, *added))),
        "cap_drop": tuple(dict.fromkeys((*present_dropped, *dropped))),
    }


def _capability(name: str) -> str:
    """Return a capability's full name; one that is none stays as it is, and is refused with the spec."""
    return capability_name(name) or name


def _items(present: Iterable[str], added: Iterable[str], removed: Iterable[str]) -> tuple[str, ...]:
    gone = set(removed)
    kept = [item for item in present if item not in gone and _compact(item) not in gone]
    return tuple(dict.fromkeys((*kept, *added)))


def _compact(expression: str) -> str:
    return "".join(expression.split())


def _ports(present: Iterable[PortSpec], given: Given, added: str, removed: str) -> tuple[PortSpec, ...]:
    """Return the ports; an added one replaces what it clashes with: the same published port, or the same target."""
    ports = list(present)
    if removed:
        for name in ("publish", "expose"):
            for target, transport in given.parse_items(f"{name}{removed}", parse_target):
                ports = [p for p in ports if not _is_target(p, target, transport, publish=name == "publish")]
    new = chain.from_iterable(
        (*given.parse_items(f"publish{added}", parse_publish), *given.parse_items(f"expose{added}", parse_expose))
    )
    for port in new:
        ports = [p for p in ports if not _clash(p, port)]
        ports.append(port)
    return tuple(ports)


def _is_target(port: PortSpec, target: int, transport: Transport | None, *, publish: bool) -> bool:
    return port.publish is publish and port.target == target and transport in (None, port.transport)


def _clash(old: PortSpec, new: PortSpec) -> bool:
    if old.transport is not new.transport:
        return False
    same_published = new.published != 0 and old.published == new.published and addresses_meet(old.address, new.address)
    same_target = old.target == new.target and old.publish == new.publish
    # Mode host takes one port for a target: the new one is that.
    on_host = PublishMode.HOST is old.mode is new.mode
    return same_published or (same_target and (on_host or old.published == new.published))
