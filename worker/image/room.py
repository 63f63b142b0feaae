"""All that looks after a node's images, put together over one client."""

from __future__ import annotations

import random
from dataclasses import dataclass

from swarmpy.clock import Clock
from swarmpy.registry.platforms import Platform
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import Patience
from worker.containerd.client import Containerd
from worker.image.catalog import Catalog
from worker.image.exporting import Exporter
from worker.image.images import Images
from worker.image.importing import Importer
from worker.image.pushing import Pusher


@dataclass(frozen=True, slots=True)
class ImageRoom:
    """What the executor (`images`) and the commands of a user (the others) need."""

    images: Images
    catalog: Catalog
    importer: Importer
    exporter: Exporter
    pusher: Pusher


def image_room(
    client: Containerd,
    driver: str,
    settings: RegistrySettings,
    *,
    clock: Clock,
    rng: random.Random,
    platform: Platform | None = None,
    patience: Patience | None = None,
) -> ImageRoom:
    """Return the room over a client, which stays its caller's to close. `driver` is the storage driver."""
    images = Images(client, driver, settings, clock=clock, rng=rng, platform=platform, patience=patience)
    exporter = Exporter(client, images.local, images.catalog, images.platform)
    return ImageRoom(
        images=images,
        catalog=images.catalog,
        importer=Importer(client, driver, images.unpacker, clock, images.platform),
        exporter=exporter,
        pusher=Pusher(client, exporter, settings, clock=clock, rng=rng, patience=patience),
    )
