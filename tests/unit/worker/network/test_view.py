"""What the endpoints say about networks: where addresses are, and who stands behind a VIP."""

from __future__ import annotations

from ipaddress import IPv4Address

from swarmpy.model.endpoints import Backend, EndpointsUpdate, Neighbour, ServiceEndpoint, ServiceNetwork
from swarmpy.model.network import NetworkAddress, NetworkRow
from worker.network.link.forwarding import Neighbour as Place
from worker.network.nft.vip import Vip
from worker.network.view import NetworkView

HERE, THERE = "10.83.0.1", "10.83.0.2"
VIP = IPv4Address("10.0.1.2")


def neighbour(slot: int, node: str = HERE) -> Neighbour:
    address = NetworkAddress(network_id="front", address=f"10.0.1.{10 + slot}")
    return Neighbour(f"t{slot}", "web", slot, f"node-{node}", node, (address,))


def backend(slot: int, node: str = HERE) -> Backend:
    return Backend(f"t{slot}", "web", slot, f"node-{node}", node)


def web(vip: str = str(VIP)) -> ServiceEndpoint:
    return ServiceEndpoint("web", "web", networks=(ServiceNetwork("front", vip),))


def first(*, local: bool = False, vip: str = str(VIP)) -> EndpointsUpdate:
    """Two neighbours, one of them on another node and not ready."""
    return EndpointsUpdate(
        revision=5,
        complete=True,
        services=(web(vip),),
        backends=(backend(1),),
        networks=(NetworkRow("front", subnet="10.0.1.0/24", local=local),),
        neighbours=(neighbour(1), neighbour(2, THERE)),
    )


def seen(*updates: EndpointsUpdate) -> NetworkView:
    view = NetworkView(HERE)
    for update in updates:
        view.take(update)
    return view


def backends(*slots: int) -> tuple[Vip, ...]:
    return (Vip(VIP, tuple(IPv4Address(f"10.0.1.{10 + slot}") for slot in slots)),)


def test_nothing_is_known_before_the_first_complete_update() -> None:
    assert not seen(EndpointsUpdate(revision=1)).is_known
    assert seen(first()).is_known


def test_neighbours_are_all_of_a_network_and_backends_the_ready_ones() -> None:
    view = seen(first())
    places = [Place(IPv4Address(f"10.0.1.1{n}"), IPv4Address(node)) for n, node in ((1, HERE), (2, THERE))]
    assert sorted(view.neighbours("front"), key=lambda row: row.address) == places
    assert view.neighbours("elsewhere") == ()
    assert view.vips(["front"]) == backends(1)
    assert view.vip("front", VIP) == backends(1)[0]
    assert view.vips(["elsewhere"]) == ()


def test_only_what_changed_is_dirty() -> None:
    view = seen(first())
    dirt = view.take_dirt()
    assert dirt.neighbours
    assert dict(dirt.vips) == {"front": {VIP}}
    view.take(EndpointsUpdate(revision=6, backends=(backend(2, THERE),)))
    dirt = view.take_dirt()
    assert not dirt.neighbours
    assert dict(dirt.vips) == {"front": {VIP}}
    assert view.vips(["front"]) == backends(1, 2)
    view.take(EndpointsUpdate(revision=7))
    assert not view.take_dirt().vips
    assert view.revision == 7


def test_a_backend_that_is_withdrawn_leaves_the_vip_and_stays_a_neighbour() -> None:
    view = seen(first(), EndpointsUpdate(revision=6, removed_backends=("t1",)))
    assert view.vips(["front"]) == backends()
    assert len(view.neighbours("front")) == 2


def test_a_service_that_goes_takes_its_vip_with_it() -> None:
    view = seen(first())
    view.take_dirt()
    view.take(EndpointsUpdate(revision=6, removed_services=("web",), removed_neighbours=("t1", "t2")))
    assert view.vips(["front"]) == ()
    assert view.vip("front", VIP) is None
    assert dict(view.take_dirt().vips) == {"front": {VIP}}
    assert view.neighbours("front") == ()


def test_a_service_with_another_vip_leaves_the_former() -> None:
    view = seen(first(), EndpointsUpdate(revision=6, services=(web("10.0.1.9"),)))
    assert view.vip("front", VIP) is None
    assert view.vips(["front"]) == (Vip(IPv4Address("10.0.1.9"), backends(1)[0].backends),)


def test_without_a_vip_there_is_nothing_to_balance() -> None:
    assert seen(first(vip="")).vips(["front"]) == ()


def test_on_a_local_network_only_this_node_s_tasks_are_reached() -> None:
    view = seen(first(local=True), EndpointsUpdate(revision=6, backends=(backend(2, THERE),)))
    assert view.vips(["front"]) == backends(1)


def test_an_old_update_changes_nothing() -> None:
    view = seen(first(), EndpointsUpdate(revision=4, removed_backends=("t1",)))
    assert view.vips(["front"]) == backends(1)
