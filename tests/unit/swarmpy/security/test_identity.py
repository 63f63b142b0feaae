"""A node that has another address is the same node, and says where its manager is now."""

from __future__ import annotations

import msgspec
import pytest

from swarmpy.model.states import NodeRole
from swarmpy.security.identity import Identity, at_address

OTHERS = ("10.0.0.2:2377", "10.0.0.3:2377")


def identity(advertise: str = "10.0.0.1:2377", listen: str = "10.0.0.1:2377", node_addr: str = "10.0.0.1") -> Identity:
    return Identity(
        cluster_id="c1",
        node_id="n1",
        role=NodeRole.MANAGER,
        key_pem=b"key",
        cert_pem=b"cert",
        root_pem=b"root",
        managers=(advertise, *OTHERS),
        advertise_addr=advertise,
        listen_addr=listen,
        node_addr=node_addr,
    )


@pytest.mark.parametrize(
    ("before", "advertise", "listen"),
    [
        pytest.param(identity(), "10.9.9.9:2377", "10.9.9.9:2377", id="all was the node's own"),
        pytest.param(
            identity("10.0.0.1:9000", "10.0.0.1:9000"), "10.9.9.9:9000", "10.9.9.9:9000", id="with a port of its own"
        ),
        pytest.param(identity(listen="0.0.0.0:2377"), "10.9.9.9:2377", "0.0.0.0:2377", id="it listens everywhere"),
        pytest.param(identity("m1.example:2377"), "m1.example:2377", "10.9.9.9:2377", id="it is reached by a name"),
        pytest.param(
            identity("192.0.2.1:2377", "172.16.0.1:2377"), "192.0.2.1:2377", "172.16.0.1:2377", id="all was given"
        ),
        pytest.param(identity(node_addr=""), "10.9.9.9:2377", "10.9.9.9:2377", id="of an earlier release"),
        pytest.param(
            identity("192.0.2.1:2377", node_addr=""), "192.0.2.1:2377", "10.9.9.9:2377", id="of an earlier one, given"
        ),
    ],
)
def test_what_was_the_nodes_own_address_goes_with_it(before: Identity, advertise: str, listen: str) -> None:
    after = at_address(before, "10.9.9.9")
    assert (after.advertise_addr, after.listen_addr, after.node_addr) == (advertise, listen, "10.9.9.9")
    assert after.managers == (advertise, *OTHERS), "who only knows himself must find himself"
    unmoved = msgspec.structs.replace(
        after, advertise_addr=before.advertise_addr, listen_addr=before.listen_addr, managers=before.managers
    )
    assert unmoved == msgspec.structs.replace(before, node_addr="10.9.9.9"), "nothing else changes"
    assert at_address(after, "10.9.9.9") is after


def test_there_and_back_is_where_it_was() -> None:
    assert at_address(at_address(identity(), "fd00::9"), "10.0.0.1") == identity()
    assert at_address(identity(), "fd00::9").advertise_addr == "[fd00::9]:2377"


def test_one_without_a_manager_has_nothing_to_move() -> None:
    bare = msgspec.structs.replace(identity("", ""), managers=OTHERS)
    assert at_address(bare, "10.9.9.9") == msgspec.structs.replace(bare, node_addr="10.9.9.9")
