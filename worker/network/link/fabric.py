"""The networks of a node: a bridge each, and a tunnel to the other nodes, in a namespace that has nothing else.

Only what is there is believed: devices are found by names that follow from ids, entries are read back when this process
sees a network first. So a worker that was killed goes on where it was.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from typing import Final

import structlog

from swarmpy.errors import Code, SwarmError, invalid, precondition
from worker.network.link import forwarding, messages, mtu, names, namespace, sysctl
from worker.network.link.forwarding import Difference, Entries, Neighbour, Remote
from worker.network.link.joint import Joint, configure
from worker.network.link.place import Place
from worker.network.link.rtnl import Rtnl

_SETTINGS: Final = {
    "net/ipv4/ip_forward": "0",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
    # There are no rules here; frames need not look for them.
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
    "net/bridge/bridge-nf-call-arptables": "0",
}
# No spanning tree, no guessing who wants which multicast: there is no loop, and nobody asks.
_BRIDGE: Final[messages.Attributes] = [
    ("IFLA_BR_FORWARD_DELAY", 0),
    ("IFLA_BR_STP_STATE", 0),
    ("IFLA_BR_MCAST_SNOOPING", 0),
]
_VNIS: Final = range(1, 1 << 24)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Segment:
    """A network as this node is to have it.

    Args:
        vni: its number in the tunnels, the same on all nodes; of no meaning without `vxlan`.
        mtu: the largest packet that is wanted, 0 for the largest that fits.
        vxlan: whether it reaches other nodes (`overlay`) or stays on this one (`bridge`).
    """

    network_id: str
    vni: int
    subnet: IPv4Network
    mtu: int = 0
    vxlan: bool = True


@dataclass(slots=True)
class _Present:
    """A network that this process has seen to: indices of its devices, and what they know (None: to be read)."""

    segment: Segment
    mtu: int
    bridge: int
    tunnel: int
    entries: Entries | None = None


class Fabric:
    """All networks of a node. Every call may be repeated after an interruption."""

    def __init__(self, host: Rtnl, place: Place) -> None:
        """
        Args:
            host: of the namespace in which the node's data address is.
        """
        self._host = host
        self._place = place
        self._own: Rtnl | None = None
        self._networks: dict[str, _Present] = {}

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None
        self._networks.clear()

    def ensure(self, segment: Segment) -> int:
        """Have a network on this node, and return its MTU here.

        Raises:
            SwarmError: INVALID_ARGUMENT, its number is none; FAILED_PRECONDITION, another has it on this machine.
        """
        known = self._networks.get(segment.network_id)
        if known is not None and known.segment == segment:
            return known.mtu
        if segment.vxlan and segment.vni not in _VNIS:
            raise invalid(f"the network {segment.network_id} has the number {segment.vni}, which is not in 1-16777215")
        own = self._open()
        fitting = mtu.of_network(segment.mtu, self._underlay(), tunnelled=segment.vxlan)
        if segment.mtu > fitting:
            log.warning(
                "network's MTU does not fit this node", network=segment.network_id, wanted=segment.mtu, mtu=fitting
            )
        name = names.bridge(segment.network_id)
        own.run(messages.new_link(messages.NewLink(name, "bridge", mtu=fitting, up=True, bridge=_BRIDGE)))
        bridge = own.index(name)
        own.run(messages.set_link(bridge, f"set up the bridge {name}", up=True, mtu=fitting))
        tunnel = self._tunnel(own, segment, bridge, fitting) if segment.vxlan else 0
        self._networks[segment.network_id] = _Present(segment, fitting, bridge, tunnel)
        return fitting

    def remove(self, network_id: str) -> None:
        """Remove a network from this node, with all tasks' links to it; of one that is not here, it is done."""
        self._networks.pop(network_id, None)
        if not namespace.is_pinned(self._place.fabric):
            return
        own = self._open()
        if bridge := own.find(names.bridge(network_id)):
            rows = [messages.read_link(row) for row in own.dump(messages.dump(messages.GET_LINK))]
            ports = sorted((row for row in rows if row.master == bridge), key=lambda row: row.name)
            own.run(*(messages.delete_link(port.index, port.name) for port in ports))
        for name in (names.tunnel(network_id), names.bridge(network_id)):
            if index := own.find(name):
                own.run(messages.delete_link(index, name))

    def join(self, task_id: str, network_id: str, address: IPv4Interface, inner: str) -> Joint:
        """Give a task's namespace a link to a network, and return what it has.

        Raises:
            SwarmError: NOT_FOUND, the task has no namespace; FAILED_PRECONDITION, the network is not on this node.
        """
        network = self._network(network_id)
        if address.ip not in network.segment.subnet:
            raise invalid(
                f"the address {address} is not of the network {network_id}, which is {network.segment.subnet}"
            )
        own = self._open()
        name = names.port(task_id, network_id)
        joint = Joint(inner, address, None, names.mac(address.ip), network.mtu, self._place.namespace(task_id))
        index = configure(own, joint, name, master=network.bridge)
        own.run(
            messages.set_link(index, f"make {name} a port", up=True, master=network.bridge),
            messages.set_port(index, name),
            messages.bridge_entry(index, joint.mac),
        )
        return joint

    def leave(self, task_id: str, network_id: str) -> None:
        """Remove a task's link to a network; of one that it does not have, it is done."""
        if not namespace.is_pinned(self._place.fabric):
            return
        own = self._open()
        name = names.port(task_id, network_id)
        if index := own.find(name):
            own.run(messages.delete_link(index, name))

    def set_neighbours(self, network_id: str, neighbours: Iterable[Neighbour]) -> Difference:
        """Make `neighbours`, all there are on other nodes, the ones that a network's tasks reach; return what changed.

        Raises:
            SwarmError: FAILED_PRECONDITION, the network is not on this node.
        """
        network = self._network(network_id)
        if not network.tunnel:
            return Difference(Entries(), Entries())
        elsewhere = [n for n in neighbours if n.node_address != self._place.data_address]
        wanted = forwarding.entries(elsewhere, port=self._place.vxlan_port)
        own = self._open()
        present = network.entries or _read_entries(own, network.tunnel)
        change = forwarding.difference(wanted, present)
        # Should one be refused, the next call reads what there is.
        network.entries = None
        own.run(*_requests(network.tunnel, change))
        network.entries = wanted
        return change

    def sweep(self, tasks: Collection[str], networks: Collection[str]) -> list[str]:
        """Remove all links that are not of `tasks` and `networks`; return their names."""
        if not namespace.is_pinned(self._place.fabric):
            return []
        held = names.ports(tasks, networks)
        held |= {name(network) for network in networks for name in (names.bridge, names.tunnel)}
        own = self._open()
        rows = [messages.read_link(row) for row in own.dump(messages.dump(messages.GET_LINK))]
        stray = sorted((r for r in rows if r.kind in _KINDS and r.name not in held), key=lambda row: row.name)
        own.run(*(messages.delete_link(row.index, row.name) for row in stray))
        for network in set(self._networks) - set(networks):
            del self._networks[network]
        return [row.name for row in stray]

    def clear(self) -> None:
        """Remove everything: with the namespace all links in it go."""
        self.close()
        namespace.unpin(self._place.fabric)

    def _open(self) -> Rtnl:
        if self._own is None:
            namespace.pin(self._place.fabric)
            namespace.open_in(self._place.fabric, lambda: sysctl.write(_SETTINGS, missing_ok=True))
            self._own = Rtnl(self._place.fabric)
        return self._own

    def _network(self, network_id: str) -> _Present:
        network = self._networks.get(network_id)
        if network is None:
            raise precondition(f"the network {network_id} is not on this node yet")
        return network

    def _underlay(self) -> int:
        """Return the MTU of the link that has the node's data address."""
        links = [messages.read_link(row) for row in self._host.dump(messages.dump(messages.GET_LINK))]
        addresses = [messages.read_address(row) for row in self._host.dump(messages.dump(messages.GET_ADDRESS))]
        return mtu.of_address(self._place.data_address, addresses, links)

    def _tunnel(self, own: Rtnl, segment: Segment, bridge: int, fitting: int) -> int:
        """Have a network's tunnel device, as it should be, as a port of the bridge; return its index."""
        name = names.tunnel(segment.network_id)
        port = forwarding.tunnel_port(self._place.vxlan_port, self._place.data_address)
        wanted = messages.Vxlan(segment.vni, port, self._place.data_address)
        there = own.get(name)
        if there is not None and messages.read_vxlan(there) != wanted:
            own.run(messages.delete_link(messages.link_index(there), name))
            there = None
        if there is None:
            self._make_tunnel(name, wanted)
        index = own.index(name)
        try:
            own.run(
                messages.set_link(
                    index, f"set up the tunnel {name} at port {port}", up=True, mtu=fitting, master=bridge
                ),
                messages.set_port(index, name),
            )
        except SwarmError as error:
            raise SwarmError(error.code, f"{error}; see which program has UDP port {port}", retryable=True) from error
        return index

    def _make_tunnel(self, name: str, tunnel: messages.Vxlan) -> None:
        """Make a tunnel device in the fabric whose packets come and go in the host's namespace."""
        descriptor = os.open(self._place.fabric, os.O_RDONLY | os.O_CLOEXEC)
        try:
            link = messages.NewLink(name, "vxlan", namespace=descriptor, vxlan=tunnel)
            self._host.run(messages.new_link(link, fine=frozenset()))
        except SwarmError as error:
            if error.code is Code.ALREADY_EXISTS:
                raise precondition(
                    f"another node, or Docker, has VXLAN number {tunnel.vni} at UDP port {tunnel.port} in this network "
                    "namespace: give the clusters different ports with --data-path-port, or the nodes a namespace each"
                ) from error
            raise
        finally:
            os.close(descriptor)


_KINDS: Final = frozenset({"bridge", "vxlan", "veth"})


def _read_entries(rtnl: Rtnl, tunnel: int) -> Entries:
    """Return what the devices of a network know by our word, whoever of us told them."""
    remotes: dict[str, Remote] = {}
    behind: set[str] = set()
    for row in _of(tunnel, rtnl.dump(messages.dump(messages.GET_NEIGHBOUR, socket.AF_BRIDGE))):
        mac, node, port, static = messages.read_forwarding(row)
        if static and node is not None:
            remotes[mac] = Remote(node, port)
        elif static:
            behind.add(mac)
    told = map(messages.read_neighbour, _of(tunnel, rtnl.dump(messages.dump(messages.GET_NEIGHBOUR))))
    return Entries(remotes, frozenset(behind), {address: mac for address, mac, static in told if static})


def _of(index: int, rows: Iterable[bytes]) -> Iterator[bytes]:
    return (row for row in rows if messages.neighbour_index(row) == index)


def _requests(tunnel: int, change: Difference) -> Iterator[messages.Request]:
    for address, mac in change.drop.neighbours.items():
        yield messages.neighbour(tunnel, address, mac, delete=True)
    for mac in sorted(change.drop.bridge):
        yield messages.bridge_entry(tunnel, mac, delete=True)
    for mac, remote in change.drop.tunnel.items():
        yield messages.tunnel_entry(tunnel, mac, remote.node, remote.port, delete=True)
    for mac, remote in change.add.tunnel.items():
        yield messages.tunnel_entry(tunnel, mac, remote.node, remote.port)
    for mac in sorted(change.add.bridge):
        yield messages.bridge_entry(tunnel, mac)
    for address, mac in change.add.neighbours.items():
        yield messages.neighbour(tunnel, address, mac)
