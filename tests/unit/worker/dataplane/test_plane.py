"""The data plane put together, with fakes for its sockets, its balancer and the clock."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.clock import FakeClock, settle
from tests.support.dataplane import FakeBalancer, FakeNamespaces, FakeSockets, port, service, task
from tests.support.names import free_port, neighbour, network
from worker.dataplane.plane import DataPlane
from worker.dataplane.protocol import (
    TASK_NAME_SERVER,
    Applied,
    Configure,
    Hello,
    PortCleared,
    PortProblem,
    TaskGone,
    TaskNamespace,
    Tasks,
    TaskServed,
    ToWorker,
)
from worker.dataplane.sockets import Port
from worker.dataplane.store import load
from worker.dataplane.vip import PROBE_PORT, candidates

ADDRESS = "127.0.0.2"
ME = Configure(node_id="n1", cluster_id="c1")
WEB = EndpointsUpdate(
    revision=5,
    complete=True,
    services=(service("web", port("8080:80"), vip=3),),
    backends=(task("t1", "web", (80, 40001), slot=1), task("t2", "web", (80, 40002), slot=2)),
)


class Running:
    """A running data plane and its surroundings."""

    def __init__(self, folder: Path, sockets: FakeSockets, namespaces: FakeNamespaces) -> None:
        self.clock = FakeClock()
        self.balancer = FakeBalancer()
        self.told: list[ToWorker] = []
        self.plane = DataPlane(
            folder=folder,
            data_address=ADDRESS,
            dns_ports=(53,),
            clock=self.clock,
            sockets=sockets,
            balancer=self.balancer,
            namespaces=namespaces,
            rng=random.Random(1),
            resolv_conf=folder / "resolv.conf",
            on_message=self.told.append,
        )

    @property
    def listening(self) -> set[str]:
        return {f"{key.address}:{key.port}" for key in self.balancer.listeners}


@contextlib.asynccontextmanager
async def running(
    folder: Path, sockets: FakeSockets | None = None, namespaces: FakeNamespaces | None = None
) -> AsyncIterator[Running]:
    provider = sockets or FakeSockets()
    made = Running(folder, provider, namespaces or FakeNamespaces())
    made.plane.restore()
    try:
        async with asyncio.TaskGroup() as tasks:
            life = tasks.create_task(made.plane.run())
            await settle()
            yield made
            life.cancel()
        await made.plane.close()
    finally:
        provider.close()


async def test_an_update_reaches_names_balancer_and_listeners(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        assert node.balancer.calls == ["apply ['web'] withdrawn []"], "in force before anything else runs"
        assert node.plane.applied() == Applied(revision=5)
        await settle()
        prefix = candidates("n1")[0]
        assert node.listening == {f"{ADDRESS}:8080", f"{prefix}.0.3:80"}
        hello = node.plane.hello()
        assert (hello.vip_prefix, hello.cluster_id, hello.revision) == (prefix, "c1", 5)
        assert hello.dns_port != 0
        assert hello in node.told or [m for m in node.told if isinstance(m, Hello)][-1].vip_prefix == prefix


async def test_a_withdrawn_task_is_busy_until_the_balancer_says_otherwise(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        node.balancer.busy_tasks = frozenset({"t1"})
        node.plane.apply(EndpointsUpdate(revision=6, removed_backends=("t1",)))
        assert node.balancer.calls[-1] == "apply ['web'] withdrawn ['t1']"
        assert node.plane.applied() == Applied(revision=6, busy=("t1",))


async def test_a_removed_service_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        await settle()
        node.plane.apply(EndpointsUpdate(revision=6, removed_services=("web",)))
        assert node.balancer.calls[-2:] == ["apply [] withdrawn ['t1', 't2']", "remove web"]
        await settle()
        assert node.listening == set()


async def test_an_older_update_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        node.plane.apply(EndpointsUpdate(revision=4, removed_services=("web",)))
        assert node.plane.applied() == Applied(revision=5)
        assert set(node.balancer.backends) == {"web"}


async def test_a_restarted_data_plane_serves_what_the_last_one_did(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        await settle()
        first = node.plane.hello()
        listening = node.listening
    async with running(tmp_path) as node:
        hello = node.plane.hello()
        assert (hello.revision, hello.cluster_id, hello.vip_prefix) == (5, "c1", first.vip_prefix)
        assert node.listening == listening
        assert [b.task_id for b in node.balancer.backends["web"]] == ["t1", "t2"]


async def test_another_cluster_wipes_what_the_last_one_left(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        await settle()
    async with running(tmp_path) as node:
        node.plane.configure(Configure(node_id="n1", cluster_id="c2"))
        await settle()
        assert node.plane.hello().revision == 0
        assert node.listening == set()
        assert node.balancer.backends == {}


async def test_without_vips_ports_and_names_still_work_and_the_worker_hears_why(tmp_path: Path) -> None:
    sockets = FakeSockets()
    sockets.failing |= {Port("tcp", f"{prefix}.255.254", PROBE_PORT) for prefix in candidates("n1")}
    async with running(tmp_path, sockets) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        await settle(200)  # there are 64 prefixes to try
        assert node.listening == {f"{ADDRESS}:8080"}
        assert [p.address for p in node.plane.problems()] == ["127.x.255.254"]
        sockets.failing.clear()
        await node.clock.advance(10.0)
        assert node.plane.problems() == ()
        assert node.plane.hello().vip_prefix == candidates("n1")[0]
        assert len(node.listening) == 2


async def test_a_port_problem_is_told_and_taken_back(tmp_path: Path) -> None:
    sockets = FakeSockets()
    taken = Port("tcp", ADDRESS, 8080)
    sockets.failing.add(taken)
    async with running(tmp_path, sockets) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        await settle()
        (problem,) = node.plane.problems()
        assert problem in node.told
        assert "a test says so" in problem.message
        sockets.failing.clear()
        await node.clock.advance(20.0)
        assert node.plane.problems() == ()
        assert PortCleared(transport="tcp", address=ADDRESS, port=8080) in node.told
        assert isinstance(problem, PortProblem)


async def test_counters_have_all_parts(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        counters = node.plane.counters()
        assert [row.service_id for row in counters.balancer] == ["web"]
        assert counters.dns["cache_hits"] == 0
        assert counters.rss_bytes > 1 << 20
        assert counters.loop_lag_max_s >= 0.0


async def test_closing_tells_clients_while_ports_accept_then_stops_accepting_and_drains(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        await settle()
    assert [call.split()[0] for call in node.balancer.calls[-4:]] == ["drain", "unlisten", "unlisten", "close"]


async def test_a_restarted_data_plane_serves_names_in_the_same_tasks_and_drops_those_that_are_gone(
    tmp_path: Path,
) -> None:
    namespaces = FakeNamespaces()
    tasks = [TaskNamespace(task_id=f"t{n}", netns=f"/pins/t{n}", port=free_port(TASK_NAME_SERVER)) for n in (1, 2)]
    namespaces.there = {Path(namespace.netns): n for n, namespace in enumerate(tasks)}
    async with running(tmp_path, namespaces=namespaces) as node:
        node.plane.configure(ME)
        node.plane.name(Tasks(tasks=tuple(tasks)))
        await settle()
        served = [TaskServed(task_id="t1"), TaskServed(task_id="t2")]
        assert [m for m in node.told if isinstance(m, TaskServed)] == served
    del namespaces.there[Path("/pins/t2")]
    async with running(tmp_path, namespaces=namespaces) as node:
        problems = {m.task_id: m.problem for m in node.told if isinstance(m, TaskServed)}
        assert problems["t1"] == ""
        assert "no namespace" in problems["t2"]
        node.plane.name(TaskGone(task_id="t1"))
    async with running(tmp_path, namespaces=namespaces) as node:
        assert not [m for m in node.told if isinstance(m, TaskServed)]


async def test_an_update_of_networks_alone_leaves_the_balancer_alone_and_is_kept(tmp_path: Path) -> None:
    update = EndpointsUpdate(revision=6, networks=(network(1),), neighbours=(neighbour("t1", "web", "10.1.0.2"),))
    async with running(tmp_path) as node:
        node.plane.configure(ME)
        node.plane.apply(WEB)
        calls = len(node.balancer.calls)
        node.plane.apply(update)
        assert (len(node.balancer.calls), node.plane.applied().revision) == (calls, 6)
    saved = load(tmp_path / "endpoints.msgpack").endpoints
    assert (saved.networks, saved.neighbours) == (update.networks, update.neighbours)
