"""Use cases of networks: create, look at, remove. Subnets and addresses are the allocator's business."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from manager.api.attachments import check_level, users_of
from manager.api.paging import Rows, has_labels, has_prefix, read_page
from manager.api.resolve import find_network
from manager.store.store import Store
from manager.store.tables import NETWORKS, NODES
from manager.store.transaction import Transaction
from manager.store.view import View
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.clock import Clock
from swarmpy.errors import Code, InvalidSpecError, SwarmError, invalid, precondition
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model.network import Network, NetworkSpec
from swarmpy.model.validate import validate_network_spec

MAX_NAMED = 5


class Networks:
    """What a user may do with networks."""

    def __init__(self, store: Store, clock: Clock, random_bytes: RandomBytes) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    async def create(self, spec: NetworkSpec, request_id: str) -> Network:
        """Store a new network.

        Raises:
            SwarmError: INVALID_ARGUMENT, also for a subnet that is used already; ALREADY_EXISTS for its name;
                FAILED_PRECONDITION while a manager's release is too old.
        """
        problems = validate_network_spec(spec)
        if problems:
            raise InvalidSpecError(problems)
        now_s = self._clock.now()
        network = Network(id=new_id(self._random_bytes), spec=spec, created_at=now_s, updated_at=now_s)

        def change(tx: Transaction) -> Network:
            check_level(tx, "networks")
            if tx.find(NETWORKS, "name", spec.name):
                raise SwarmError(
                    Code.ALREADY_EXISTS, f"network with name {spec.name} already exists: choose another name"
                )
            if spec.subnet:
                _check_overlap(tx, IPv4Network(spec.subnet))
            return tx.create(NETWORKS, network)

        return await self._store.update(change, request_id=request_id)

    def get(self, ref: str) -> Network:
        return find_network(self._store.view(), ref)

    def list(self, wanted: pb.NetworkFilter, page: pb.Page) -> Rows[Network]:
        """Return one page of the networks that pass the filter."""
        ids, names, labels = tuple(wanted.ids), tuple(wanted.names), dict(wanted.labels)
        drivers = set(wanted.drivers)

        def is_wanted(network: Network) -> bool:
            return (
                has_prefix(network.id, ids)
                and has_prefix(network.name, names)
                and has_labels(network.spec.labels, labels)
                and (not drivers or int(network.spec.driver) in drivers)
            )

        return read_page(self._store.view(), NETWORKS, page, is_wanted)

    async def remove(self, ref: str, request_id: str) -> str:
        """Remove a network; return its id. FAILED_PRECONDITION: services join it."""

        def change(tx: Transaction) -> str:
            network = find_network(tx, ref)
            users = users_of(tx, network.id)
            if users:
                shown = ", ".join(users[:MAX_NAMED]) + (", ..." if len(users) > MAX_NAMED else "")
                noun = "service" if len(users) == 1 else "services"
                raise precondition(
                    f"network {network.name} is in use by {noun} {shown}: remove them, or have them leave it with "
                    f"`swarmpy service update --network-rm {network.name}`"
                )
            tx.delete(NETWORKS, network.id)
            return network.id

        return await self._store.update(change, request_id=request_id)


def _check_overlap(view: View, subnet: IPv4Network) -> None:
    """Refuse a subnet that another network has, or that nodes' own addresses are in."""
    for other in view.all(NETWORKS):
        taken = other.subnet or other.spec.subnet
        if taken and subnet.overlaps(IPv4Network(taken)):
            raise invalid(f"subnet {subnet} overlaps {taken} of network {other.name}: choose another one")
    for node in view.all(NODES):
        for address in (node.addr, node.data_addr):
            if _is_in(address, subnet):
                raise invalid(
                    f"subnet {subnet} holds {address}, an address of node {node.name}, which tasks could not reach: "
                    "choose another one"
                )


def _is_in(address: str, subnet: IPv4Network) -> bool:
    try:
        return IPv4Address(address) in subnet
    except ValueError:
        return False  # a name, or IPv6
