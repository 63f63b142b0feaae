"""Puts together all that runs containers on a node. Nothing here talks to containerd before it is asked something."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from swarmpy.model.node import NodeDescription
from swarmpy.node_file import NAME, read_node_file
from swarmpy.registry.credentials import Credentials
from swarmpy.registry.settings import read_settings
from worker.containerd.client import Containerd
from worker.containerd.driver import choose_driver
from worker.containerd.runtime import namespace_of
from worker.containerd.types import Mount
from worker.executor.container.abilities import find_abilities
from worker.executor.container.ending import Ending
from worker.executor.container.executor import ContainerExecutor
from worker.executor.container.parts import Networks
from worker.executor.container.preparation import Preparation
from worker.executor.container.rootfs import Rootfs
from worker.executor.directories import TaskDirectories
from worker.executor.limits import Cgroups
from worker.executor.node import NodeFacts
from worker.executor.ports import PortPool
from worker.image.images import Images
from worker.image.room import ImageRoom, image_room
from worker.image.types import Image
from worker.logs.store import LogStore
from worker.volumes import Volumes


class NodeImages:
    """The images of this node, opened when they are needed first: by then containerd runs and its driver is chosen."""

    def __init__(self, client: Containerd, state_dir: Path, driver: str, *, clock: Clock, rng: random.Random) -> None:
        """
        Args:
            driver: the storage driver that was asked for, empty for what works.
        """
        self._client = client
        self._state_dir = state_dir
        self._driver = driver
        self._clock = clock
        self._rng = rng
        self._room: ImageRoom | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> Images:
        """Return the images. Raises what `room` does."""
        return (await self.room()).images

    async def room(self) -> ImageRoom:
        """Return all that looks after images.

        Raises:
            SwarmError: UNAVAILABLE, containerd is away; FAILED_PRECONDITION, its storage driver is not this node's;
                INVALID_ARGUMENT, what node.toml says of registries.
        """
        async with self._opening:
            if self._room is None:
                await self._client.namespaces.ensure(self._client.namespace)
                driver = await choose_driver(self._client, self._state_dir, self._driver)
                registry = read_settings(read_node_file(self._state_dir).registry, str(self._state_dir / NAME))
                self._room = image_room(self._client, driver, registry, clock=self._clock, rng=self._rng)
            return self._room

    @property
    def snapshotter(self) -> str:
        """The storage driver; known once an image or a snapshot has been asked for."""
        assert self._room is not None, "a record is made after its snapshot"
        return self._room.images.snapshotter

    async def ensure(self, reference: str, *, auth: Credentials | None = None) -> Image:
        return await (await self.open()).ensure(reference, auth=auth)

    async def snapshot(self, key: str, image: Image) -> tuple[Mount, ...]:
        return await (await self.open()).snapshot(key, image)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        return await (await self.open()).mounts(key)

    async def drop(self, key: str) -> None:
        await (await self.open()).drop(key)

    async def snapshots(self) -> tuple[str, ...]:
        return await (await self.open()).snapshots()


ASK_S: Final = 1.0
_log: Final = structlog.get_logger()


class Containers:
    """The container side of a node: its client of containerd, images, volumes and executor."""

    def __init__(
        self,
        *,
        state_dir: Path,
        socket: Path,
        driver: str,
        networks: Networks,
        logs: LogStore,
        ports: PortPool,
        cgroups: Cgroups,
        node: Callable[[], NodeFacts],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """
        Args:
            socket: where containerd listens.
            driver: the storage driver that was asked for, empty for what works.
            node: returns what tasks may know of the node, as of now.
        """
        self.client = Containerd.connect(socket, namespace_of(state_dir))
        self.images = NodeImages(self.client, state_dir, driver, clock=clock, rng=rng)
        self.volumes = Volumes(state_dir / "volumes", clock)
        self.rootfs = Rootfs(state_dir / "run" / "rootfs")
        directories = TaskDirectories(state_dir / "tasks")
        self.preparation = Preparation(
            client=self.client,
            images=self.images,
            networks=networks,
            volumes=self.volumes,
            rootfs=self.rootfs,
            node=node,
            abilities=find_abilities(node().platform.arch),
            cgroup=cgroups.path,
        )
        ending = Ending(
            client=self.client,
            images=self.images,
            networks=networks,
            volumes=self.volumes,
            directories=directories,
            logs=logs,
            cgroups=cgroups,
        )
        self.executor = ContainerExecutor(
            client=self.client,
            images=self.images,
            preparation=self.preparation,
            ending=ending,
            directories=directories,
            logs=logs,
            ports=ports,
            cgroups=cgroups,
            data_addr=node().data_addr,
            clock=clock,
            rng=rng,
        )

    async def close(self) -> None:
        """Close the connection; the containers go on."""
        await self.client.close()

    async def described(self, description: NodeDescription) -> NodeDescription:
        """Return a node's description with what containerd is and how it keeps files, if it answers at once."""
        try:
            async with asyncio.timeout(ASK_S):
                version, room = await self.client.version(), await self.images.room()
        except (SwarmError, TimeoutError) as error:
            _log.info("containerd does not say what it is", error=str(error) or f"no answer in {ASK_S:g} s")
            return description
        runtime = f"containerd {version.version}"
        driver = room.images.snapshotter
        return msgspec.structs.replace(description, container_runtime=runtime, storage_driver=driver)
