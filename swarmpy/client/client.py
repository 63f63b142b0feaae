"""The asynchronous client."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

from swarmpy.api.v1.control_pb2_grpc import ControlStub
from swarmpy.api.v1.node_pb2_grpc import LocalNodeStub
from swarmpy.client import reach, streams
from swarmpy.client.call import DEFAULT_TIMEOUT_S, Caller
from swarmpy.client.cluster import ClusterCalls
from swarmpy.client.configs import Configs
from swarmpy.client.local import LocalNode
from swarmpy.client.networks import Networks
from swarmpy.client.nodes import Nodes
from swarmpy.client.paths import Sockets, sockets
from swarmpy.client.paths import state_dir as find_state_dir
from swarmpy.client.results import Changes, LogBatch, ObjectKind
from swarmpy.client.services import Services
from swarmpy.client.tasks import Tasks
from swarmpy.clock import Clock, SystemClock
from swarmpy.rpc.dial import unix_channel
from swarmpy.rpc.stale import stale_interceptors

if TYPE_CHECKING:
    from swarmpy.client.containers import Containers
    from swarmpy.client.images import Images
    from swarmpy.client.volumes import Volumes


class Client:
    """Typed calls to a node and to its managers; `async with Client.connect(...) as client`.

    Calls raise `SwarmError` only. Each has a deadline, and is repeated until then where that can help; a mutation
    keeps its request id, so a repeated one takes effect once.
    """

    def __init__(
        self,
        at: Sockets,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        clock: Clock | None = None,
        stale: bool = False,
    ) -> None:
        """Make a client of the node with these sockets; needs a running event loop.

        Args:
            timeout_s: deadline of a call that names none, in seconds.
            stale: read what this node's manager has, current or not; that needs no quorum.
        """
        clock = clock or SystemClock()
        self._at = at
        self._control_channel = unix_channel(at.control, stale_interceptors() if stale else ())
        self._node_channel = unix_channel(at.node)
        self._control = ControlStub(self._control_channel)
        local = Caller(lambda: reach.check_node(at), timeout_s, clock)
        self.node = LocalNode(LocalNodeStub(self._node_channel), local)
        self._local = local
        self._call = Caller(self._check_control, timeout_s, clock)
        self.services = Services(self._control, self._call)
        self.nodes = Nodes(self._control, self._call)
        self.tasks = Tasks(self._control, self._call)
        self.cluster = ClusterCalls(self._control, self._call)
        self.configs = Configs(self._control, self._call)
        self.networks = Networks(self._control, self._call)

    @classmethod
    def connect(
        cls,
        *,
        state_dir: Path | None = None,
        address: Path | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        environ: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        stale: bool = False,
    ) -> Self:
        """Return the client of a node; nothing is connected before the first call.

        Args:
            state_dir: the node's state directory; None takes `SWARMPY_STATE_DIR`, else the user's own.
            address: path of a control socket in another place than `<state_dir>/run/control.sock`.
            environ: the environment to look in; None takes the process's.
            timeout_s, clock, stale: as above.
        """
        at = sockets(find_state_dir(state_dir, os.environ if environ is None else environ))
        if address is not None:
            at = Sockets(control=address, node=at.node)
        return cls(at, timeout_s=timeout_s, clock=clock, stale=stale)

    def watch(
        self, *, kinds: Sequence[ObjectKind] = (), since: int = 0, service_id: str = ""
    ) -> AsyncGenerator[Changes]:
        """Yield changes after store revision `since` (0: from now on); the first answer comes at once.

        Args:
            kinds: only these; empty is all.
            service_id: only this service and its tasks.
        """
        return streams.watch(self._control, self._call, kinds=kinds, since=since, service_id=service_id)

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float = 0.0,
        until: float = 0.0,
    ) -> AsyncGenerator[LogBatch]:
        """Yield the output of a service or a task.

        Args:
            tail: last lines of each task; None is all.
            since, until: wall seconds; 0 is no limit.
        """
        return streams.logs(self._control, self._call, ref, follow=follow, tail=tail, since=since, until=until)

    @cached_property
    def containers(self) -> Containers:
        """The containers of this node; loaded when they are asked for first, as most commands are about the cluster."""
        from swarmpy.api.v1.containers_pb2_grpc import ContainersStub
        from swarmpy.client.containers import Containers

        return Containers(ContainersStub(self._node_channel), self._local)

    @cached_property
    def images(self) -> Images:
        """The images of this node, and its registries: loaded when they are asked for first."""
        from swarmpy.api.v1.images_pb2_grpc import ImagesStub
        from swarmpy.client.images import Images

        return Images(ImagesStub(self._node_channel), self._local)

    @cached_property
    def volumes(self) -> Volumes:
        """The volumes of this node: loaded when they are asked for first."""
        from swarmpy.api.v1.volumes_pb2_grpc import VolumesStub
        from swarmpy.client.volumes import Volumes

        return Volumes(VolumesStub(self._node_channel), self._local)

    async def _check_control(self) -> None:
        """Raise why no manager can be reached; one that we are connected to need not be asked."""
        if self._control_channel.get_state() is not grpc.ChannelConnectivity.READY:
            await reach.check_control(self._at, self.node.info)

    async def aclose(self) -> None:
        """Close both connections."""
        await self._control_channel.close()
        await self._node_channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
