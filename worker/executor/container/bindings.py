"""The ports of this machine that lead to containers which users started: on chosen addresses, or free ones."""

from __future__ import annotations

import errno
import socket
from typing import Final

from swarmpy.errors import SwarmError, precondition
from swarmpy.model import network
from swarmpy.model.container import PortBinding
from swarmpy.model.endpoints import HostPort, ServicePort, Transport
from swarmpy.model.states import word
from worker.assignments import Assignment
from worker.executor.ports import PortPool

EVERY_ADDRESS: Final = "0.0.0.0"
_KIND: Final = {Transport.TCP: socket.SOCK_STREAM, Transport.UDP: socket.SOCK_DGRAM}


class Bindings:
    """Which bindings are taken on this node; free numbers come from the pool of the services' tasks."""

    def __init__(self, pool: PortPool) -> None:
        self._pool = pool
        self._taken: set[tuple[Transport, str, int]] = set()

    def take(self, assignment: Assignment, held: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
        """Return the port of each binding, in their order, and hold it; those in `held` if there are any.

        On the node's own network there are none: the container listens where it likes.

        Raises:
            SwarmError: FAILED_PRECONDITION, a port is taken; RESOURCE_EXHAUSTED, none is left.
        """
        if any(joined.target in (network.HOST, network.NONE) for joined in assignment.version.task.networks):
            return ()
        if held:
            self.hold(assignment, held)
            return held
        taken: list[HostPort] = []
        try:
            taken.extend(map(self._take, assignment.bindings))
        except SwarmError:
            self.release(assignment, tuple(taken))
            raise
        return tuple(taken)

    def hold(self, assignment: Assignment, ports: tuple[HostPort, ...]) -> None:
        """Keep what a former worker gave to a container that still runs."""
        for binding, port in zip(assignment.bindings, ports, strict=False):
            if binding.port:
                self._taken.add(_place(binding))
            else:
                self._pool.hold((port,))

    def release(self, assignment: Assignment, ports: tuple[HostPort, ...]) -> None:
        for binding, port in zip(assignment.bindings, ports, strict=False):
            if binding.port:
                self._taken.discard(_place(binding))
            else:
                self._pool.release((port,))

    def _take(self, binding: PortBinding) -> HostPort:
        if not binding.port:
            return self._pool.pick((ServicePort(target=binding.target, transport=binding.transport),))[0]
        transport, address, number = _place(binding)
        for other_transport, other, other_number in self._taken:
            meets = address == other or EVERY_ADDRESS in (address, other)
            if (other_transport, other_number) == (transport, number) and meets:
                raise _allocated(binding)
        if self._pool.holds(number):
            raise _allocated(binding)
        _probe(binding)
        self._taken.add((transport, address, number))
        return HostPort(target=binding.target, port=number, transport=transport)


def _place(binding: PortBinding) -> tuple[Transport, str, int]:
    return binding.transport, binding.address or EVERY_ADDRESS, binding.port


def _probe(binding: PortBinding) -> None:
    """Try to bind the port, as a program of this machine may listen there."""
    transport, address, number = _place(binding)
    with socket.socket(socket.AF_INET, _KIND[transport]) as probe:
        if transport is Transport.TCP:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended are none
        try:
            probe.bind((address, number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _allocated(binding) from error
            raise precondition(
                f"cannot publish {word(transport)} port {number} on {address}: {error.strerror};"
                " name an address of this machine"
            ) from error


def _allocated(binding: PortBinding) -> SwarmError:
    transport, address, number = _place(binding)
    return precondition(
        f"Bind for {address}:{number} failed: {word(transport)} port {number} is already allocated;"
        " stop what has it or publish on another port"
    )
