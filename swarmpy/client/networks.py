"""Calls about networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.client.call import PAGE_SIZE, Caller
from swarmpy.client.selection import NetworkFilter
from swarmpy.model.network import Network, NetworkSpec
from swarmpy.wire.convert import fill, from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.control_pb2_grpc import ControlAsyncStub  # a name of the stubs only

EVERY_NETWORK: Final = NetworkFilter()


class Networks:
    """`client.networks`. A `ref` is a full id, a name, or a unique prefix of an id, in this order."""

    def __init__(self, stub: ControlAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def create(self, spec: NetworkSpec, *, timeout_s: float | None = None) -> Network:
        """Store a new network and return it; its subnet is picked a moment later, where the spec names none.

        Raises:
            SwarmError: ALREADY_EXISTS if there is one of that name.
        """
        request = pb.CreateNetworkRequest(request_id=self._call.request_id())
        fill(request.spec, spec)
        return from_proto((await self._call(self._stub.CreateNetwork, request, timeout_s)).network, Network)

    async def get(self, ref: str, *, timeout_s: float | None = None) -> Network:
        """Return one network."""
        answer = await self._call(self._stub.GetNetwork, pb.GetNetworkRequest(ref=ref), timeout_s)
        return from_proto(answer.network, Network)

    async def list(self, selection: NetworkFilter = EVERY_NETWORK, *, timeout_s: float | None = None) -> list[Network]:
        """Return the selected networks in order of id."""
        request = pb.ListNetworksRequest(
            filter=pb.NetworkFilter(
                ids=selection.ids,
                names=selection.names,
                labels=selection.labels,
                drivers=[types_pb2.NetworkDriver.ValueType(driver) for driver in selection.drivers],
            ),
            page=pb.Page(limit=PAGE_SIZE),
        )
        networks: list[Network] = []
        while True:
            answer = await self._call(self._stub.ListNetworks, request, timeout_s)
            networks.extend(from_proto(network, Network) for network in answer.networks)
            if not answer.next_page:
                return networks
            request.page.token = answer.next_page

    async def remove(self, ref: str, *, timeout_s: float | None = None) -> str:
        """Remove a network and return its id.

        Raises:
            SwarmError: FAILED_PRECONDITION, services join it.
        """
        request = pb.RemoveNetworkRequest(request_id=self._call.request_id(), ref=ref)
        return (await self._call(self._stub.RemoveNetwork, request, timeout_s)).network_id
