"""Which name servers a task is told of."""

from __future__ import annotations

from swarmpy.model.spec import ContainerSpec
from worker.network.resolver import Resolver, read_resolver, task_resolver

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


def test_a_task_asks_the_server_in_its_own_namespace_and_names_of_the_cluster_as_they_are() -> None:
    machine = read_resolver(TEXT)
    found = task_resolver(ContainerSpec(), machine)
    assert found == Resolver(("127.0.0.11",), ("a.example", "b.example"), ("edns0", "ndots:0"))


def test_a_user_s_servers_are_asked_by_that_one_and_other_wishes_are_written() -> None:
    machine = read_resolver(TEXT)
    own = ContainerSpec(dns=("9.9.9.9",), dns_search=("x",), dns_options=("rotate",))
    assert task_resolver(own, machine) == Resolver(("127.0.0.11",), ("x",), ("rotate", "ndots:0"))
    assert task_resolver(ContainerSpec(dns_options=("ndots:3",)), machine).options == ("ndots:3",)
