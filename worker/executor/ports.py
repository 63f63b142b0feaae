"""Host ports: free ones for the tasks of this node, distinct among all workers on the machine.

Ports are taken in blocks. A block belongs to the worker that holds an abstract UNIX socket named after it, which the
kernel frees with the process, so that two workers never hand out the same port between the look and the task's bind.
Within a block the cursor goes round: a port that was just freed may still be in some balancer's list for a moment.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections import deque
from collections.abc import Iterable
from typing import Final

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.endpoints import HostPort, PublishMode, ServicePort, Transport

FIRST_PORT: Final = 20000
LAST_PORT: Final = 32000
BLOCK: Final = 100
QUARANTINE_S: Final = 10.0
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
        self._held: set[int] = set()
        self._freed_s: dict[int, float] = {}

    def pick(self, ports: Iterable[ServicePort]) -> tuple[HostPort, ...]:
        """Return a free host port for each target, and hold it; one target has one number on TCP and UDP.

        A port published in host mode keeps its number.

        Raises:
            SwarmError: FAILED_PRECONDITION, a port published in host mode is taken; RESOURCE_EXHAUSTED, none is left.
        """
        wanted: dict[int, dict[Transport, int]] = {}
        for port in ports:
            fixed = port.published if port.mode is PublishMode.HOST else 0
            wanted.setdefault(port.target, {})[port.transport] = fixed
        picked: list[HostPort] = []
        try:
            for target, transports in wanted.items():
                picked += self._pick_target(target, transports)
        except SwarmError:
            self.release(picked)
            raise
        return tuple(picked)

    def hold(self, ports: Iterable[HostPort]) -> None:
        """Keep ports that a former worker gave to tasks which still run."""
        self._held.update(p.port for p in ports)

    def holds(self, number: int) -> bool:
        """Whether a task has this number."""
        return number in self._held

    def release(self, ports: Iterable[HostPort]) -> None:
        """Give ports back; they are not handed out again for a while."""
        now_s = self._clock.monotonic()
        for port in ports:
            if port.port in self._held:
                self._held.discard(port.port)
                self._freed_s[port.port] = now_s

    def close(self) -> None:
        for claim in self._claims:
            claim.close()
        self._claims.clear()

    def _pick_target(self, target: int, transports: dict[Transport, int]) -> list[HostPort]:
        number = max(transports.values())
        if not number:
            number = self._free_number(transports)
        elif number in self._held or not self._is_free(number, transports):
            raise precondition(
                f"port {number} on {self._address} is taken by another program or task; it is published in host mode"
            )
        self._held.add(number)
        return [HostPort(target=target, port=number, transport=t) for t in transports]

    def _free_number(self, transports: Iterable[Transport]) -> int:
        for number in self._candidates():
            if self._is_free(number, transports):
                return number
        raise SwarmError(
            Code.RESOURCE_EXHAUSTED,
            f"no host port is free between {FIRST_PORT} and {LAST_PORT} on {self._address}; stop some tasks",
        )

    def _candidates(self) -> Iterable[int]:
        now_s = self._clock.monotonic()
        while True:
            for _ in range(len(self._ports)):
                number = self._ports[0]
                self._ports.rotate(-1)
                if number not in self._held and now_s - self._freed_s.get(number, -QUARANTINE_S) >= QUARANTINE_S:
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

    def _is_free(self, number: int, transports: Iterable[Transport]) -> bool:
        """Try to bind the data address and the wildcard, one of which the task will use."""
        for transport in transports:
            for address in (self._address, "0.0.0.0"):
                with socket.socket(socket.AF_INET, _KIND[transport]) as probe:
                    try:
                        probe.bind((address, number))
                    except OSError:
                        return False
        return True


def _blocks() -> list[range]:
    return [range(first, first + BLOCK) for first in range(FIRST_PORT, LAST_PORT, BLOCK)]


def ephemeral_range(text: str) -> range:
    """Return the ports in the text of `/proc/sys/net/ipv4/ip_local_port_range`; none if it makes no sense."""
    with contextlib.suppress(ValueError):
        first, last = (int(word) for word in text.split())
        return range(first, last + 1)
    return range(0)
