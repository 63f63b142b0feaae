"""Where the nodes of a cluster are: loopback addresses of their own, or network namespaces with links to cut."""

from __future__ import annotations

import random
import socket
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from scripts.cluster.node import Place

_CLAIM_PORT: Final = 40001
# Nobody has this link-layer address: what is sent to it is lost without a word.
_NOBODY: Final = "02:00:00:00:00:00"


class Network(Protocol):
    """Gives each node of a cluster its place, by its number from 1."""

    def place(self, number: int) -> Place: ...

    def close(self) -> None:
        """Give back what the network holds of the machine."""


class Block:
    """Loopback addresses `127.a.b.1` to `.250` that no other cluster on this machine has.

    Addresses from 127.64 on are for the services' VIPs.
    """

    def __init__(self) -> None:
        # Chance only keeps parallel runs from trying the same ones: the socket is what claims.
        rng = random.SystemRandom()
        while True:
            self.prefix = f"127.{rng.randint(2, 63)}.{rng.randint(1, 254)}"
            self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._claim.bind((f"{self.prefix}.254", _CLAIM_PORT))
            except OSError:
                self._claim.close()
            else:
                return

    def place(self, number: int) -> Place:
        return Place(self.address(number))

    def address(self, number: int) -> str:
        return f"{self.prefix}.{number}"

    def close(self) -> None:
        self._claim.close()


class Localhost:
    """`127.0.0.1` and those after it, which people know, and which other programs use, too."""

    @staticmethod
    def address(number: int) -> str:
        return f"127.0.0.{number}"

    def place(self, number: int) -> Place:
        return Place(self.address(number), shared=True)

    def close(self) -> None:
        """Nothing is held."""


class Namespaces:
    """A network namespace for each node, all on one bridge in a namespace of its own. Needs root and iproute2.

    Nothing of it touches the machine's own network, which cannot reach the nodes' addresses either: a program that is
    to do so is started by `place.enter`. The nodes' UNIX sockets are files, and are reached from everywhere.
    """

    def __init__(self) -> None:
        self._name = f"swarmpy-{uuid.uuid4().hex[:8]}"
        self._hub = f"{self._name}-hub"
        self._made: list[str] = []
        self._numbers: set[int] = set()
        self._cut: set[tuple[int, int]] = set()
        try:
            self._make(self._hub)
            _ip(self._hub, "link add bridge type bridge", "link set bridge up")
        except BaseException:
            self.close()
            raise

    def place(self, number: int) -> Place:
        """Return the place of a node, which is made when it is asked for first."""
        if number not in self._numbers:
            self._connect(number)
            self._numbers.add(number)
        # Not `ip netns exec`, which would hide the control groups.
        return Place(self.address(number), ("nsenter", f"--net=/run/netns/{self._namespace(number)}"))

    def address(self, number: int) -> str:
        return f"10.83.0.{number}"

    def cut(self, one: int, other: int, *, both_ways: bool = True) -> None:
        """Lose everything that node `one` sends to `other`, and the other way about, from now on."""
        self._cut |= {(one, other), (other, one)} if both_ways else {(one, other)}
        self._apply((one, other))

    def isolate(self, number: int) -> None:
        """Cut a node off from all others."""
        for other in self._numbers - {number}:
            self.cut(number, other)

    def split(self, some: Iterable[int]) -> None:
        """Cut the nodes in two: `some`, and all the others."""
        inside = set(some)
        for one in inside:
            for other in self._numbers - inside:
                self.cut(one, other)

    def restore(self, one: int, other: int) -> None:
        """Mend the link between two nodes."""
        self._cut -= {(one, other), (other, one)}
        self._apply((one, other))

    def restore_all(self) -> None:
        for one, other in sorted(self._cut):
            self.restore(one, other)

    def close(self) -> None:
        """Remove the namespaces, and with them everything that is in them."""
        while self._made:
            subprocess.run(["ip", "netns", "delete", self._made.pop()], check=True)

    def _make(self, namespace: str) -> None:
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        self._made.append(namespace)
        _ip(namespace, "link set lo up")

    def _connect(self, number: int) -> None:
        namespace = self._namespace(number)
        self._make(namespace)
        port = f"node{number}"
        _ip(
            self._hub,
            f"link add {port} type veth peer name eth0 netns {namespace}",
            f"link set {port} master bridge up",
        )
        _ip(namespace, f"address add {self.address(number)}/24 dev eth0", "link set eth0 up")

    def _apply(self, pair: tuple[int, int]) -> None:
        for sender, receiver in (pair, pair[::-1]):
            neighbour = f"{self.address(receiver)} dev eth0"
            if (sender, receiver) in self._cut:
                _ip(self._namespace(sender), f"neighbour replace {neighbour} lladdr {_NOBODY} nud permanent")
            else:
                # One that is not there is made first: to delete it is an error otherwise.
                _ip(
                    self._namespace(sender),
                    f"neighbour replace {neighbour} lladdr {_NOBODY} nud permanent",
                    f"neighbour delete {neighbour}",
                )

    def _namespace(self, number: int) -> str:
        return f"{self._name}-{number}"


def _ip(namespace: str, *commands: str) -> None:
    """Run commands of ip(8) in a namespace. CalledProcessError: one was refused; its reason is on standard error."""
    batch = "".join(f"{command}\n" for command in commands)
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=batch, text=True, check=True)


def can_make_namespaces() -> bool:
    """Tell whether this user on this machine can."""
    name = f"swarmpy-{uuid.uuid4().hex[:8]}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
    if made:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    return made and any(Path(d, "nsenter").exists() for d in ("/usr/bin", "/bin"))
