"""Layers to committed snapshots, each on top of the one below, none larger than the limit."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.registry.manifests import LAYERS, OCI_LAYER, Descriptor
from swarmpy.units import human_bytes
from worker.containerd import types as containerd
from worker.containerd.client import Containerd
from worker.containerd.snapshots import Snapshots
from worker.image.flights import Flights
from worker.image.leasing import left_behind
from worker.image.types import chain_ids, understood

LOOK_S: Final = 0.5
"""How often the size of a layer that may be a bomb is looked at; it may pass the limit by what is written meanwhile."""
GZIP_GROWTH: Final = 1032
"""No gzip stream grows by more: a layer too small to reach the limit is not watched."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What unpacked layers may hold, in bytes."""

    layer_bytes: int
    image_bytes: int


class Unpacker:
    """Unpacks layers under one storage driver; each snapshot is made once however many images share it."""

    def __init__(self, driver: str, limits: Limits, clock: Clock) -> None:
        self._driver = driver
        self._limits = limits
        self._clock = clock
        self._flights: Flights[None] = Flights(share_failures=False)

    async def unpack(
        self,
        client: Containerd,
        layers: Sequence[Descriptor],
        diff_ids: Sequence[str],
        where: str,
        *,
        fetched: Callable[[Descriptor], Awaitable[None]],
        watch: Callable[[Descriptor, bool], None],
    ) -> str:
        """Make the snapshots of all layers through a leased `client`; return the last one's name, empty for none.

        Args:
            fetched: returns once a layer's content is here; awaited for those that have to be unpacked.
            watch: is told of each layer that is begun (False) and that is there (True).
        Raises:
            SwarmError: CORRUPT, a layer holds something else than its image says; RESOURCE_EXHAUSTED, it is larger
                than the limit, or the disk is full. Nothing is left of the layer that failed.
        """
        snapshots = client.snapshots(self._driver)
        parent, total_bytes = "", 0
        for layer, diff_id, chain in zip(layers, diff_ids, chain_ids(diff_ids), strict=True):
            if not await snapshots.exists(chain):
                await fetched(layer)
                watch(layer, False)
                room = min(self._limits.layer_bytes, self._limits.image_bytes - total_bytes)
                step = _Step(client, snapshots, layer, diff_id, chain, parent, where, room)
                await self._flights.run(chain, partial(self._make, step))
            total_bytes += (await snapshots.usage(chain)).size_bytes
            if total_bytes > self._limits.image_bytes:
                raise _too_large(where, self._limits.image_bytes)
            watch(layer, True)
            parent = chain
        return parent

    async def _make(self, step: _Step) -> None:
        if await step.snapshots.exists(step.chain):
            return
        key = f"extract-{step.chain}"
        # Left by a worker that was killed over it: nobody else makes snapshots of this name.
        await _remove(step.snapshots, key)
        try:
            await self._fill(step, key)
        except SwarmError as error:
            found = understood(error, f"layer {step.layer.digest} of {step.where}")
            with left_behind(key):
                if found is not error and found.code is Code.RESOURCE_EXHAUSTED:
                    # On a disk without a free block containerd cannot even note that the snapshot goes.
                    await asyncio.to_thread(_empty, await step.snapshots.mounts(key))
                await _remove(step.snapshots, key)
            raise found from error
        except asyncio.CancelledError:
            with left_behind(key):
                await _remove(step.snapshots, key)
            raise

    async def _fill(self, step: _Step, key: str) -> None:
        mounts = await step.snapshots.prepare(key, step.parent)
        applied = await self._apply(step, key, mounts)
        if applied.digest != step.diff_id:
            sentence = f"layer {step.layer.digest} of {step.where} holds {applied.digest}, not {step.diff_id}"
            raise SwarmError(Code.CORRUPT, f"{sentence} as the image says: it is damaged or forged")
        await step.snapshots.commit(step.chain, key)
        if (await step.snapshots.usage(step.chain)).size_bytes > step.room_bytes:
            await _remove(step.snapshots, step.chain)
            raise _too_large(f"layer {step.layer.digest} of {step.where}", step.room_bytes)

    async def _apply(self, step: _Step, key: str, mounts: tuple[containerd.Mount, ...]) -> containerd.Descriptor:
        compression = LAYERS[step.layer.media_type]
        kind = OCI_LAYER + (f"+{compression}" if compression else "")
        layer = containerd.Descriptor(kind, step.layer.digest, step.layer.size)
        growth = {"": 1, "gzip": GZIP_GROWTH}.get(compression)
        if growth is not None and step.layer.size * growth <= step.room_bytes:
            return await step.client.diff.apply(layer, mounts)
        try:
            async with asyncio.TaskGroup() as group:
                guard = group.create_task(self._guard(step, key))
                applied = await step.client.diff.apply(layer, mounts)
                guard.cancel()
        except* SwarmError as errors:
            raise errors.exceptions[0] from errors
        return applied

    async def _guard(self, step: _Step, key: str) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            if (await step.snapshots.usage(key)).size_bytes > step.room_bytes:
                raise _too_large(f"layer {step.layer.digest} of {step.where}", step.room_bytes)


@dataclass(frozen=True, slots=True)
class _Step:
    """One layer on its way: `room_bytes` is what it may hold."""

    client: Containerd
    snapshots: Snapshots
    layer: Descriptor
    diff_id: str
    chain: str
    parent: str
    where: str
    room_bytes: int


def _too_large(what: str, limit_bytes: int) -> SwarmError:
    limit = f"the limit of {human_bytes(limit_bytes)}"
    sentence = f"{what} holds more than {limit} when it is unpacked: it is refused"
    return SwarmError(Code.RESOURCE_EXHAUSTED, f"{sentence}. The node's configuration can raise max_unpacked_layer")


def _empty(mounts: Sequence[containerd.Mount]) -> None:
    """Delete what is in a writable snapshot whose files lie in a directory of this machine."""
    for mount in mounts:
        upper = [option.removeprefix("upperdir=") for option in mount.options if option.startswith("upperdir=")]
        places = upper if mount.type == "overlay" else [mount.source] if mount.type == "bind" else []
        for path in (path for place in places for path in Path(place).iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


async def _remove(snapshots: Snapshots, key: str) -> None:
    try:
        await snapshots.remove(key)
    except SwarmError as error:
        if error.code is not Code.NOT_FOUND:
            raise
