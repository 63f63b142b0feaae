"""One veth pair into a task's namespace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final

from swarmpy.errors import Code, SwarmError, not_found
from worker.network.link import messages, names
from worker.network.link.rtnl import Rtnl

_ANYWHERE: Final = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class Joint:
    """A link of a task, as the task sees it.

    Args:
        inner: the interface's name.
        gateway: where the default route leads, None on a network that has no way out.
    """

    inner: str
    address: IPv4Interface
    gateway: IPv4Address | None
    mac: str
    mtu: int
    namespace: Path


def configure(rtnl: Rtnl, joint: Joint, outer: str, *, default_route: bool = False, master: int = 0) -> int:
    """Make a veth pair with one end in the task's namespace, set up that end, and return the index of the other.

    A pair that is there already is set up again, which changes nothing if it was. The outer end stays down unless it
    becomes a port of a bridge (`master`).

    Raises:
        SwarmError: NOT_FOUND, the task has no namespace; or the kernel refuses.
    """
    with Rtnl(joint.namespace) as task:
        index = _pair(rtnl, task, joint, outer, master)
        inner = task.index(joint.inner)
        requests = [
            messages.new_address(inner, joint.address, joint.inner),
            messages.set_link(inner, f"bring {joint.inner} up", up=True),
        ]
        if joint.gateway is not None:
            if joint.gateway not in joint.address.network:
                requests.append(messages.new_route(IPv4Network(joint.gateway), inner, joint.inner))
            if default_route:
                requests.append(messages.new_route(_ANYWHERE, inner, joint.inner, gateway=joint.gateway))
        task.run(*requests)
    return index


def _pair(rtnl: Rtnl, task: Rtnl, joint: Joint, outer: str, master: int) -> int:
    """Make the pair, unless it is there with both of its ends, and return the index of the outer one."""
    index = rtnl.find(outer)
    inner = task.get(joint.inner) if index else None
    if inner is not None and messages.read_link(inner).peer == index:
        return index
    if index:
        # Its other end has another name, or is in a namespace that is not this task's any more.
        rtnl.run(messages.delete_link(index, outer))
    try:
        descriptor = os.open(joint.namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise not_found(f"no network namespace is pinned at {joint.namespace}") from error
    try:
        peer = messages.Peer(joint.inner, joint.mac, descriptor)
        mac = names.outer_mac(joint.address.ip)
        link = messages.NewLink(outer, "veth", mtu=joint.mtu, master=master, mac=mac, up=bool(master), peer=peer)
        rtnl.run(messages.new_link(link, fine=frozenset()))
    except SwarmError as error:
        if error.code is Code.ALREADY_EXISTS:
            raise SwarmError(
                error.code, f"the interface {joint.inner} of {joint.namespace.name} has another use already"
            ) from error
        raise
    finally:
        os.close(descriptor)
    return rtnl.index(outer)
