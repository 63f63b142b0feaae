"""One veth pair into a task's namespace, and where a node keeps what belongs to its links."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final

from swarmpy.errors import Code, SwarmError, invalid, not_found
from worker.network.link import messages, names
from worker.network.link.rtnl import Rtnl

_ANYWHERE: Final = IPv4Network("0.0.0.0/0")
_TASK_ID: Final = re.compile(r"[\w-][\w.-]*", re.ASCII)
VXLAN_PORT: Final = 4789


@dataclass(frozen=True, slots=True)
class Place:
    """What tells a node from others, also from those on the same machine.

    Args:
        key: 12 hexadecimal digits that follow from the state directory.
        data_address: where other nodes send this one's tunnelled packets.
        vxlan_port: UDP port of the tunnels, the same on all nodes of a cluster.
    """

    state_dir: Path
    key: str
    data_address: IPv4Address
    vxlan_port: int = VXLAN_PORT

    @property
    def pins(self) -> Path:
        return self.state_dir / "run" / "netns"

    @property
    def fabric(self) -> Path:
        return self.pins / names.FABRIC

    @property
    def gateway_record(self) -> Path:
        return self.state_dir / "network" / "gateway.json"

    @property
    def leases(self) -> Path:
        return self.state_dir / "run" / "addresses"

    def namespace(self, task_id: str) -> Path:
        """Return where a task's namespace is pinned.

        Raises:
            SwarmError: INVALID_ARGUMENT, the id cannot be a file's name, or is the fabric's.
        """
        if not _TASK_ID.fullmatch(task_id) or task_id == names.FABRIC:
            raise invalid(f"{task_id!r} is not the id of a task")
        return self.pins / task_id


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
