"""The rules for networks: what can be made, and what can be joined."""

from __future__ import annotations

import msgspec
import pytest

from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.endpoints import ENCODER, EndpointsUpdate, Neighbour
from swarmpy.model.needs import needed_capabilities
from swarmpy.model.network import NetworkAddress, NetworkSpec, mtu_of
from swarmpy.model.node import Capability
from swarmpy.model.spec import (
    ContainerSpec,
    EndpointSpec,
    NetworkAttachment,
    PortSpec,
    ServiceSpec,
    TaskSpec,
)
from swarmpy.model.states import Runtime
from swarmpy.model.validate import validate_cluster_spec, validate_network_spec, validate_service


def one(problems: list[tuple[str, str]]) -> tuple[str, str]:
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize(
    "spec",
    [
        NetworkSpec(name="web"),
        NetworkSpec(name="shop_default", options={"mtu": "1400"}, internal=True, attachable=True),
        NetworkSpec(name="a.b-c", subnet="10.1.0.0/16", gateway="10.1.255.254", ip_range="10.1.3.0/24"),
        NetworkSpec(name="small", subnet="192.168.5.248/29", options={"com.docker.network.driver.mtu": "9000"}),
    ],
    ids=lambda spec: spec.name,
)
def test_a_good_network_has_no_problem(spec: NetworkSpec) -> None:
    assert validate_network_spec(spec) == []


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"name": ""}, "name", "is missing"),
        ({"name": "a/b"}, "name", "is not a network name"),
        ({"name": "Host"}, "name", "predefined on every node"),
        ({"name": "ingress"}, "name", "predefined on every node"),
        ({"subnet": "10.1.0.0"}, "subnet", "write ADDRESS/BITS"),
        ({"subnet": "10.1.0.0/255.255.255.0"}, "subnet", "write ADDRESS/BITS"),
        ({"subnet": "10.1.0.3/24"}, "subnet", "did you mean 10.1.0.0/24?"),
        ({"subnet": "fd00::/64"}, "subnet", "IPv6"),
        ({"subnet": "10.1.0.0/30"}, "subnet", "give /8 to /29"),
        ({"subnet": "0.0.0.0/0"}, "subnet", "give /8 to /29"),
        ({"subnet": "127.1.0.0/24"}, "subnet", "cannot be used"),
        ({"subnet": "224.1.0.0/24"}, "subnet", "cannot be used"),
        ({"gateway": "10.1.0.1"}, "gateway", "needs a subnet"),
        ({"ip_range": "10.1.0.0/25"}, "ip_range", "needs a subnet"),
        ({"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}, "gateway", "no address of a host in 10.1.0.0/24"),
        ({"subnet": "10.1.0.0/24", "gateway": "10.1.0.255"}, "gateway", "no address of a host"),
        ({"subnet": "10.1.0.0/24", "gateway": "router"}, "gateway", "not an IPv4 address"),
        ({"subnet": "10.1.0.0/24", "ip_range": "10.2.0.0/25"}, "ip_range", "not within 10.1.0.0/24"),
        ({"subnet": "10.1.0.0/24", "ip_range": "all"}, "ip_range", "write ADDRESS/BITS"),
        ({"options": {"mtu": "100"}}, "options['mtu']", "is not an MTU"),
        ({"options": {"mtu": "1400", "com.docker.network.driver.mtu": "1400"}}, "options", "the same"),
        ({"options": {"encrypted": ""}}, "options['encrypted']", "not supported yet"),
        ({"options": {"colour": "red"}}, "options['colour']", "use mtu"),
        ({"labels": {" ": "x"}}, "labels", "label key"),
    ],
)
def test_what_cannot_be_made_is_refused(change: dict[str, object], path: str, words: str) -> None:
    problem = one(list(validate_network_spec(msgspec.structs.replace(NetworkSpec(name="web"), **change))))
    assert problem[0] == path
    assert words in problem[1]


def joining(*networks: NetworkAttachment, ports: tuple[PortSpec, ...] = ()) -> ServiceSpec:
    task = TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(args=("true",)), networks=networks)
    return ServiceSpec(name="web", task=task, endpoint=EndpointSpec(ports=ports))


def on(target: str, *aliases: str) -> NetworkAttachment:
    return NetworkAttachment(target=target, aliases=aliases)


def test_several_networks_can_be_joined_under_several_names() -> None:
    assert validate_service(joining(on("front", "www", "web-1"), on("back", "www"), on("bridge"))) == []
    assert validate_service(joining(on("host"), ports=(PortSpec(target=80),))) == []


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        (joining(on("")), "task.networks[0]", "names no network"),
        (joining(on("ingress")), "task.networks[0]", "cannot be joined"),
        (joining(on("a"), on("a", "x")), "task.networks[1]", "joined already"),
        (joining(on("a"), on("host")), "task.networks[1]", "excludes other networks"),
        (joining(on("bridge", "x")), "task.networks[0].aliases", "knows no names"),
        (joining(on("a", "tasks")), "task.networks[0].aliases", "reserved"),
        (joining(on("a", "-x")), "task.networks[0].aliases", "is not a service name"),
        (joining(on("none"), ports=(PortSpec(target=80),)), "task.networks", "nobody can reach the ports"),
    ],
)
def test_what_cannot_be_joined_is_refused(spec: ServiceSpec, path: str, words: str) -> None:
    problem = one(list(validate_service(spec)))
    assert problem[0] == path
    assert words in problem[1]


@pytest.mark.parametrize(
    ("pools", "mask", "path", "words"),
    [
        (("10.0.0.3/8",), 24, "default_addr_pools[0]", "did you mean 10.0.0.0/8?"),
        (("10.0.0.0/8", "10.3.0.0/16"), 24, "default_addr_pools[1]", "overlaps 10.0.0.0/8"),
        (("10.0.0.0/25",), 24, "default_addr_pools[0]", "no room for a subnet of /24"),
        ((), 30, "default_addr_mask", "out of range"),
    ],
)
def test_pools_of_subnets_have_rules(pools: tuple[str, ...], mask: int, path: str, words: str) -> None:
    problem = one(list(validate_cluster_spec(ClusterSpec(default_addr_pools=pools, default_addr_mask=mask))))
    assert problem[0] == path
    assert words in problem[1]
    assert validate_cluster_spec(ClusterSpec(default_addr_pools=("10.0.0.0/9", "10.128.0.0/9"))) == []


@pytest.mark.parametrize(
    ("runtime", "target", "needed"),
    [
        (Runtime.PROCESS, "host", False),
        (Runtime.PROCESS, "none", True),
        (Runtime.PROCESS, "bridge", True),
        (Runtime.PROCESS, "front", True),
        (Runtime.CONTAINER, "host", False),
        (Runtime.CONTAINER, "none", False),
        (Runtime.CONTAINER, "bridge", False),
        (Runtime.CONTAINER, "front", True),
    ],
)
def test_a_node_needs_the_capability_for_what_it_must_attach(runtime: Runtime, target: str, needed: bool) -> None:
    task = TaskSpec(runtime=runtime, networks=(on(target),))
    assert (Capability.NETWORK in needed_capabilities(task)) is needed
    assert Capability.NETWORK not in needed_capabilities(TaskSpec(runtime=runtime))


def test_docker_knows_the_mtu_by_another_name() -> None:
    assert mtu_of(NetworkSpec(options={"com.docker.network.driver.mtu": "1400"})) == 1400
    assert mtu_of(NetworkSpec()) == 0


class OlderUpdate(msgspec.Struct, kw_only=True):
    """What a data plane of the release before networks reads."""

    revision: int
    complete: bool = False
    removed_backends: tuple[str, ...] = ()


def test_an_older_data_plane_reads_what_it_knows() -> None:
    beside = Neighbour(
        task_id="t",
        service_id="s",
        slot=1,
        node_id="n",
        node_addr="127.0.0.1",
        addresses=(NetworkAddress(network_id="net", address="10.0.0.2"),),
    )
    update = EndpointsUpdate(revision=7, removed_backends=("b",), neighbours=(beside,), removed_networks=("x",))
    read = msgspec.msgpack.decode(ENCODER.encode(update), type=OlderUpdate)
    assert (read.revision, read.removed_backends) == (7, ("b",))
