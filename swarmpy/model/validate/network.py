"""The rules for networks: their names and ranges, and how tasks join them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from swarmpy.errors import Problem
from swarmpy.model.network import DOCKER_MTU, HOST, INGRESS, MTU, NONE, OPTIONS, PREDEFINED, NetworkSpec
from swarmpy.model.spec import NetworkAttachment, PortSpec
from swarmpy.model.validate.checks import labels, unsupported
from swarmpy.model.validate.names import network_name, service_name

WIDEST: Final = 8
NARROWEST: Final = 29
MIN_MTU: Final = 576
MAX_MTU: Final = 65_535


def validate_network_spec(spec: NetworkSpec) -> list[Problem]:
    """Return every problem of a network's spec."""
    return list(_problems(spec))


def check_networks(networks: tuple[NetworkAttachment, ...], ports: tuple[PortSpec, ...]) -> Iterator[Problem]:
    """Check which networks a task joins: those that exclude others, and aliases."""
    targets = [joined.target for joined in networks]
    for number, joined in enumerate(networks):
        path = f"task.networks[{number}]"
        if not joined.target:
            yield Problem(path, "names no network: give its name or id")
        elif joined.target == INGRESS:
            yield Problem(path, "ingress cannot be joined: published ports are served on every node without it")
        elif joined.target in targets[:number]:
            yield Problem(path, f"{joined.target} is joined already: drop one")
        if joined.target in (HOST, NONE) and len(targets) > 1:
            yield Problem(path, f"{joined.target} excludes other networks: drop it, or the others")
        if joined.target in PREDEFINED and joined.aliases:
            yield Problem(f"{path}.aliases", f"{joined.target} knows no names: create a network to use aliases")
        for alias in dict.fromkeys(joined.aliases):
            yield from service_name(f"{path}.aliases", alias)
    if NONE in targets and ports:
        yield Problem("task.networks", "with the network none nobody can reach the ports: drop one of both")


def check_subnet(path: str, text: str) -> Iterator[Problem]:
    """A range that addresses can be given from is IPv4, begins where its mask says, and is of a sensible size."""
    parsed = _network(text)
    if isinstance(parsed, str):
        yield Problem(path, parsed)
    elif not WIDEST <= parsed.prefixlen <= NARROWEST:
        yield Problem(path, f"{text} is of the wrong size: give /{WIDEST} to /{NARROWEST}")
    elif parsed.is_loopback or parsed.is_multicast or parsed.is_link_local or parsed.is_reserved or text[:2] == "0.":
        yield Problem(path, f"{text} cannot be used for a network: take one such as 10.1.0.0/24")


def _problems(spec: NetworkSpec) -> Iterator[Problem]:
    yield from network_name("name", spec.name)
    yield from labels("labels", spec.labels)
    if spec.subnet:
        found = list(check_subnet("subnet", spec.subnet))
        yield from found or _parts(spec, IPv4Network(spec.subnet))
    else:
        for field in ("gateway", "ip_range"):
            if getattr(spec, field):
                yield Problem(field, "needs a subnet: give both, or neither")
    yield from _options(spec)


def _parts(spec: NetworkSpec, subnet: IPv4Network) -> Iterator[Problem]:
    if spec.gateway:
        try:
            gateway = IPv4Address(spec.gateway)
        except ValueError:
            yield Problem("gateway", f"{spec.gateway!r} is not an IPv4 address: give one of {subnet}")
        else:
            if gateway not in subnet or gateway in (subnet.network_address, subnet.broadcast_address):
                yield Problem("gateway", f"{gateway} is no address of a host in {subnet}: give one that is")
    if spec.ip_range:
        parsed = _network(spec.ip_range)
        if isinstance(parsed, str):
            yield Problem("ip_range", parsed)
        elif not parsed.subnet_of(subnet):
            yield Problem("ip_range", f"{parsed} is not within {subnet}: give a part of the subnet")


def _options(spec: NetworkSpec) -> Iterator[Problem]:
    for key, value in sorted(spec.options.items()):
        if key == "encrypted":
            yield unsupported("options['encrypted']", "encrypted overlays are")
        elif key not in OPTIONS:
            yield Problem(f"options[{key!r}]", f"is not an option of a network: use {MTU}")
        elif not (value.isdecimal() and MIN_MTU <= int(value) <= MAX_MTU):
            yield Problem(f"options[{key!r}]", f"{value!r} is not an MTU: give {MIN_MTU} to {MAX_MTU} bytes")
    if MTU in spec.options and DOCKER_MTU in spec.options:
        yield Problem("options", f"{MTU} and {DOCKER_MTU} are the same: drop one")


def _network(text: str) -> IPv4Network | str:
    """Return the range that `text` says, or what is wrong with it."""
    if ":" in text:
        return f"{text} is IPv6, which is not supported yet: give an IPv4 subnet"
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        return f"{text!r} is not a subnet: write ADDRESS/BITS, such as 10.1.0.0/24"
    address, _, bits = text.partition("/")
    if not bits.isdecimal():
        return f"{text!r} is not a subnet: write ADDRESS/BITS, such as 10.1.0.0/24"
    if str(network.network_address) != address:
        return f"{text} has bits set behind its mask: did you mean {network}?"
    return network
