"""What a release can store. A cluster's level is the lowest of its managers, and rises once all have a newer one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from swarmpy.errors import invalid

LEVEL: Final = 4
"""What this release can do."""

CONFIGS: Final = 2
"""The level from which on configs may be stored."""

NETWORKS: Final = 3
"""The level from which on networks may be stored, and services that join them."""

PORTS: Final = 4
"""The level from which on ports may be published otherwise than by TCP on every node's data address."""

CREDENTIALS: Final = 4
"""The level from which on services may be stored with credentials for their image's registry."""

VARIABLE: Final = "SWARMPY_FEATURE_LEVEL"
"""Has a node act as one of an older release would, so that an upgrade can be tried out."""


def level_of(environ: Mapping[str, str]) -> int:
    """Return the level of this node.

    Raises:
        SwarmError: INVALID_ARGUMENT, the environment asks for one that this release does not have.
    """
    text = environ.get(VARIABLE, "") or str(LEVEL)
    if not text.isdecimal() or not 1 <= int(text) <= LEVEL:
        raise invalid(f"{VARIABLE}={text}: this release has the feature levels 1 to {LEVEL}")
    return int(text)
