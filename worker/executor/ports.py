"""Host ports: free ones for the tasks of this node, distinct among all workers on the machine.

Ports are taken in blocks. A block belongs to the worker that holds an abstract UNIX socket named after it, which the
kernel frees with the process, so that two workers never hand out the same port between the look and the task's bind.
Within a block the cursor goes round: a port that was just freed may still be in some balancer's list for a moment.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.endpoints import EVERY_ADDRESS, HostPort, PublishMode, ServicePort, Transport
from swarmpy.model.states import word

FIRST_PORT: Final = 20000
LAST_PORT: Final = 32000
BLOCK: Final = 100
QUARANTINE_S: Final = 10.0
_Place = tuple[Transport, str, int]
_KIND: Final = {Transport.TCP: socket.SOCK_STREAM, Transport.UDP: socket.SOCK_DGRAM}


class PortPool:
    """The host ports of one worker's tasks. `close()` gives the blocks back."""

    def __init__(
        self,
        address: str,
        *,
        clock: Clock,
        rng: random.Random,
        ephemeral: range,
        namespace: str = "swarmpy",
    ) -> None:
        """
        Args:
            address: the node's data address, where tasks are reached.
            ephemeral: the kernel's own ports (`ip_local_port_range`), which connections take at any time.
            namespace: prefix of the sockets that stand for blocks.
        """
        self._address = address
        self._clock = clock
        self._namespace = namespace
        free = [b for b in _blocks() if b.stop <= ephemeral.start or ephemeral.stop <= b.start] or _blocks()
        rng.shuffle(free)
        self._unclaimed = deque(free)
        self._claims: list[socket.socket] = []
        self._ports: deque[int] = deque()
        self._held: set[_Place] = set()
        self._freed_s: dict[int, float] = {}

    def pick(self, ports: Iterable[ServicePort]) -> tuple[HostPort, ...]:
        """Return a free host port for each target, and hold it; one target has one number on TCP and UDP.

        A port published in mode host is on the address that it was asked for, and keeps its number.

        Raises:
            SwarmError: UNAVAILABLE, another task still has a port published in mode host; FAILED_PRECONDITION, it
                cannot be had; RESOURCE_EXHAUSTED, none is left.
        """
        wanted: dict[int, list[ServicePort]] = {}
        for port in ports:
            wanted.setdefault(port.target, []).append(port)
        picked: list[HostPort] = []
        try:
            for same in wanted.values():
                picked += self._pick_target(same)
        except SwarmError:
            self.release(picked)
            raise
        return tuple(picked)

    def hold(self, ports: Iterable[HostPort]) -> None:
        """Keep ports that a former worker gave to tasks which still run."""
        self._held.update(map(_place, ports))

    def holds(self, number: int) -> bool:
        """Whether a task has this number."""
        return any(number == held for _, _, held in self._held)

    def release(self, ports: Iterable[HostPort]) -> None:
        """Give ports back; they are not handed out again for a while."""
        now_s = self._clock.monotonic()
        for port in ports:
            if _place(port) in self._held:
                self._held.discard(_place(port))
                self._freed_s[port.port] = now_s

    def close(self) -> None:
        for claim in self._claims:
            claim.close()
        self._claims.clear()

    def _pick_target(self, ports: Sequence[ServicePort]) -> list[HostPort]:
        fixed = max(_fixed(port) for port in ports)
        if fixed:
            return self._take_all([(port, _fixed(port) or fixed) for port in ports])
        number = self._free_number(ports)
        found = [HostPort(target=p.target, port=number, transport=p.transport, address=p.address) for p in ports]
        self.hold(found)
        return found

    def _take_all(self, ports: Iterable[tuple[ServicePort, int]]) -> list[HostPort]:
        taken: list[HostPort] = []
        try:
            for port, number in ports:
                taken.append(self._take(port, number))
        except SwarmError:
            self.release(taken)
            raise
        return taken

    def _take(self, port: ServicePort, number: int) -> HostPort:
        taken = HostPort(target=port.target, port=number, transport=port.transport, address=port.address)
        where = f"port {number}/{word(port.transport)} on {port.address or self._address}"
        if any(self._meets(_place(taken), held) for held in self._held):
            raise SwarmError(Code.UNAVAILABLE, f"{where} is published in mode host, and another task here still has it")
        try:
            self._probe(number, port.transport, port.address or self._address, again=True)
        except OSError as error:
            raise precondition(f"{where} is published in mode host, and {_why_not(error)}") from error
        self.hold((taken,))
        return taken

    def _meets(self, one: _Place, other: _Place) -> bool:
        own, others = one[1] or self._address, other[1] or self._address
        return (one[0], one[2]) == (other[0], other[2]) and (own == others or EVERY_ADDRESS in (own, others))

    def _free_number(self, ports: Iterable[ServicePort]) -> int:
        places = {(port.transport, address) for port in ports for address in (self._address, EVERY_ADDRESS)}
        places.update((port.transport, port.address) for port in ports if port.address)
        for number in self._candidates():
            if self._is_free(number, places):
                return number
        raise SwarmError(
            Code.RESOURCE_EXHAUSTED,
            f"no host port is free between {FIRST_PORT} and {LAST_PORT} on {self._address}; stop some tasks",
        )

    def _candidates(self) -> Iterable[int]:
        now_s = self._clock.monotonic()
        held = {number for _, _, number in self._held}
        while True:
            for _ in range(len(self._ports)):
                number = self._ports[0]
                self._ports.rotate(-1)
                if number not in held and now_s - self._freed_s.get(number, -QUARANTINE_S) >= QUARANTINE_S:
                    yield number
            if not self._claim_block():
                return

    def _claim_block(self) -> bool:
        """Take a block that no other worker on this machine has."""
        while self._unclaimed:
            block = self._unclaimed.popleft()
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0{self._namespace}/ports/{block.start}")
            except OSError:
                claim.close()  # another worker's
                continue
            self._claims.append(claim)
            self._ports.extendleft(reversed(block))
            return True
        return False

    def _is_free(self, number: int, places: Iterable[tuple[Transport, str]]) -> bool:
        """Try to bind all that the task may use: its address, and the wildcard."""
        try:
            for transport, address in places:
                self._probe(number, transport, address)
        except OSError:
            return False
        return True

    def _probe(self, number: int, transport: Transport, address: str, *, again: bool = False) -> None:
        """Bind a port and let go of it; with `again` also where connections of a former listener are ending."""
        with socket.socket(socket.AF_INET, _KIND[transport]) as probe:
            if again and transport is Transport.TCP:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, number))


def _fixed(port: ServicePort) -> int:
    """Return the number that the port must have, 0 for any."""
    return port.published if port.mode is PublishMode.HOST else 0


def _place(port: HostPort) -> _Place:
    return port.transport, port.address, port.port


def _why_not(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program has it: stop that, or choose another port"
        case errno.EADDRNOTAVAIL:
            return "this node does not have that address: constrain the service to nodes that have it"
        case errno.EACCES | errno.EPERM:
            return "it may not be bound: ports below 1024 need root or CAP_NET_BIND_SERVICE"
        case _:
            return f"it cannot be bound: {error.strerror}"


def _blocks() -> list[range]:
    return [range(first, first + BLOCK) for first in range(FIRST_PORT, LAST_PORT, BLOCK)]


def ephemeral_range(text: str) -> range:
    """Return the ports in the text of `/proc/sys/net/ipv4/ip_local_port_range`; none if it makes no sense."""
    with contextlib.suppress(ValueError):
        first, last = (int(word) for word in text.split())
        return range(first, last + 1)
    return range(0)
