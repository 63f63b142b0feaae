"""The client, put together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from swarmpy.errors import Code, SwarmError
from worker.containerd.api.version_pb2_grpc import VersionStub
from worker.containerd.containers import Containers
from worker.containerd.content import Content
from worker.containerd.diffs import Diffs
from worker.containerd.events import Events
from worker.containerd.images import Images
from worker.containerd.leases import Leases
from worker.containerd.snapshots import Snapshots
from worker.containerd.system import Introspection, Namespaces
from worker.containerd.tasks import Tasks
from worker.containerd.transport import LEASE_KEY, NAMESPACE_KEY, Metadata, Transport, open_channel
from worker.containerd.types import Version

_LOOK_S: Final = 0.02


class Containerd:
    """One namespace of one containerd, over one connection, which is made again by itself.

    Every call raises SwarmError; UNAVAILABLE means that containerd is away, and may be back soon.
    """

    def __init__(self, socket: Path, namespace: str, channel: grpc.aio.Channel, *, lease: str = "") -> None:
        self.socket = socket
        self.namespace = namespace
        metadata: Metadata = ((NAMESPACE_KEY, namespace),)
        self._transport = Transport(channel, (*metadata, (LEASE_KEY, lease)) if lease else metadata)
        self._owns_channel = not lease
        self._version = VersionStub(channel)
        self.containers = Containers(self._transport)
        self.tasks = Tasks(self._transport)
        self.content = Content(self._transport)
        self.images = Images(self._transport)
        self.diff = Diffs(self._transport)
        self.leases = Leases(self._transport)
        self.events = Events(self._transport, namespace)
        self.namespaces = Namespaces(self._transport)
        self.introspection = Introspection(self._transport)

    @classmethod
    def connect(cls, socket: Path, namespace: str) -> Self:
        """Return a client; needs a running loop, and does not talk before it is asked something."""
        return cls(socket, namespace, open_channel(socket))

    def leased(self, lease_id: str) -> Self:
        """Return a client on the same connection; what is made through it belongs to the lease, which must exist."""
        return type(self)(self.socket, self.namespace, self._transport.channel, lease=lease_id)

    def snapshots(self, driver: str) -> Snapshots:
        """Return the snapshots of one storage driver."""
        return Snapshots(self._transport, driver)

    async def version(self) -> Version:
        """Return which containerd this is."""
        answer = await self._transport.call(self._version.Version, Empty(), "ask containerd for its version")
        return Version(answer.version, answer.revision)

    async def wait_until_serving(self, deadline_s: float) -> Version:
        """Return once containerd answers.

        Raises:
            SwarmError: UNAVAILABLE, it has not for `deadline_s` seconds.
        """
        last: SwarmError | None = None
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        return await self.version()
                    except SwarmError as error:
                        if not error.retryable:
                            raise
                        last = error
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as error:
            words = f": {last}" if last else ""
            raise SwarmError(
                Code.UNAVAILABLE, f"containerd did not answer at {self.socket} within {deadline_s:g} s{words}"
            ) from error

    async def close(self) -> None:
        """Close the connection; a leased client leaves it to the one it was made from."""
        if self._owns_channel:
            await self._transport.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
