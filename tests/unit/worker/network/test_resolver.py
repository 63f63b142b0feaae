"""Which name servers a task is told of."""

from __future__ import annotations

from swarmpy.model.spec import ContainerSpec
from worker.network.resolver import Resolver, reachable, read_resolver, task_resolver

TEXT = """
# made by hand
nameserver 127.0.0.53
nameserver 10.0.0.1   # ours
nameserver
search a.example b.example
options ndots:2 edns0
"""


def test_a_resolv_conf_is_read() -> None:
    assert read_resolver(TEXT) == Resolver(("127.0.0.53", "10.0.0.1"), ("a.example", "b.example"), ("ndots:2", "edns0"))
    assert read_resolver("") == Resolver()


def test_loopback_is_not_reached_from_a_namespace() -> None:
    assert reachable(("127.0.0.53", "::1", "10.0.0.1", "fe80::1%eth0", "odd")) == ("10.0.0.1", "fe80::1%eth0", "odd")


def test_the_node_is_asked_first_and_wishes_replace_all() -> None:
    machine = read_resolver(TEXT)
    assert task_resolver(ContainerSpec(), "172.18.0.1", machine).servers == ("172.18.0.1", "10.0.0.1")
    assert task_resolver(ContainerSpec(), "", machine).servers == ("10.0.0.1",)
    own = ContainerSpec(dns=("9.9.9.9",), dns_search=("x",), dns_options=("y",))
    assert task_resolver(own, "172.18.0.1", machine) == Resolver(("9.9.9.9",), ("x",), ("y",))
