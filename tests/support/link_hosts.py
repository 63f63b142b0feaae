"""Hosts for links: network namespaces with a bridge between them as the wire, and talk between the tasks on them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import select
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import pytest

from worker.network.link.ability import why_unsupported
from worker.network.link.links import Links
from worker.network.link.namespace import open_in
from worker.network.link.place import Place

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE_S: Final = 10.0
needs_root = pytest.mark.skipif(bool(why_unsupported()), reason=why_unsupported() or "this process can make links")


@dataclass(frozen=True)
class Host:
    """A namespace that stands for a machine, and the links of the one node on it."""

    namespace: Path
    place: Place
    links: Links

    def run(self, work: Callable[[], T]) -> T:
        """Do `work` as a process of this host would."""
        return open_in(self.namespace, work)

    def do(self, method: Callable[Concatenate[Links, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of this host's links where they belong: `host.do(Links.gateway)`."""
        return self.run(functools.partial(method, self.links, *args, **kwargs))

    def again(self) -> Host:
        """Return the host as a restarted worker sees it."""
        self.links.close()
        return Host(self.namespace, self.place, self.run(lambda: Links(self.place, clock=time.monotonic)))

    def count(self) -> tuple[int, int, int]:
        """Return how many links the host has, and how many pins and mounts the node has."""
        shown = self.run(lambda: len(Path("/proc/thread-self/net/dev").read_text().splitlines()) - 2)
        pins = len(list(self.place.pins.iterdir())) if self.place.pins.exists() else 0
        mounts = Path("/proc/self/mountinfo").read_text().count(f" {self.place.pins}/")
        return shown, pins, mounts


class Hosts:
    """Makes hosts whose first link is `eth0`, on one bridge; a context that leaves nothing behind."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = f"swarmpy-{uuid.uuid4().hex[:8]}"
        self._hub = f"{self._name}-hub"
        self._numbers = itertools.count(1)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Hosts:
        self._namespace(self._hub)
        ip(self._hub, "link add wire type bridge mcast_snooping 0", "link set wire up")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, *, mtu: int = 1500) -> Host:
        """Return a new host with the address 10.83.0.<its number>."""
        number = next(self._numbers)
        name = f"{self._name}-{number}"
        namespace = self._namespace(name)
        port = f"node{number}"
        ip(
            self._hub,
            f"link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}",
            f"link set {port} master wire up",
        )
        address = IPv4Address(f"10.83.0.{number}")
        ip(name, f"address add {address}/24 dev eth0", "link set eth0 up")
        return self.node(namespace, address)

    def node(self, namespace: Path, address: IPv4Address) -> Host:
        """Return a node in a namespace that there is already."""
        key = uuid.uuid4().hex[:12]
        place = Place(self._directory / key, key, address)
        links = open_in(namespace, lambda: Links(place, clock=time.monotonic))
        self._stack.callback(open_in, namespace, lambda: _clear(place))
        self._stack.callback(links.close)
        return Host(namespace, place, links)

    def plug(self, number: int, *, into: bool) -> None:
        """Pull a host's cable, or put it back."""
        ip(self._hub, f"link set node{number} {'up' if into else 'down'}")

    def _namespace(self, name: str) -> Path:
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=True)
        ip(name, "link set lo up")
        return Path("/run/netns", name)


def _clear(place: Place) -> None:
    with Links(place, clock=time.monotonic) as links:
        links.clear()


def ip(namespace: str, *commands: str) -> None:
    batch = "".join(f"{command}\n" for command in commands)
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=batch, text=True, check=True)


@contextlib.contextmanager
def listening(namespace: Path, address: object, port: int = 80) -> Iterator[socket.socket]:
    """Yield a TCP socket that hears in a namespace."""

    def make() -> socket.socket:
        return socket.create_server((str(address), port))

    with open_in(namespace, make) as server:
        server.settimeout(DEADLINE_S)
        yield server


def connect(namespace: Path, address: object, port: int = 80, *, timeout_s: float = DEADLINE_S) -> socket.socket:
    """Return a TCP connection out of a namespace."""
    sock = open_in(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    try:
        sock.settimeout(timeout_s)
        sock.connect((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def reaches(namespace: Path, other: Path, address: object, port: int = 80, *, timeout_s: float = DEADLINE_S) -> bool:
    """Tell whether a byte gets from a namespace to another and comes back, over TCP."""
    with listening(other, address, port) as server:
        try:
            client = connect(namespace, address, port, timeout_s=timeout_s)
        except OSError:
            return False
        with client:
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(DEADLINE_S)
                client.sendall(b"?")
                assert accepted.recv(1) == b"?"
                accepted.sendall(b"!")
                return client.recv(1) == b"!"


def datagram(sender: Path, receiver: Path, address: object, size: int) -> bytes:
    """Send `size` bytes in one UDP packet that may not be cut, until one arrives; return what does.

    OSError: EMSGSIZE, it is larger than the link.
    """
    with (
        open_in(receiver, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as there,
        open_in(sender, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as here,
    ):
        there.bind((str(address), 5000))
        here.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO

        def sent() -> bool:
            # A wire that was plugged in just now may lose the first one.
            here.sendto(os.urandom(size), (str(address), 5000))
            return heard(there, 0.2)

        eventually(sent, f"no packet of {size} bytes arrives")
        return there.recv(1 << 16)


def heard(sock: socket.socket, timeout_s: float) -> bool:
    """Tell whether something comes within a time."""
    return bool(select.select([sock], [], [], timeout_s)[0])


def eventually(check: Callable[[], bool], what: str) -> None:
    """Wait until `check` holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
