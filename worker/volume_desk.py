"""What a user may do with the volumes of this node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.volume import LocalVolume
from worker.containerd.types import Container
from worker.volumes import Volume, Volumes

NAME_BYTES = 32


class ContainerRecords(Protocol):
    """See `worker.containerd.containers.Containers`."""

    async def list(self, *filters: str) -> tuple[Container, ...]: ...


@dataclass(frozen=True, slots=True)
class PrunedVolumes:
    """The volumes that are gone, and what they took on the disk."""

    names: tuple[str, ...]
    reclaimed_bytes: int


class VolumeDesk:
    """The volumes of one node for its users. What uses one is read from containerd: running or not, it has a record."""

    def __init__(
        self, volumes: Volumes, containers: ContainerRecords, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._volumes = volumes
        self._containers = containers
        self._random_bytes = random_bytes

    async def create(self, name: str, labels: Mapping[str, str]) -> LocalVolume:
        """Make a volume, under a name of our own if none is given; return one that is there as it is."""
        name = name or self._random_bytes(NAME_BYTES).hex()
        return self._described(await asyncio.to_thread(self._volumes.ensure, name, labels=labels), {})

    async def list(self) -> list[LocalVolume]:
        """Return all volumes by name."""
        users = await self._users()
        return [self._described(volume, users) for volume in await asyncio.to_thread(self._volumes.list)]

    async def get(self, name: str) -> LocalVolume:
        """Return one volume; NOT_FOUND."""
        return self._described(await asyncio.to_thread(self._volumes.get, name), await self._users())

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Delete a volume with what is in it.

        Args:
            force: one that is not there is no error.

        Raises:
            SwarmError: NOT_FOUND; FAILED_PRECONDITION, containers use it.
        """
        try:
            found = await self.get(name)
        except SwarmError as error:
            if force and error.code is Code.NOT_FOUND:
                return
            raise
        if found.used_by:
            raise precondition(f"volume {name} is in use by {_some(found.used_by)}: remove what uses it first")
        await asyncio.to_thread(self._volumes.remove, name)

    async def prune(self, *, every: bool, labels: Mapping[str, str]) -> PrunedVolumes:
        """Delete volumes that nothing uses: those without a name of a user's choice, or with `every` all of them.

        Args:
            labels: only those that have these labels; an empty value asks for the key alone.
        """
        gone = []
        reclaimed_bytes = 0
        for volume in await self.list():
            chosen = every or volume.task_id or _is_made_up(volume.name)
            if volume.used_by or not chosen or not _has(volume.labels, labels):
                continue
            reclaimed_bytes += await asyncio.to_thread(_size_bytes, Path(volume.mountpoint))
            try:
                await asyncio.to_thread(self._volumes.remove, volume.name)
            except SwarmError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
                continue
            gone.append(volume.name)
        return PrunedVolumes(tuple(gone), reclaimed_bytes)

    async def _users(self) -> Mapping[str, tuple[str, ...]]:
        """Return the ids of the containers by the directories that they mount."""
        found: dict[str, tuple[str, ...]] = {}
        for container in await self._containers.list():
            for source in _sources(container):
                found[source] = (*found.get(source, ()), container.id)
        return found

    def _described(self, volume: Volume, users: Mapping[str, tuple[str, ...]]) -> LocalVolume:
        data = str(self._volumes.data(volume.name))
        return LocalVolume(
            name=volume.name,
            labels=volume.labels,
            created_at=volume.created_at,
            mountpoint=data,
            task_id=volume.task_id,
            used_by=users.get(data, ()),
        )


def _sources(container: Container) -> Collection[str]:
    mounts = container.spec.get("mounts")
    if not isinstance(mounts, list):
        return ()
    return {str(mount["source"]) for mount in mounts if isinstance(mount, dict) and "source" in mount}


def _is_made_up(name: str) -> bool:
    return len(name) == 2 * NAME_BYTES and not set(name) - set("0123456789abcdef")


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())


def _size_bytes(directory: Path) -> int:
    """Return what the files of a directory take on the disk."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                total += Path(place, name).lstat().st_blocks * 512
            except OSError:
                continue  # it has just been removed
    return total


def _some(users: tuple[str, ...]) -> str:
    shown = ", ".join(user[:12] for user in users[:3])
    rest = f" and {len(users) - 3} more" if len(users) > 3 else ""
    return f"container{'s' if len(users) > 1 else ''} {shown}{rest}"
