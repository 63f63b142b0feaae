"""Where the balancer reaches a task."""

from __future__ import annotations

import pytest

from swarmpy.model.endpoints import Backend, HostPort, Transport
from worker.dataplane.proxy.pool import backend_address


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (HostPort(target=80, port=20000), ("10.0.0.2", 20000)),
        (HostPort(target=80, port=8080, address="0.0.0.0"), ("10.0.0.2", 8080)),
        (HostPort(target=80, port=8080, address="192.168.1.2"), ("192.168.1.2", 8080)),
        (HostPort(target=80, port=8080, address="127.0.0.1"), None),
        (HostPort(target=81, port=20000), None),
        (HostPort(target=80, port=20000, transport=Transport.UDP), None),
    ],
)
def test_a_task_is_reached_at_its_ports_address_or_its_nodes(port: HostPort, expected: object) -> None:
    backend = Backend(task_id="t", service_id="s", slot=1, node_id="n", address="10.0.0.2", ports=(port,))
    assert backend_address(backend, 80) == expected


def test_nodes_on_loopback_are_reached_there() -> None:
    port = HostPort(target=80, port=8080, address="127.0.0.2")
    backend = Backend(task_id="t", service_id="s", slot=1, node_id="n", address="127.0.0.2", ports=(port,))
    assert backend_address(backend, 80) == ("127.0.0.2", 8080)
