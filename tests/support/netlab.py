"""Network namespaces wired by hand, with small servers and clients in them, for tests of what the kernel does."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from worker.network.link.namespace import open_in, pin, unpin
from worker.network.nft.sock import NetfilterSocket

T = TypeVar("T")
PATIENCE_S = 5.0


def cannot() -> str:
    """Return why there can be no such namespaces here, "" if there can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = [program for program in ("ip", "nft", "nsenter") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} not found: apt-get install iproute2 nftables util-linux"
    done = subprocess.run(["unshare", "--net", "nft", "list", "ruleset"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no network namespaces with nf_tables here"


@dataclass(frozen=True)
class Space:
    """One namespace."""

    path: Path

    def run(self, *command: str, text: str = "") -> str:
        """Run a program there and return what it prints."""
        enter = ["nsenter", f"--net={self.path}", *command]
        return subprocess.run(enter, check=True, capture_output=True, text=True, input=text).stdout

    def ip(self, *lines: str) -> None:
        self.run("ip", "-batch", "-", text="\n".join(lines))

    def sysctl(self, name: str, value: int) -> None:
        path = f"/proc/sys/net/{name}"
        self.call(lambda: Path(path).write_text(str(value)))

    def call(self, make: Callable[[], T]) -> T:
        return open_in(self.path, make)

    def netfilter(self) -> NetfilterSocket:
        return self.call(NetfilterSocket.open)

    def ruleset(self) -> str:
        return self.run("nft", "list", "ruleset")

    def socket(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        made = self.call(lambda: socket.socket(socket.AF_INET, kind))
        made.settimeout(PATIENCE_S)
        return made


class Lab:
    """Namespaces that are gone when it is closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spaces: dict[str, Space] = {}
        self._stack = contextlib.ExitStack()

    def space(self, name: str) -> Space:
        """Make a namespace with its loopback up."""
        path = self._folder / name
        pin(path)
        self._stack.callback(unpin, path)
        space = self._spaces[name] = Space(path)
        space.ip("link set lo up")
        return space

    def wire(self, one: Space, one_name: str, other: Space, other_name: str) -> None:
        """Lay a cable between two namespaces, both ends up."""
        one.ip(f"link add {one_name} type veth peer name {other_name} netns {other.path}", f"link set {one_name} up")
        other.ip(f"link set {other_name} up")

    def closed(self, closing: contextlib.AbstractContextManager[T]) -> T:
        """Enter something that is left before the namespaces go."""
        return self._stack.enter_context(closing)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def tcp_server(space: Space, address: str, port: int, name: str = "") -> Iterator[list[str]]:
    """Answer each connection with the server's name and the client's address, then what it sends; list the clients."""
    clients: list[str] = []
    with space.socket() as listener, contextlib.ExitStack() as stack:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(1024)
        listener.settimeout(None)
        threads: list[threading.Thread] = []
        connections: list[socket.socket] = []

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(4096):
                    connection.sendall(data)

        def accept() -> None:
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                clients.append(peer[0])
                connection.sendall(f"{name} {peer[0]}\n".encode())
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)

        def join() -> None:
            acceptor.join()
            for connection in connections:
                with contextlib.suppress(OSError):  # it is closed already
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()

        acceptor.start()
        stack.callback(join)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield clients


@contextlib.contextmanager
def udp_server(space: Space, address: str, port: int, name: str = "") -> Iterator[list[str]]:
    """Answer each datagram with the server's name and the client's address; list the clients."""
    clients: list[str] = []
    with space.socket(socket.SOCK_DGRAM) as sock:
        sock.bind((address, port))
        sock.settimeout(None)

        def serve() -> None:
            while True:
                data, peer = sock.recvfrom(4096)
                if data == b"end":
                    return
                clients.append(peer[0])
                sock.sendto(f"{name} {peer[0]}\n".encode(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield clients
        finally:
            with space.socket(socket.SOCK_DGRAM) as ender:
                ender.sendto(b"end", (address, port))
            thread.join()


def greeting(space: Space, address: str, port: int, *, source: str = "") -> tuple[str, str]:
    """Connect; return the server's name, and the client's address as the server sees it."""
    with space.socket() as sock:
        if source:
            sock.bind((source, 0))
        sock.connect((address, port))
        name, seen = sock.makefile().readline().split(" ")
        return name, seen.strip()


def datagram(sock: socket.socket, address: str, port: int) -> tuple[str, str, str]:
    """Send a datagram; return the server's name, the client's address as it sees it, and who the answer is from."""
    sock.sendto(b"hello", (address, port))
    data, peer = sock.recvfrom(4096)
    name, seen = data.decode().split(" ")
    return name, seen.strip(), peer[0]


def ping(space: Space, address: str) -> str:
    """Send an ICMP echo request; return who the answer is from.

    Raises:
        ConnectionRefusedError: the answer was that the port is unreachable.
    """
    with space.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect((address, 0))
        request = struct.pack("!BBHHH", 8, 0, 0, 0x5350, 1)
        checksum = 0xFFFF - sum(struct.unpack("!4H", request))
        sock.send(request[:2] + struct.pack("!H", checksum) + request[4:])
        while True:
            packet, peer = sock.recvfrom(1024)
            if packet[20] == 0 and packet[24:26] == b"SP":
                return str(peer[0])
