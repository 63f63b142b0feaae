"""Name servers inside tasks' namespaces: opened, kept to what is wanted, and answering by the task's networks."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import dnslib

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.clock import FakeClock, settle
from tests.support.dataplane import FakeNamespaces, task
from tests.support.names import (
    FakeUpstream,
    World,
    free_port,
    neighbour,
    network,
    question,
    reply,
    serving,
    shared,
    told,
)
from worker.dataplane.dns.forward import Forwarder, Patience
from worker.dataplane.dns.resolvers import Resolvers
from worker.dataplane.dns.tasks import LOOK_S, TaskServers
from worker.dataplane.protocol import TASK_NAME_SERVER, TaskNamespace, TaskServed

DEADLINE_S = 10.0
MACHINES, OWN = "127.0.0.12", "127.0.0.13"
UPDATE = EndpointsUpdate(
    revision=1,
    services=(shared("web", {"net1": "10.1.0.2"}),),
    backends=(task("w1", "id-web"),),
    networks=(network(1),),
    neighbours=(neighbour("w1", "web", "10.1.0.11"), neighbour("t1", "client", "10.1.0.12")),
)


class Servers:
    """Task servers whose namespaces are all this process's own, at free ports."""

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self.world = World(UPDATE)
        self.clock = FakeClock()
        self.namespaces = FakeNamespaces()
        self.served: list[TaskServed] = []
        self.lost = 0
        self.forwarder = Forwarder(
            clock=self.clock, rng=random.Random(1), port=upstream_port, patience=Patience(try_s=0.1, total_s=0.3)
        )
        resolv_conf = folder / "resolv.conf"
        resolv_conf.write_text(f"nameserver {MACHINES}\n")
        self.tasks = TaskServers(
            self.world.zone,
            clock=self.clock,
            forwarder=self.forwarder,
            resolvers=Resolvers(resolv_conf, clock=self.clock, is_own=lambda _: False),
            namespaces=self.namespaces,
            on_served=self.served.append,
            on_lost=self._on_lost,
        )

    def _on_lost(self) -> None:
        self.lost += 1

    def namespace(
        self,
        task_id: str = "t1",
        *,
        forward: bool = True,
        servers: tuple[str, ...] = (),
        networks: tuple[str, ...] = (),
    ) -> TaskNamespace:
        """Pin a namespace for a task, and return what the worker says of it."""
        path = Path("/pins") / task_id
        self.namespaces.there[path] = len(self.namespaces.there) + 1
        port = free_port(TASK_NAME_SERVER)
        return TaskNamespace(
            task_id=task_id, netns=str(path), port=port, forward=forward, servers=servers, networks=networks
        )

    async def serve(self, *namespaces: TaskNamespace) -> None:
        self.tasks.serve(namespaces)
        await settle()

    def apply(self, update: EndpointsUpdate) -> None:
        """Bring zone and servers to an update as the data plane does."""
        change = self.world.table.apply(update)
        assert change is not None
        tokens = self.world.zone.apply(change)
        self.tasks.changed(tokens, change.moves.tasks, networks=change.moves.networks)


@contextlib.asynccontextmanager
async def running(folder: Path, upstream_port: int = 53) -> AsyncIterator[Servers]:
    made = Servers(folder, upstream_port)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        lives = [tasks.create_task(made.forwarder.run()), tasks.create_task(made.tasks.run())]
        await settle()
        try:
            yield made
        finally:
            for life in lives:
                life.cancel()
            await made.tasks.close()


async def ask(namespace: TaskNamespace, name: str, *, tcp: bool = False) -> list[str]:
    """Ask in a namespace as a resolver does."""
    packet = question(name)
    if tcp:
        reader, writer = await asyncio.open_connection(TASK_NAME_SERVER, namespace.port)
        writer.write(len(packet).to_bytes(2, "big") + packet)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        writer.close()
        await writer.wait_closed()
        return told(answer)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((TASK_NAME_SERVER, namespace.port))
        sock.send(packet)
        return told(await asyncio.get_running_loop().sock_recv(sock, 4096))


def is_free(namespace: TaskNamespace) -> bool:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            for sock in (tcp, udp):
                sock.bind((TASK_NAME_SERVER, namespace.port))
        except OSError:
            return False
        return True


async def test_who_asks_is_known_by_the_socket(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        inside, outsider = it.namespace("t1"), it.namespace("t2")
        await it.serve(inside, outsider)
        assert it.served == [TaskServed(task_id="t1"), TaskServed(task_id="t2")]
        assert await ask(inside, "web") == await ask(inside, "web", tcp=True) == ["10.1.0.2"]
        assert await ask(outsider, "web.swarm") == await ask(outsider, "web", tcp=True) == ["127.0.0.2"]
        assert it.tasks.counters()["noerror"] == 4


async def test_a_task_follows_its_neighbour_row_and_what_the_worker_says(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        told_of, with_row = it.namespace("t2", networks=("net1",)), it.namespace("t1")
        await it.serve(told_of, with_row)
        assert await ask(told_of, "web") == await ask(with_row, "web") == ["10.1.0.2"]
        it.apply(EndpointsUpdate(revision=2, removed_neighbours=("t1",)))
        assert await ask(with_row, "web") == ["127.0.0.2"]
        assert await ask(told_of, "web") == ["10.1.0.2"]
        it.apply(EndpointsUpdate(revision=3, services=(shared("web", {"net1": "10.1.0.99"}),)))
        assert await ask(told_of, "web") == ["10.1.0.99"]
        assert it.tasks.counters()["noerror"] == 5, "of scopes that are no more, too"


async def test_what_is_forgotten_replaced_or_gone_is_closed(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        one, two, three = (it.namespace(f"t{n}") for n in (1, 2, 3))
        await it.serve(one, two, three)
        it.tasks.forget("t1")
        await settle()
        assert is_free(one)
        it.tasks.replace([three])
        await settle()
        assert is_free(two)
        del it.namespaces.there[Path(three.netns)]
        await it.clock.advance(LOOK_S)
        assert is_free(three)
        assert (it.tasks.wanted, it.lost) == ((), 1)
        assert it.served[-1].problem


async def test_a_namespace_made_anew_is_served_anew_and_a_repetition_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        namespace = it.namespace()
        await it.serve(namespace)
        await it.serve(namespace)
        assert it.served == [TaskServed(task_id="t1")] * 2
        assert len(it.namespaces.entered) == 1
        it.namespaces.there[Path(namespace.netns)] = 99
        await it.clock.advance(LOOK_S)
        assert len(it.namespaces.entered) == 2
        assert await ask(namespace, "web") == ["10.1.0.2"]


async def test_what_cannot_be_opened_is_said_and_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        namespace = it.namespace()
        it.namespaces.refusing = SwarmError(Code.PERMISSION_DENIED, "this process is not root")
        await it.serve(namespace)
        assert it.served == [TaskServed(task_id="t1", problem="this process is not root")]
        it.namespaces.refusing = None
        await it.clock.advance(LOOK_S)
        assert it.served[-1] == TaskServed(task_id="t1")
        assert await ask(namespace, "web") == ["10.1.0.2"]


async def test_a_port_that_the_task_holds_itself_is_said(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        namespace = it.namespace()
        with socket.socket(type=socket.SOCK_DGRAM) as taken:
            taken.bind((TASK_NAME_SERVER, namespace.port))
            await it.serve(namespace)
        assert "another process holds it" in it.served[0].problem


async def test_outside_names_go_to_the_machines_servers_the_tasks_own_or_nowhere(tmp_path: Path) -> None:
    port = free_port()
    upstreams = {
        MACHINES: FakeUpstream(lambda packet, _: [reply(packet, "192.0.2.1")]),
        OWN: FakeUpstream(lambda packet, _: [reply(packet, "192.0.2.2")]),
    }
    async with serving(upstreams, port), running(tmp_path, port) as it:
        plain, own, closed = it.namespace("t1"), it.namespace("t2", servers=(OWN,)), it.namespace("t3", forward=False)
        await it.serve(plain, own, closed)
        entered = len(it.namespaces.entered)
        for tcp in (False, True):
            assert await ask(plain, "example.com", tcp=tcp) == ["192.0.2.1"]
            assert len(it.namespaces.entered) == entered + tcp
            assert await ask(own, "example.com", tcp=tcp) == ["192.0.2.2"]
            assert len(it.namespaces.entered) == entered + 1 + tcp, "a task's own servers are asked from inside"
            assert await ask(closed, "example.com", tcp=tcp) == ["REFUSED"]
        assert await ask(plain, "secret.swarm") == ["NXDOMAIN"]
        assert await ask(plain, "tasks.web.swarm") == ["10.1.0.11"]
        assert {name for upstream in upstreams.values() for name, _ in upstream.asked} == {"example.com."}
        assert it.tasks.counters()["forwarded"] == 4


async def test_silence_outside_is_servfail_and_does_not_hold_up_other_questions(tmp_path: Path) -> None:
    port = free_port()
    async with serving({MACHINES: FakeUpstream(lambda *_: [])}, port), running(tmp_path, port) as it:
        namespace = it.namespace()
        await it.serve(namespace)
        reader, writer = await asyncio.open_connection(TASK_NAME_SERVER, namespace.port)
        for number, name in enumerate(("example.com", "web"), 1):
            packet = question(name, number=number)
            writer.write(len(packet).to_bytes(2, "big") + packet)
        answers = []
        for _ in range(2):
            size = int.from_bytes(await reader.readexactly(2), "big")
            answers.append(dnslib.DNSRecord.parse(await reader.readexactly(size)))
        assert [a.header.id for a in answers] == [2, 1]
        assert answers[1].header.rcode == dnslib.RCODE.SERVFAIL
        writer.close()
        await writer.wait_closed()


async def test_a_task_that_goes_takes_its_questions_along(tmp_path: Path) -> None:
    port = free_port()
    async with serving({OWN: FakeUpstream(lambda *_: [])}, port), running(tmp_path, port) as it:
        namespace = it.namespace(servers=(OWN,))
        await it.serve(namespace)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(question("example.com"), (TASK_NAME_SERVER, namespace.port))
            await settle()
            it.tasks.forget("t1")
            await settle()
            assert is_free(namespace)
