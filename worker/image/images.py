"""The images that containers are made from: pulled when they are not here, and the containers' snapshots on them."""

from __future__ import annotations

import asyncio
import random
import weakref
from datetime import UTC, datetime
from typing import Final

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.registry.client import Registry
from swarmpy.registry.credentials import Credentials, FixedKeychain
from swarmpy.registry.platforms import Platform, host_platform
from swarmpy.registry.reference import Reference, parse_reference
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import Patience
from worker.containerd.client import Containerd
from worker.containerd.types import Mount, Usage
from worker.image.catalog import Catalog
from worker.image.fetch import Source
from worker.image.flights import Flights
from worker.image.local import LocalImages
from worker.image.pull import Job, Puller
from worker.image.types import ROOT_LABEL, Image, PullEvent, Stage, Watch, as_registry
from worker.image.unpack import Limits, Unpacker

OWNER_LABEL: Final = "swarmpy.snapshot"
"""On the snapshots that `snapshot` and `view` make, by which `snapshots` finds them."""
YOUNG_S: Final = 3600.0
"""An image that came within that time may belong to a task that is still being prepared."""


class Images:
    """The images of one containerd namespace under one storage driver.

    Any number of tasks may ask at a time. Nothing is kept in memory that matters: another worker goes on from what
    containerd has.
    """

    def __init__(
        self,
        client: Containerd,
        snapshotter: str,
        settings: RegistrySettings,
        *,
        clock: Clock,
        rng: random.Random,
        platform: Platform | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.snapshotter = snapshotter
        self.platform = platform or host_platform()
        self.local = LocalImages(client, snapshotter)
        self.catalog = Catalog(client, self.local, self.platform)
        self._client = client
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._patience = patience
        self._snapshots = client.snapshots(snapshotter)
        limits = Limits(settings.max_unpacked_layer_bytes, settings.max_unpacked_image_bytes)
        self.unpacker = Unpacker(snapshotter, limits, clock)
        self._puller = Puller(
            client, self.local, self.unpacker, clock, driver=snapshotter, at_once=settings.layers_at_once
        )
        self._pulls: Flights[Image] = Flights()
        # Pulls of one name share a lease, so those with other credentials or for another platform wait their turn.
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._watchers: dict[str, list[Watch]] = {}

    async def ensure(
        self,
        reference: str,
        *,
        platform: Platform | None = None,
        auth: Credentials | None = None,
        refresh: bool = False,
        watch: Watch | None = None,
    ) -> Image:
        """Return the image, pulled and unpacked if it is not here. One pull at a time however many ask for it.

        A caller that is cancelled leaves the pull to the others that wait. `refresh` asks the registry again what the
        tag stands for. An image that is here is given to whoever asks, with or without credentials.

        Raises:
            SwarmError: INVALID_ARGUMENT for the reference; what the registry or containerd refuse. Retryable ones may
                pass, and the next attempt goes on from what has come.
        """
        name = parse_reference(reference)
        record = str(name.at(name.digest) if name.digest else name)
        wanted = platform or self.platform
        if not refresh and (found := await self.local.ready(record, wanted)) is not None:
            if watch is not None:
                watch(PullEvent(record, Stage.DONE))
            return found
        watchers = self._watchers.setdefault(record, [])
        if watch is not None:
            watch(PullEvent(record, Stage.WAITING))
            watchers.append(watch)
        try:
            return await self._pulls.run(
                (record, wanted, auth, refresh), lambda: self._in_turn(name, record, wanted, auth, refresh=refresh)
            )
        finally:
            if watch is not None:
                watchers.remove(watch)
            if not watchers:
                self._watchers.pop(record, None)

    async def is_here(self, reference: str) -> bool:
        """Tell whether the image is here, unpacked for this platform."""
        name = parse_reference(reference)
        record = str(name.at(name.digest) if name.digest else name)
        return await self.local.ready(record, self.platform) is not None

    async def snapshot(self, key: str, image: Image) -> tuple[Mount, ...]:
        """Make the writable snapshot `key` on an image, or find it, and return how to mount it.

        It stays until `drop`, whoever refers to it.
        """
        return await self._prepare(key, image, writable=True)

    async def view(self, key: str, image: Image) -> tuple[Mount, ...]:
        """Make a read-only snapshot, or find it, otherwise like `snapshot`."""
        return await self._prepare(key, image, writable=False)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """Return how to mount a snapshot that was made; NOT_FOUND if it was not."""
        return await self._snapshots.mounts(key)

    async def drop(self, key: str) -> None:
        """Remove a snapshot; one that is not there is no error."""
        try:
            await self._snapshots.remove(key)
        except SwarmError as error:
            if error.code is not Code.NOT_FOUND:
                raise

    async def snapshots(self) -> tuple[str, ...]:
        """Return the keys of all that `snapshot` and `view` made and `drop` has not removed."""
        return tuple(found.name for found in await self._snapshots.list(f'labels."{OWNER_LABEL}"'))

    async def usage(self, key: str) -> Usage:
        """Return what a container has written: bytes and inodes, counted now."""
        return await self._snapshots.usage(key)

    async def _prepare(self, key: str, image: Image, *, writable: bool) -> tuple[Mount, ...]:
        labels = {ROOT_LABEL: datetime.fromtimestamp(self._clock.now(), UTC).isoformat(), OWNER_LABEL: "container"}
        make = self._snapshots.prepare if writable else self._snapshots.view
        try:
            return await make(key, image.chain_id, labels)
        except SwarmError as error:
            if error.code is not Code.ALREADY_EXISTS:
                raise
        found = await self._snapshots.stat(key)
        if found.parent == image.chain_id:
            return await self._snapshots.mounts(key)
        # Made for another image by a former attempt that then learned of a newer one; nothing has run in it.
        await self.drop(key)
        return await make(key, image.chain_id, labels)

    async def _in_turn(
        self, name: Reference, record: str, wanted: Platform, auth: Credentials | None, *, refresh: bool
    ) -> Image:
        turn = self._turns.setdefault(record, asyncio.Lock())
        async with turn:
            return await self._pull(name, record, wanted, auth, refresh=refresh)

    async def _pull(
        self, name: Reference, record: str, wanted: Platform, auth: Credentials | None, *, refresh: bool
    ) -> Image:
        asked = name
        if not refresh:
            # Another may have pulled it while we waited; of one that lost a part, the tag stays what it was.
            if (found := await self.local.ready(record, wanted)) is not None:
                return found
            if (known := await self.local.record(record)) is not None:
                target = as_registry(known.target)
                if (revived := await self._puller.unpack_again(record, target, wanted)) is not None:
                    return revived
                asked = name.at(target.digest)
        keychain = FixedKeychain({name.domain: auth} if auth else {})
        registry = Registry(self._settings, keychain, clock=self._clock, rng=self._rng, patience=self._patience)
        async with registry:
            image = await self._puller.pull(Job(Source(registry, asked), record, wanted, self._tell))
        if name.digest:
            # Services follow digests, and would fill the disk with what they ran once.
            before_s = self._clock.now() - YOUNG_S
            await self.catalog.limit_history(name.repository, self._settings.keep_versions, before_s)
        return image

    def _tell(self, event: PullEvent) -> None:
        for watch in tuple(self._watchers.get(event.reference, ())):
            watch(event)
