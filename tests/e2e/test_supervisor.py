"""The supervisor's socket, the sockets it holds, and how it refuses to start."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmpy.daemon.client import AsyncSupervisorClient, SupervisorClient, socket_path
from swarmpy.errors import Code, SwarmError
from tests.support.node_process import FAKE, Lines, NodeProcess, until

pytestmark = pytest.mark.e2e

LOCAL = "127.0.0.1"


@pytest.fixture
def node() -> Iterator[NodeProcess]:
    with NodeProcess() as node:
        yield node.start()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((LOCAL, 0))
        return int(sock.getsockname()[1])


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_the_same_bind_returns_the_same_socket_until_it_is_unbound(node: NodeProcess) -> None:
    port = free_port()
    with node.supervisor() as client:
        with client.bind("tcp", LOCAL, port) as one, client.bind("tcp", LOCAL, port) as two:
            assert inode(one) == inode(two)
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            assert one.gettimeout() is None or one.gettimeout() == 0.0
            assert not os.get_inheritable(one.fileno())
        # Nobody but the supervisor has it now, and still a connection is taken.
        with socket.create_connection((LOCAL, port), 5) as connection:
            connection.sendall(b"early")
            with client.bind("tcp", LOCAL, port) as again:
                again.settimeout(5)
                accepted, _ = again.accept()
                with accepted:
                    accepted.settimeout(5)
                    assert accepted.recv(5) == b"early"
        client.unbind("tcp", LOCAL, port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOCAL, port), 5)
        with client.bind("udp", LOCAL, free_port(socket.SOCK_DGRAM)) as datagrams:
            assert datagrams.type == socket.SOCK_DGRAM


def test_a_bind_that_fails_says_why(node: NodeProcess) -> None:
    with node.supervisor() as client, socket.socket() as taken:
        taken.bind((LOCAL, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SwarmError) as caught:
            client.bind("tcp", LOCAL, port)
        assert caught.value.code is Code.ALREADY_EXISTS
        assert str(caught.value) == f"port {port} on {LOCAL} is used by another program (tcp)"
        with pytest.raises(SwarmError, match="the address is not on this machine") as caught:
            client.bind("tcp", "192.0.2.1", port)
        assert caught.value.code is Code.UNAVAILABLE
        for wrong in (("sctp", LOCAL, 80), ("tcp", "localhost", 80), ("tcp", LOCAL, 0), ("tcp", LOCAL, 65536)):
            with pytest.raises(SwarmError) as caught:
                client.bind(*wrong)
            assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_data_plane_gives_its_sockets_to_a_new_supervisor(node: NodeProcess) -> None:
    port = free_port()
    with node.supervisor() as client:
        sock = client.bind("tcp", LOCAL, port)
    with sock:
        node.kill("supervisor")
        node.start()
        with node.supervisor() as client:
            with pytest.raises(SwarmError, match="is used by another program"):
                client.bind("tcp", LOCAL, port)
            with pytest.raises(SwarmError, match="is not the tcp socket of"):
                client.give("tcp", LOCAL, port + 1 if port < 65535 else 1, sock)
            with pytest.raises(SwarmError, match="must come with a descriptor"):
                client.call("give", transport="tcp", address=LOCAL, port=port)
            client.give("tcp", LOCAL, port, sock)
            client.give("tcp", LOCAL, port, sock)
            with client.bind("tcp", LOCAL, port) as same:
                assert inode(same) == inode(sock)
            assert client.status()["sockets"] == 1


async def test_the_asyncio_client(node: NodeProcess) -> None:
    client = AsyncSupervisorClient(socket_path(node.state))
    port = free_port()
    sock = await client.bind("tcp", LOCAL, port)
    assert sock.gettimeout() == 0.0
    node.kill("supervisor")
    node.start()
    with pytest.raises(SwarmError) as caught:
        await client.status()
    assert caught.value.retryable
    await client.give("tcp", LOCAL, port, sock)  # connected anew
    assert (await client.status())["sockets"] == 1
    await client.unbind("tcp", LOCAL, port)
    with pytest.raises(SwarmError, match="no operation"):
        await client.call("dance")
    assert await client.exits() == []
    await client.set_role(manager=True)
    sock.close()
    client.close()


@pytest.mark.parametrize("name", ["supervisor", "taskhost"])
def test_garbage_is_answered_and_harms_nothing(node: NodeProcess, name: str) -> None:
    path = node.state / "run" / f"{name}.sock"
    pid = node.pid(name)
    garbage = [
        b"\n",
        b"garbage\n",
        b"\xff\xfe\0\n",
        b"[]\n",
        b'"op"\n',
        b"{}\n",
        b'{"op":1}\n',
        b'{"op":"nosuch","seq":{"a":[1]}}\n',
        b'{"op":"start"}\n{"op":"bind"}\n',
        b"[" * 100_000 + b"\n",
        b'{"op":' + b"9" * 10_000 + b"}\n",
        b'{"op":"bind","transport":[],"address":{},"port":"x"}\n',
        b'{"op":"signal","id":5}\n{"op":"exec","argv":"ls","timeout_s":NaN}\n',
        b'{"op":"restart","process":"init"}\n{"op":"set_role","manager":1}\n{"op":"forget"}\n',
    ]
    with Lines(path) as lines:
        lines.sock.sendall(b"".join(garbage))
        # Each line but the empty one is answered by a sentence, in order.
        for _ in range(sum(chunk.count(b"\n") for chunk in garbage) - 1):
            answer = lines.receive()
            assert answer["ok"] is False
            assert answer["error"]
            assert answer["code"] != "internal", answer
    with Lines(path) as lines:
        with contextlib.suppress(BrokenPipeError):  # it may hang up before it has read all
            lines.sock.sendall(b"x" * ((1 << 20) + (1 << 16)))
        assert "longer than" in lines.receive()["error"]
        with contextlib.suppress(ConnectionResetError):  # it leaves the rest of the line unread
            assert lines.sock.recv(1) == b""
    with Lines(path) as lines:
        lines.sock.sendall(b'{"op":"li')  # and gone
    assert node.pid(name) == pid
    assert "Traceback" not in node.log()


@pytest.mark.parametrize("name", ["supervisor", "taskhost"])
def test_a_client_that_does_not_read_is_dropped(node: NodeProcess, name: str) -> None:
    op = "status" if name == "supervisor" else "list"
    for number in range(20):
        node.run_task(f"t{number}", "exit 0")
    with Lines(node.state / "run" / f"{name}.sock") as slow:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                slow.send(op=op)
        node.tasks()  # others are served meanwhile
        assert node.process("taskhost")["restarts"] == 0


def test_the_sockets_belong_to_owner_and_group(node: NodeProcess) -> None:
    for name in ("supervisor", "taskhost"):
        assert (node.state / "run" / f"{name}.sock").stat().st_mode & 0o777 == 0o660
    assert node.state.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)


def start_fails(*options: str, state: Path) -> str:
    command = [sys.executable, "-m", "swarmpy.daemon", "--state-dir", str(state), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


def test_a_start_that_cannot_be_says_why_in_one_sentence(node: NodeProcess, tmp_path: Path) -> None:
    state = node.directory / "other"
    assert start_fails(state=node.state) == (
        f"swarmpyd: the state directory {node.state} is in use by another swarmpyd, pid {node.pid('supervisor')}"
    )
    assert "too long for UNIX sockets" in start_fails(state=Path("/tmp") / ("x" * 100))
    assert start_fails(state=Path("/dev/null/x")) == (
        "swarmpyd: cannot use the state directory /dev/null/x: not a directory"
    )
    assert "--addr localhost: not an IP address" in start_fails("--addr", "localhost", state=state)
    assert "--addr 192.0.2.7: not on this machine" in start_fails("--addr", "192.0.2.7", state=state)
    assert "--addr 0.0.0.0: other nodes cannot reach this" in start_fails("--addr", "0.0.0.0", state=state)
    (state / "node.json").write_text(json.dumps({"version": 2}))
    assert "has format version 2, and this swarmpyd reads version 1 only" in start_fails(state=state)
    (state / "node.json").write_text("{")
    assert "restore it or remove it" in start_fails(state=state)
    usage = subprocess.run([*node.command(), "--nosuch"], capture_output=True, timeout=15, check=False)
    assert usage.returncode == 2


def test_it_tells_systemd() -> None:
    with NodeProcess() as node, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        path = node.directory / "notify"
        systemd.bind(str(path))
        systemd.settimeout(15)
        node.environment["NOTIFY_SOCKET"] = str(path)
        node.start()
        assert systemd.recv(100) == b"READY=1"
        environ = Path(f"/proc/{node.pid('worker')}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in environ
        with node.supervisor() as client:
            client.shutdown(tasks=True)
        assert systemd.recv(100) == b"STOPPING=1"


def test_children_hold_none_of_the_supervisors_descriptors() -> None:
    with NodeProcess(worker=FAKE) as node:
        node.start()
        with node.supervisor() as client, client.bind("tcp", LOCAL, free_port()):
            client.restart("worker")
            until(lambda: node.process("worker")["restarts"] == 1 and node.process("worker")["pid"])
        fds = Path(f"/proc/{node.pid('worker')}/fd")
        # Until it has exec'ed the shell, and that the sleep, the fork has them all.
        until(lambda: sorted(fd.name for fd in fds.iterdir()) == ["0", "1", "2"])


def test_an_unreachable_supervisor_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(SwarmError, match="does swarmpyd run") as caught:
        SupervisorClient(tmp_path / "none.sock")
    assert caught.value.code is Code.UNAVAILABLE
