"""A worker that is killed at any step of making and removing links: what it leaves is found, gone on with, or swept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from tests.support.link_hosts import Host, Hosts, eventually, needs_root, reaches
from worker.network.link import namespace
from worker.network.link.fabric import Segment
from worker.network.link.forwarding import Neighbour
from worker.network.link.leases import LeaseDirectory
from worker.network.link.links import Links
from worker.network.link.messages import Request
from worker.network.link.namespace import open_in
from worker.network.link.rtnl import Rtnl

pytestmark = [pytest.mark.e2e, pytest.mark.root, needs_root]

WEB = Segment("web", 70001, IPv4Network("10.0.1.0/24"))
REMOTE = Neighbour(IPv4Address("10.0.1.9"), IPv4Address("10.83.0.9"))
ADDRESS = IPv4Interface("10.0.1.2/24")
# More than there are; the last ones end by themselves, which is looked at, too.
STEPS = 60


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Hosts(tmp_path) as hosts:
        yield hosts.add()


def attach(links: Links) -> None:
    links.make_namespace("task")
    links.ensure_network(WEB)
    links.set_neighbours("web", [REMOTE])
    links.join_network("task", "web", ADDRESS, "eth0")
    links.join_gateway("task", "eth1")


def detach(links: Links) -> None:
    links.leave_network("task", "web")
    links.remove_namespace("task")
    links.remove_network("web")


def killed(host: Host, work: Callable[[Links], None], step: int) -> bool:
    """Do `work` in a process that kills itself before its `step`-th change; tell whether it came to that."""
    child = os.fork()
    if child == 0:
        try:
            _end_at(step)
            host.run(lambda: work(Links(host.place, clock=time.monotonic)))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _end_at(last: int) -> None:
    """Make every change of this process a step."""
    run, check, note = Rtnl.run, namespace._check, LeaseDirectory._note
    left = [last]

    def step() -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    def run_one_by_one(rtnl: Rtnl, *requests: Request) -> None:
        for request in requests:
            step()
            run(rtnl, request)

    def check_after(result: int) -> None:
        step()
        check(result)

    def note_after(directory: LeaseDirectory, address: IPv4Address, target: str) -> None:
        step()
        note(directory, address, target)

    for owner, name, after in (
        (Rtnl, "run", run_one_by_one),
        (namespace, "_check", check_after),
        (LeaseDirectory, "_note", note_after),
    ):
        setattr(owner, name, after)


def whole(host: Host) -> None:
    """Look whether a task has all that `attach` gives it."""
    task = host.place.namespace("task")
    shown = open_in(task, lambda: Path("/proc/thread-self/net/dev").read_text())
    assert "eth0:" in shown
    assert "eth1:" in shown
    assert reaches(task, host.namespace, host.do(Links.gateway).address.ip)
    assert len(host.links.set_neighbours("web", [REMOTE])) == 0


@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_killed_while_it_attaches(host: Host, first: int) -> None:
    before = host.count()
    cut = 0
    for step in range(first, STEPS, 8):
        cut += killed(host, attach, step)
        again = host.again()
        again.do(attach)
        whole(again)
        assert again.do(Links.sweep, ["task"], ["web"]).links == ()
        again.do(Links.clear)
        eventually(lambda: host.count() == before, f"step {step} leaves something")
        again.links.close()
    assert cut > 3


@pytest.mark.parametrize("first", [1, 5])
def test_killed_and_swept(host: Host, first: int) -> None:
    before = host.count()
    for step in range(first, STEPS, 8):
        killed(host, attach, step)
        again = host.again()
        again.do(Links.sweep, [], [])
        # The gateway and the fabric are the node's and stay.
        eventually(lambda: host.count()[0] <= before[0] + 1, f"step {step} leaves a link")
        assert host.count()[1] <= 1
        again.do(Links.clear)
        eventually(lambda: host.count() == before, f"step {step} leaves something")
        again.links.close()


def test_killed_while_it_detaches(host: Host) -> None:
    before = host.count()
    for step in range(1, 8):
        working = host.again()
        working.do(attach)
        killed(working, detach, step)
        again = working.again()
        again.do(detach)
        assert again.do(Links.sweep, [], []).namespaces == ()
        again.do(Links.clear)
        eventually(lambda: host.count() == before, f"step {step} leaves something")
        again.links.close()
