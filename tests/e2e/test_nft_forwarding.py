"""Tasks' packets on a host whose packet filter drops what it does not know, as Docker leaves it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.support.netlab import Space, cannot, tcp_server
from tests.support.nft_host import HOST, KEY, LINKS, OUTSIDE, TASKS, HostLab
from worker.network.nft.forwarding import Forwarding
from worker.network.nft.layout import Publication
from worker.network.nft.legacy import LegacyTables

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(cannot()), reason=cannot()),
]
LEGACY = shutil.which("iptables-legacy", path="/usr/sbin:/sbin:/usr/bin")
IPTABLES = shutil.which("iptables-nft", path="/usr/sbin:/sbin:/usr/bin")
needs_iptables = pytest.mark.skipif(IPTABLES is None, reason="iptables-nft not found: apt-get install iptables")
needs_legacy = pytest.mark.skipif(LEGACY is None, reason="iptables-legacy not found: apt-get install iptables")
DOCKERS = """
table ip filter {
    chain DOCKER-USER { counter return; }
    chain DOCKER-FORWARD { iifname "docker0" accept; }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        counter jump DOCKER-FORWARD
    }
}
"""
PORT = Publication("tcp", IPv4Address(HOST), 8080, IPv4Address(TASKS[0]), 80)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[HostLab]:
    with HostLab(tmp_path) as made:
        made.table.change(add=[PORT])
        yield made


def forwarding(lab: HostLab) -> Forwarding:
    return Forwarding(lab.socket, KEY, LINKS.prefix, legacy=legacy_of(lab.host))


def legacy_of(space: Space) -> LegacyTables:
    """Return the older tables of a namespace: the kernel shows them to a process that is in it."""
    names = space.path.with_name("ip_tables_names")
    names.write_text(space.run("cat", "/proc/net/ip_tables_names"))
    return LegacyTables([["nsenter", f"--net={space.path}", LEGACY or "iptables-legacy"]], in_use=names)


def works(lab: HostLab) -> bool:
    """Tell whether packets pass to the task and from it."""
    with tcp_server(lab.tasks[0], TASKS[0], 80, "web"), tcp_server(lab.outside, OUTSIDE, 80, "out"):
        return passes(lab.outside, HOST, 8080) and passes(lab.tasks[0], OUTSIDE, 80)


def passes(client: Space, address: str, port: int) -> bool:
    with client.socket() as sock:
        sock.settimeout(0.3)  # what is dropped is never answered
        try:
            sock.connect((address, port))
        except TimeoutError:
            return False
        return True


def test_docker_s_policy_is_no_obstacle(lab: HostLab) -> None:
    lab.host.run("nft", "-f", "-", text=DOCKERS)
    before = lab.host.run("nft", "list", "table", "ip", "filter")
    assert not works(lab)
    ours = forwarding(lab)
    for _ in range(2):
        assert ours.ensure() == ()
        assert works(lab)
    comments = [rule.partition("comment ")[2] for rule in forward_rules(lab)]
    assert comments == ["", f'"swarmpy_{KEY}"', f'"swarmpy_{KEY}"', ""]
    for _ in range(2):
        ours.remove()
    lab.host.run("nft", "reset", "counters")
    assert not works(lab)
    assert lab.host.run("nft", "-s", "list", "table", "ip", "filter") == without_counters(before)


def without_counters(text: str) -> str:
    return text.replace(" packets 0 bytes 0", "")


def forward_rules(lab: HostLab) -> list[str]:
    lines = lab.host.run("nft", "list", "chain", "ip", "filter", "FORWARD").splitlines()
    return [line.strip() for line in lines if "counter" in line]


def test_what_is_forbidden_in_docker_user_stays_forbidden(lab: HostLab) -> None:
    lab.host.run("nft", "-f", "-", text=DOCKERS)
    forwarding(lab).ensure()
    lab.host.run("nft", "insert rule ip filter DOCKER-USER meta l4proto tcp ct original proto-dst 8080 drop")
    with tcp_server(lab.tasks[0], TASKS[0], 80, "web"):
        assert not passes(lab.outside, HOST, 8080)


def test_docker_may_come_later_and_again(lab: HostLab) -> None:
    ours = forwarding(lab)
    assert ours.ensure() == ()
    assert "filter" not in lab.host.run("nft", "list", "tables").split()
    lab.host.run("nft", "-f", "-", text=DOCKERS)
    ours.ensure()
    assert works(lab)
    # It takes its rules away and puts them on top again ...
    lab.host.run("nft", "insert rule ip filter FORWARD counter jump DOCKER-USER")
    ours.ensure()
    assert works(lab)
    # ... or somebody flushes the chain.
    lab.host.run("nft", "flush chain ip filter FORWARD")
    assert not works(lab)
    ours.ensure()
    assert works(lab)


def test_a_rule_that_is_missing_is_put_back(lab: HostLab) -> None:
    lab.host.run("nft", "-f", "-", text=DOCKERS)
    ours = forwarding(lab)
    ours.ensure()
    handles = lab.host.run("nft", "-a", "list", "chain", "ip", "filter", "FORWARD").splitlines()
    handle = next(line.rpartition(" ")[2] for line in handles if "oifname" in line)
    lab.host.run("nft", f"delete rule ip filter FORWARD handle {handle}")
    ours.ensure()
    assert len([line for line in forward_rules(lab) if "swarmpy" in line]) == 2


def test_other_chains_that_drop_are_named_and_left_alone(lab: HostLab) -> None:
    lab.host.run(
        "nft", "add table inet admin; add chain inet admin fw { type filter hook forward priority 5; policy drop; }"
    )
    before = lab.host.run("nft", "list", "table", "inet", "admin")
    (said,) = forwarding(lab).ensure()
    assert "chain fw of the nf_tables table inet admin drops" in said
    assert f'iifname "{LINKS.prefix}*" accept' in said
    assert lab.host.run("nft", "list", "table", "inet", "admin") == before


@needs_iptables
def test_iptables_reads_the_rules_as_its_own(lab: HostLab) -> None:
    assert IPTABLES is not None, "or it is skipped"
    for words in ("-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"):
        lab.host.run(IPTABLES, *words.split())
    before = lab.host.run(IPTABLES, "-S")
    forwarding(lab).ensure()
    assert works(lab)
    comment = f"-m comment --comment swarmpy_{KEY} -j ACCEPT"
    assert set(lab.host.run(IPTABLES, "-S").splitlines()) - set(before.splitlines()) == {
        f"-A FORWARD {way} {LINKS.prefix}+ {comment}" for way in ("-i", "-o")
    }
    # It writes them out, and in again in its own way.
    lab.host.run(f"{IPTABLES}-restore", text=lab.host.run(f"{IPTABLES}-save"))
    restored = lab.host.run(IPTABLES, "-S")
    forwarding(lab).ensure()
    assert lab.host.run(IPTABLES, "-S") == restored
    forwarding(lab).remove()
    assert lab.host.run(IPTABLES, "-S") == before


@needs_legacy
def test_the_older_tables_are_no_obstacle(lab: HostLab) -> None:
    assert LEGACY is not None, "or it is skipped"
    for words in ("-P FORWARD DROP", "-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER"):
        lab.host.run(LEGACY, *words.split())
    before = lab.host.run(LEGACY, "-S")
    assert not works(lab)
    ours = forwarding(lab)
    for _ in range(2):
        assert ours.ensure() == ()
        assert works(lab)
    after = lab.host.run(LEGACY, "-S", "FORWARD").splitlines()
    assert after[1] == "-A FORWARD -j DOCKER-USER"
    assert len(after) == 4
    for _ in range(2):
        ours.remove()
    assert lab.host.run(LEGACY, "-S") == before
