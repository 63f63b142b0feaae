"""Which networks a stack makes, and which of its services join them."""

from __future__ import annotations

from swarmpy.model.network import NetworkSpec
from swarmpy.model.spec import STACK_LABEL, NetworkAttachment
from swarmpy.model.states import NetworkDriver, Runtime
from swarmpy.stack.faults import Faults
from swarmpy.stack.merge import merge
from swarmpy.stack.networks import StackNetwork, declared, joined, used
from swarmpy.stack.tree import parse


def networks_of(text: str) -> dict[str, StackNetwork]:
    faults = Faults()
    found = declared(parse(text, "c.yaml"), "shop", faults)
    faults.raise_if_any()
    return found


def joins(service: str, runtime: Runtime = Runtime.CONTAINER, networks: str = "{}") -> tuple[NetworkAttachment, ...]:
    """Return what a service named `web` joins."""
    faults = Faults()
    found = joined(parse(service, "c.yaml"), "services.web", runtime, networks_of(networks), faults)
    faults.raise_if_any()
    return found


def on(target: str, *aliases: str) -> NetworkAttachment:
    return NetworkAttachment(target=target, aliases=aliases)


def test_containers_share_a_network_of_their_stack_and_processes_stay_where_they_were() -> None:
    assert joins("{image: nginx}") == (on("shop_default", "web"),)
    assert joins("{command: serve}", Runtime.PROCESS) == ()
    assert joins("{image: nginx, networks: []}") == ()
    assert joins("{image: nginx, network_mode: host}") == (on("host"),)
    assert joins("{command: serve, networks: [default]}", Runtime.PROCESS) == (on("shop_default", "web"),)


def test_only_networks_that_somebody_joins_are_made() -> None:
    networks = networks_of("networks: {a: , b: , host: {external: true}, theirs: {external: true, name: company}}")
    assert used(networks.values(), [(), ()]) == []
    made = used(networks.values(), [(on("shop_b"), on("host")), (on("company"),)])
    assert made == [
        StackNetwork("company"),
        StackNetwork("shop_b", NetworkSpec(name="shop_b", labels={STACK_LABEL: "shop"})),
    ]
    assert used(networks.values(), [joins("{image: nginx}")])[0].name == "shop_default"


def test_a_network_is_made_as_the_file_says() -> None:
    text = """
    networks:
      default: {attachable: true}
      back:
        name: backyard
        driver: bridge
        driver_opts: {com.docker.network.driver.mtu: 1400}
        internal: true
        labels: [tier=db]
        ipam: {driver: default, config: [{subnet: 10.1.0.0/16, gateway: 10.1.0.9, ip_range: 10.1.2.0/24}]}
    """
    networks = networks_of(text)
    assert networks["default"].spec == NetworkSpec(name="shop_default", labels={STACK_LABEL: "shop"}, attachable=True)
    assert networks["back"] == StackNetwork(
        "backyard",
        NetworkSpec(
            name="backyard",
            labels={"tier": "db", STACK_LABEL: "shop"},
            driver=NetworkDriver.BRIDGE,
            subnet="10.1.0.0/16",
            gateway="10.1.0.9",
            ip_range="10.1.2.0/24",
            internal=True,
            options={"com.docker.network.driver.mtu": "1400"},
        ),
    )


def test_a_service_is_known_by_its_short_name_and_its_aliases() -> None:
    networks = "networks: {front: , back: {external: {name: company}}, bare: {external: true, name: host}}"
    service = "{image: nginx, networks: {front: {aliases: [www, web, www]}, back: }}"
    assert joins(service, networks=networks) == (on("shop_front", "web", "www"), on("company", "web"))
    assert joins("{image: nginx, networks: [bare]}", networks=networks) == (on("host"),)
    faults = Faults()
    numbered = joined(
        parse("{networks: [front]}", "c.yaml"), "services.7", Runtime.CONTAINER, networks_of(networks), faults
    )
    assert numbered == (on("shop_front"),), "a number is a slot's name"


def test_files_merge_lists_and_mappings() -> None:
    first = parse("services: {web: {networks: [a, b]}}", "1.yaml")
    second = parse("services: {web: {networks: {b: {aliases: [x]}, c: }}}", "2.yaml")
    assert merge(first, second).plain() == {
        "services": {"web": {"networks": {"a": None, "b": {"aliases": ["x"]}, "c": None}}}
    }
