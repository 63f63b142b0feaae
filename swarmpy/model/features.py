"""What a release can store. A cluster's level is the lowest of its managers, and rises once all have a newer one."""

from __future__ import annotations

from typing import Final

LEVEL: Final = 2
"""What this release can do."""

CONFIGS: Final = 2
"""The level from which on configs may be stored."""
