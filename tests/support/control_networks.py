"""The network calls of the cluster of straw: what a manager checks, and an allocator that is at once."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import Code, InvalidSpecError, SwarmError, precondition
from swarmpy.model.network import Network, NetworkSpec
from swarmpy.model.states import NetworkDriver
from swarmpy.model.validate import validate_network_spec
from swarmpy.wire.convert import fill, from_proto
from tests.support.control import NOW, FakeCluster, fake_id


class NetworkCalls:
    """Mixed into the servicer of straw."""

    _cluster: FakeCluster

    def CreateNetwork(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        spec = from_proto(request.spec, NetworkSpec)
        if problems := validate_network_spec(spec):
            raise InvalidSpecError(problems)
        networks = self._cluster.networks
        if any(one.name == spec.name for one in networks.values()):
            raise SwarmError(Code.ALREADY_EXISTS, f"network with name {spec.name} already exists: choose another name")
        number = 1 + max((int(one.id.strip("network").rstrip("0")) for one in networks.values()), default=0)
        subnet = IPv4Network(spec.subnet or f"10.0.{number}.0/24")
        network = Network(
            id=fake_id("network", number),
            spec=spec,
            created_at=NOW,
            updated_at=NOW,
            subnet=str(subnet),
            gateway=spec.gateway or str(subnet[1]),
            vni=4096 + number if spec.driver is NetworkDriver.OVERLAY else 0,
        )
        answer = pb.CreateNetworkResponse()
        fill(answer.network, self._cluster.put(network))
        return answer

    def GetNetwork(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        answer = pb.GetNetworkResponse()
        fill(answer.network, self._cluster.find(self._cluster.networks, request.ref, "network"))
        return answer

    def ListNetworks(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        wanted = request.filter
        answer = pb.ListNetworksResponse(revision=self._cluster.revision)
        for one in sorted(self._cluster.networks.values(), key=lambda n: n.id):
            labels = one.spec.labels
            if all(key in labels and value in ("", labels[key]) for key, value in wanted.labels.items()):
                fill(answer.networks.add(), one)
        return answer

    def RemoveNetwork(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        network = self._cluster.find(self._cluster.networks, request.ref, "network")
        users = [
            service.name
            for service in self._cluster.services.values()
            if any(one.target == network.id for one in service.spec.task.networks)
        ]
        if users:
            raise precondition(f"network {network.name} is in use by service {', '.join(users)}: remove them")
        self._cluster.put(network, removed=True)
        return pb.RemoveNetworkResponse(network_id=network.id)
