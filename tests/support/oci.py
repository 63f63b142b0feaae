"""Values for tests of containers' specs: an image with what it says of its containers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HealthValues:
    """An image's health check; 0 is "not given"."""

    test: tuple[str, ...] = ()
    interval_s: float = 0.0
    timeout_s: float = 0.0
    start_period_s: float = 0.0
    start_interval_s: float = 0.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ImageValues:
    """An image's config with nothing given."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: HealthValues | None = None
