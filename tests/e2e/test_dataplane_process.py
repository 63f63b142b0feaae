"""The real data plane process: alone, killed and started again, and below a real supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import dnslib
import pytest

from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import ENCODER, AppProtocol, EndpointsUpdate, ServicePort
from tests.support.balancer import Peers, hang_up
from tests.support.dataplane import service, task
from tests.support.http_peers import read_reply, serving
from tests.support.node_process import NodeProcess
from worker.dataplane.client import DataPlaneClient
from worker.dataplane.protocol import Applied, Hello

pytestmark = pytest.mark.e2e
DEADLINE_S = 20.0
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
ADDRESS = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((ADDRESS, 0))
        udp.bind(tcp.getsockname())
        number: int = tcp.getsockname()[1]
        return number


class Process:
    """A data plane process in a state directory of its own, whose ports it binds itself."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.dns_port = free_port()
        self.control = state / "run" / "dataplane.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "worker.dataplane", "--state-dir", str(self.state), "--addr", ADDRESS]
        self._process = subprocess.Popen([*command, "--dns-port", str(self.dns_port)], stderr=subprocess.PIPE)
        return self._process

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, or wait for an end of its own accord; return the exit code."""
        assert self._process is not None
        if number is not None:
            self._process.send_signal(number)
        code = self._process.wait(DEADLINE_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None
        return code

    @property
    def running(self) -> bool:
        return self._process is not None


@pytest.fixture
def process() -> Iterator[Process]:
    # Not pytest's directory: its path may be too long for a UNIX socket.
    with tempfile.TemporaryDirectory(prefix="swarmpy-dp-") as folder:
        made = Process(Path(folder))
        yield made
        if made.running:
            made.end(signal.SIGKILL)


async def eventually(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline_s, "it did not come true"
        await asyncio.sleep(0.02)


async def connected(control: Path) -> DataPlaneClient:
    """Connect, waiting for the process to come up, and for its VIPs."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(SwarmError):
            return await DataPlaneClient.connect(control, node_id="node", cluster_id="cluster")
        assert time.monotonic() < deadline_s, "the data plane does not come up"
        await asyncio.sleep(0.02)


async def applied(client: DataPlaneClient, update: EndpointsUpdate) -> Hello:
    """Send an update; return the Hello with VIPs once the update is in force."""
    await client.send_endpoints(ENCODER.encode(update))
    done = False
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(client.events()) as events:
        while not (done and client.hello and client.hello.vip_prefix and client.hello.dns_port):
            done = await anext(events) == Applied(revision=update.revision) or done
    assert client.hello is not None
    return client.hello


def ask(dns_port: int, name: str, qtype: str = "A") -> list[str]:
    """Ask until there is an answer; return its records."""
    query = bytes(dnslib.DNSRecord.question(name, qtype).pack())
    deadline_s = time.monotonic() + DEADLINE_S
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect((ADDRESS, dns_port))
        while True:
            with contextlib.suppress(OSError):
                sock.send(query)
                return [str(rr.rdata) for rr in dnslib.DNSRecord.parse(sock.recv(4096)).rr]
            assert time.monotonic() < deadline_s, "DNS does not answer"


def ask_tcp(dns_port: int, name: str, *, count: int) -> list[str]:
    """Send `count` queries at once over TCP; return the first record of each answer, in order."""
    queries = [bytes(dnslib.DNSRecord.question(name).pack()) for _ in range(count)]
    with socket.create_connection((ADDRESS, dns_port), DEADLINE_S) as sock, sock.makefile("rb") as stream:
        sock.sendall(b"".join(len(query).to_bytes(2, "big") + query for query in queries))
        answers = [stream.read(int.from_bytes(stream.read(2), "big")) for _ in queries]
    assert [answer[:2] for answer in answers] == [query[:2] for query in queries]
    return [str(dnslib.DNSRecord.parse(answer).rr[0].rdata) for answer in answers]


@contextlib.asynccontextmanager
async def backend(text: bytes) -> AsyncIterator[int]:
    """Serve `text` to whoever connects; give the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, ADDRESS, 0, backlog=1024)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def listening(port: int) -> None:
    """Return once a port accepts."""

    async def accepts() -> bool:
        try:
            _, writer = await asyncio.open_connection(ADDRESS, port)
        except OSError:
            return False
        await hang_up(writer)
        return True

    deadline_s = time.monotonic() + DEADLINE_S
    while not await accepts():
        assert time.monotonic() < deadline_s, f"nobody listens on {ADDRESS}:{port}"
        await asyncio.sleep(0.02)


async def fetch(address: str, port: int) -> bytes:
    """Connect until that works, and return what is served."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(OSError):
            return await fetch_once(address, port)
        assert time.monotonic() < deadline_s, f"nobody listens on {address}:{port}"
        await asyncio.sleep(0.02)


async def fetch_once(address: str, port: int) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def web(
    published: int, host_port: int, *, revision: int = 5, protocol: AppProtocol = AppProtocol.TCP
) -> EndpointsUpdate:
    port = ServicePort(target=8088, published=published, name="http", app_protocol=protocol)
    return EndpointsUpdate(
        revision=revision,
        complete=True,
        services=(service("web", port, vip=7),),
        backends=(task("t1", "web", (8088, host_port), slot=1, address=ADDRESS),),
    )


async def test_a_killed_data_plane_serves_from_disk_before_a_worker_comes(process: Process) -> None:
    published = free_port()
    process.start()
    async with backend(b"hello") as host_port:
        client = await connected(process.control)
        hello = await applied(client, web(published, host_port))
        assert hello.dns_port == process.dns_port
        vip = f"{hello.vip_prefix}.0.7"
        assert ask(process.dns_port, "web.swarm") == [vip]
        assert ask(process.dns_port, "_http._tcp.web.swarm", "SRV") == [f"0 0 {host_port} 1.web.swarm."]
        assert ask_tcp(process.dns_port, "web.swarm", count=300) == [vip] * 300
        assert await fetch(ADDRESS, published) == await fetch(vip, 8088) == b"hello"
        saved = process.state / "dataplane" / "endpoints.msgpack"
        await eventually(lambda: hello.vip_prefix.encode() in saved.read_bytes() and b"t1" in saved.read_bytes())
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
        await client.close()
        process.start()
        assert ask(process.dns_port, "tasks.web.swarm") == [ADDRESS]
        assert await fetch(ADDRESS, published) == await fetch(vip, 8088) == b"hello"
        assert ask(process.dns_port, "web.swarm") == [vip]
        client = await connected(process.control)
        assert client.hello is not None
        assert (client.hello.revision, client.hello.vip_prefix) == (5, hello.vip_prefix)
        await client.close()
    assert process.end(signal.SIGTERM) == 0


async def test_updates_take_effect_and_are_counted(process: Process) -> None:
    published = free_port()
    process.start()
    async with backend(b"one") as first, backend(b"two") as second:
        client = await connected(process.control)
        await applied(client, web(published, first))
        assert await fetch(ADDRESS, published) == b"one"
        replacing = EndpointsUpdate(
            revision=6,
            backends=(task("t2", "web", (8088, second), slot=1, address=ADDRESS),),
            removed_backends=("t1",),
        )
        await applied(client, replacing)
        assert {await fetch_once(ADDRESS, published) for _ in range(5)} == {b"two"}
        assert ask(process.dns_port, "t1.web.swarm") == []

        async def listen() -> None:
            async for _ in client.events():
                pass

        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listen())
            counters = await client.counters()
            listening.cancel()
        opened = {row.task_id: row.connections for row in counters.balancer if row.task_id}
        assert opened["t2"] == 5
        assert counters.dns["nxdomain"] == 1
        await client.close()
    assert process.end(signal.SIGTERM) == 0


def test_a_start_that_cannot_succeed_says_why(process: Process) -> None:
    process.start()
    assert ask(process.dns_port, "swarm") == [ADDRESS]
    second = Process(process.state)
    second.start()
    assert second.end() == 75
    second.state = process.state / ("d" * 100)
    second.start()
    assert second.end() == 78
    assert "another data plane runs" in (process.state / "run" / "dataplane.error").read_text()


@contextlib.asynccontextmanager
async def load(address: str, port: int, wanted: bytes) -> AsyncIterator[list[object]]:
    """Keep connecting while the context lasts; give what went wrong."""
    wrong: list[object] = []
    served = 0

    async def client() -> None:
        nonlocal served
        while not done.is_set():
            try:
                got = await fetch_once(address, port)
            except OSError as error:
                wrong.append(error)
            else:
                served += 1
                if got != wanted:
                    wrong.append(got)

    done = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(client())
        try:
            yield wrong
        finally:
            done.set()
    assert served > 0


async def test_restarts_below_the_supervisor_refuse_nobody() -> None:
    dns_port, published = free_port(), free_port()
    command = [sys.executable, "-P", "-m", "worker.dataplane", "--dns-port", str(dns_port)]
    with NodeProcess(dataplane=command) as node:
        await asyncio.to_thread(node.start)
        control = node.state / "run" / "dataplane.sock"
        async with backend(b"hello") as host_port:
            client = await connected(control)
            await applied(client, web(published, host_port))
            assert await fetch(ADDRESS, published) == b"hello"
            async with load(ADDRESS, published, b"hello") as wrong:
                await restarted(node)
                # A new supervisor has no sockets until the data plane gives it its own.
                await asyncio.to_thread(node.kill, "supervisor")
                await asyncio.to_thread(node.start)
                await restarted(node)
            assert wrong == []
            assert ask(dns_port, "tasks.web.swarm") == [ADDRESS]
            await client.close()


async def test_a_restart_cuts_no_request_of_clients_that_keep_their_connections() -> None:
    """Every request is a POST, which nobody may repeat, and clients leave when an answer tells them to."""
    dns_port, published = free_port(), free_port()
    command = [sys.executable, "-P", "-m", "worker.dataplane", "--dns-port", str(dns_port)]
    done = asyncio.Event()
    answered, told = 0, 0

    async def client() -> None:
        nonlocal answered, told
        while not done.is_set():
            reader, writer = await asyncio.open_connection(ADDRESS, published)
            last = False
            while not last and not done.is_set():
                await asyncio.sleep(0.01)  # an idle moment, so that the stop may come in one
                writer.write(POST)
                reply = await read_reply(reader, deadline_s=DEADLINE_S)
                assert reply.body == b"t 2"
                answered += 1
                last = reply.header("connection") == "close"
                told += last
            await hang_up(writer)

    async def more(count: int) -> None:
        goal = answered + count
        await eventually(lambda: answered >= goal)

    with NodeProcess(dataplane=command) as node:
        await asyncio.to_thread(node.start)
        control = node.state / "run" / "dataplane.sock"
        async with contextlib.aclosing(Peers()) as peers, asyncio.timeout(4 * DEADLINE_S):
            host_port = (await peers.start("t", serving(b"t"))).ports[0].port
            worker = await connected(control)
            await applied(worker, web(published, host_port, protocol=AppProtocol.HTTP))
            await listening(published)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(8):
                    tasks.create_task(client())
                for _ in range(2):
                    await more(100)
                    await restarted(node)
                await more(100)
                done.set()
            assert told >= 16
            await worker.close()


async def restarted(node: NodeProcess) -> None:
    """Have the supervisor restart the data plane, and wait for the new one."""
    before = node.pid("dataplane")
    with node.supervisor() as supervisor:
        supervisor.restart("dataplane")
    await eventually(lambda: pid_of(node) not in (0, before))
    await (await connected(node.state / "run" / "dataplane.sock")).close()


def pid_of(node: NodeProcess) -> int:
    """Return the data plane's process id, 0 while there is none."""
    try:
        return node.pid("dataplane")
    except FileNotFoundError:
        return 0
