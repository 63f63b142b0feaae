"""A config: a named piece of data that the cluster keeps; it never changes, it is replaced by another one."""

from __future__ import annotations

from typing import Final

from swarmpy.model.base import Model

MAX_CONFIG_BYTES: Final = 1000 * 1024


class ConfigSpec(Model, frozen=True):
    """What the user decides about a config; `data` is any bytes, at most `MAX_CONFIG_BYTES`."""

    name: str = ""
    labels: dict[str, str] = {}
    data: bytes = b""


class Config(Model, frozen=True):
    """Writer: the API."""

    id: str
    spec: ConfigSpec = ConfigSpec()
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def name(self) -> str:
        return self.spec.name
