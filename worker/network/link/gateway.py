"""A task's way out of its namespace: one routed veth pair each, and the node's addresses for them.

The subnet is recorded in `network/gateway.json` and stays the node's while nothing else on the machine takes it; who
has which address is in `run/addresses/` (`leases`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

import structlog

from swarmpy.errors import Code, SwarmError
from swarmpy.files import write_atomic
from worker.network.link import messages, mtu, names, sysctl
from worker.network.link.joint import Joint, configure
from worker.network.link.leases import LeaseDirectory
from worker.network.link.place import Place
from worker.network.link.pool import POOLS, Leases, pick_subnet
from worker.network.link.rtnl import Rtnl

_TRIES: Final = 8
_DEFAULT: Final = IPv4Network("0.0.0.0/0")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Gateway:
    """The host's side of its tasks' ways out.

    Args:
        device: the link that holds the address; it has no ports.
        prefix: what the names of it and of all host ends begin with.
        address: the gateway's address in the subnet.
    """

    device: str
    prefix: str
    address: IPv4Interface

    @property
    def subnet(self) -> IPv4Network:
        return self.address.network


class WaysOut:
    """The ways out of all tasks of a node. Every call may be repeated after an interruption."""

    def __init__(
        self,
        rtnl: Rtnl,
        place: Place,
        *,
        clock: Callable[[], float],
        pools: Sequence[IPv4Network] = POOLS,
        avoid: Iterable[IPv4Network] = (),
    ) -> None:
        """
        Args:
            rtnl: of the host's namespace.
            clock: seconds since boot, the same for each worker on this machine.
            pools: where the node's subnet may be.
            avoid: subnets that are in use elsewhere, such as the cluster's networks.
        """
        self._rtnl = rtnl
        self._place = place
        self._clock = clock
        self._pools = tuple(pools)
        self._avoid = tuple(avoid)
        self._prefix = names.prefix(place.key)
        self._device = names.anchor(place.key)
        self._made: Gateway | None = None
        self._kept = LeaseDirectory(place.leases)
        self._leases: Leases | None = None
        self._mtu = mtu.ETHERNET

    def gateway(self) -> Gateway:
        """Return the node's gateway, which is made when it is asked for first.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the machine uses all private ranges; or the kernel refuses.
        """
        if self._made is not None:
            return self._made
        if sysctl.read("net.ipv4.ip_forward") != "1":
            sysctl.write({"net.ipv4.ip_forward": "1"})
        subnet = self._settle()
        self._leases = self._kept.read(subnet)
        links = [messages.read_link(row) for row in self._rtnl.dump(messages.dump(messages.GET_LINK))]
        self._mtu = mtu.of_way_out(self._routes(), links)
        self._made = Gateway(self._device, self._prefix, IPv4Interface((self._leases.gateway, subnet.prefixlen)))
        log.info("gateway ready", device=self._device, subnet=str(subnet), mtu=self._mtu)
        return self._made

    def join(self, task_id: str, inner: str, *, default_route: bool) -> Joint:
        """Give a task's namespace a link to the host, and return what it has.

        Raises:
            SwarmError: NOT_FOUND, the task has no namespace; RESOURCE_EXHAUSTED, no address is free.
        """
        gateway = self.gateway()
        namespace = self._place.namespace(task_id)
        address = IPv4Interface(self._allocate(task_id))
        joint = Joint(inner, address, gateway.address.ip, names.mac(address.ip), self._mtu, namespace)
        name = names.host_end(self._place.key, task_id)
        index = configure(self._rtnl, joint, name, default_route=default_route)
        sysctl.write(_host_end_settings(name), missing_ok=True)
        self._rtnl.run(
            messages.new_address(index, IPv4Interface(gateway.address.ip), name),
            messages.set_link(index, f"bring {name} up", up=True),
            messages.new_route(address.network, index, name, source=gateway.address.ip),
        )
        return joint

    def leave(self, task_id: str) -> None:
        """Take a task's address back; of one that has none, it is done.

        Its link is not removed: that takes the kernel 30 ms and more each time, while links go with their namespaces
        many at a time. What keeps a namespace alive keeps them until the next sweep.
        """
        leases = self._known()
        if leases is not None:
            self._release(leases, task_id)

    def sweep(self, tasks: frozenset[str]) -> list[str]:
        """Remove the links and take back the addresses of all other tasks; return the names of the links."""
        held = {names.host_end(self._place.key, task) for task in tasks} | {self._device}
        rows = [messages.read_link(row) for row in self._rtnl.dump(messages.dump(messages.GET_LINK))]
        stray = sorted(
            (r for r in rows if r.name.startswith(self._prefix) and r.name not in held), key=lambda r: r.name
        )
        self._rtnl.run(*(messages.delete_link(row.index, row.name) for row in stray))
        leases = self._known()
        if leases is not None:
            for task in sorted(set(leases.held) - tasks):
                self._release(leases, task)
        return [row.name for row in stray]

    def clear(self) -> None:
        """Remove everything from the machine; the recorded subnet stays the node's."""
        self.sweep(frozenset())
        if index := self._rtnl.find(self._device):
            self._rtnl.run(messages.delete_link(index, self._device))
        self._made = None

    def _settle(self) -> IPv4Network:
        """Make the anchor with a subnet that is nobody else's, and return that.

        While tasks have addresses of the recorded one, it stays, whatever else there is. Others of this kind on one
        machine look for a subnet at the same time: who sees another's after its own is up tries the next one.
        """
        recorded = self._recorded_subnet()
        if recorded is not None and self._kept.read(recorded).held:
            self._make_anchor(recorded)
            return recorded
        start = zlib.crc32(self._place.key.encode())
        for attempt in range(_TRIES):
            others = self._others()
            subnet = self._recorded_subnet()
            if subnet is None or _overlaps(subnet, others):
                subnet = pick_subnet([*others, *self._avoid], self._pools, start=start + attempt)
                # In this order: the anchor never holds another address than the recorded one.
                self._drop_anchor()
                self._record(subnet)
            self._make_anchor(subnet)
            if not _overlaps(subnet, self._others()):
                return subnet
        raise SwarmError(
            Code.UNAVAILABLE,
            f"no subnet for this node's tasks stays free: others on this machine took {_TRIES} of them",
        )

    def _make_anchor(self, subnet: IPv4Network) -> None:
        mac = names.mac(subnet.network_address + 1)
        self._rtnl.run(messages.new_link(messages.NewLink(self._device, "bridge", mac=mac)))
        sysctl.write({f"net/ipv6/conf/{self._device}/disable_ipv6": "1"}, missing_ok=True)
        index = self._rtnl.index(self._device)
        self._rtnl.run(
            messages.new_address(index, IPv4Interface((subnet.network_address + 1, subnet.prefixlen)), self._device),
            messages.set_link(index, f"bring {self._device} up", up=True),
        )

    def _drop_anchor(self) -> None:
        """Remove an anchor that holds another address than it should."""
        if index := self._rtnl.find(self._device):
            self._rtnl.run(messages.delete_link(index, self._device))

    def _others(self) -> list[IPv4Network]:
        """Return the networks that the machine reaches by links which are not ours; not the default route."""
        rows = [messages.read_link(row) for row in self._rtnl.dump(messages.dump(messages.GET_LINK))]
        ours = {row.index for row in rows if row.name.startswith(self._prefix)}
        return [r.destination for r in self._routes() if r.destination != _DEFAULT and r.index not in ours]

    def _routes(self) -> list[messages.Route]:
        rows = self._rtnl.dump(messages.dump(messages.GET_ROUTE))
        return [route for row in rows if (route := messages.read_route(row)) is not None]

    # -- records ------------------------------------------------------------------------------------------------

    def _recorded_subnet(self) -> IPv4Network | None:
        try:
            return IPv4Network(json.loads(self._place.gateway_record.read_bytes())["subnet"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            log.warning(
                "unreadable record, another subnet is picked", path=str(self._place.gateway_record), why=str(error)
            )
            return None

    def _record(self, subnet: IPv4Network) -> None:
        self._place.gateway_record.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._place.gateway_record, json.dumps({"version": 1, "subnet": str(subnet)}).encode())

    def _known(self) -> Leases | None:
        """Return the leases, also those of before the gateway is made."""
        if self._leases is None and (subnet := self._recorded_subnet()) is not None:
            self._leases = self._kept.read(subnet)
        return self._leases

    def _allocate(self, task_id: str) -> IPv4Address:
        assert self._leases is not None, "the gateway is made first"
        fresh = task_id not in self._leases.held
        address = self._leases.allocate(task_id, self._clock())
        if fresh:
            try:
                self._kept.hold(address, task_id)
            except SwarmError:
                del self._leases.held[task_id]
                raise
        return address

    def _release(self, leases: Leases, task_id: str) -> None:
        now_s = self._clock()
        if (address := leases.release(task_id, now_s)) is not None:
            self._kept.free(address, now_s)


def _overlaps(subnet: IPv4Network, others: Iterable[IPv4Network]) -> bool:
    return any(subnet.overlaps(other) for other in others)


def _host_end_settings(name: str) -> dict[str, str]:
    return {
        # Connections from 127.0.0.x to a published port go out here with that address until they are translated.
        f"net/ipv4/conf/{name}/route_localnet": "1",
        f"net/ipv4/conf/{name}/rp_filter": "1",
        f"net/ipv4/conf/{name}/send_redirects": "0",
        f"net/ipv4/conf/{name}/accept_redirects": "0",
        f"net/ipv6/conf/{name}/disable_ipv6": "1",
    }
