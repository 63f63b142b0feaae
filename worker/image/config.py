"""The configuration document of an image, as OCI and Docker write it, to a frozen dataclass. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.platforms import Platform, normalised
from swarmpy.registry.reference import is_digest

_NANO: Final = 1e9


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The image's own health check. Durations in seconds; 0 where the image leaves them to whoever runs it.

    `test` begins with NONE, CMD or CMD-SHELL; empty inherits, which for an image means none.
    """

    test: tuple[str, ...]
    interval_s: float = 0.0
    timeout_s: float = 0.0
    start_period_s: float = 0.0
    start_interval_s: float = 0.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """How one step of the build came about."""

    created: str
    created_by: str
    comment: str
    empty_layer: bool


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of itself. `entrypoint`, `cmd` and `shell` are None where it says nothing."""

    platform: Platform
    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    working_dir: str
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: Mapping[str, str]
    stop_signal: str
    healthcheck: HealthCheck | None
    shell: tuple[str, ...] | None
    args_escaped: bool
    diff_ids: tuple[str, ...]
    created: str
    history: tuple[History, ...]

    @classmethod
    def decode(cls, raw: bytes, where: str) -> ImageConfig:
        """Return the configuration in a document; `where` names it in errors.

        Raises:
            SwarmError: CORRUPT.
        """
        try:
            document = msgspec.json.decode(raw, type=_Document)
        except msgspec.MsgspecError as error:
            raise SwarmError(Code.CORRUPT, f"the configuration of {where} cannot be read: {error}") from error
        if bad := [diff_id for diff_id in document.rootfs.diff_ids or () if not is_digest(diff_id)]:
            raise SwarmError(Code.CORRUPT, f"the configuration of {where} names a layer by {bad[0][:80]!r}: no digest")
        inner = document.config or _Inner()
        return cls(
            platform=normalised(document.os or "linux", document.architecture or "", document.variant or ""),
            user=inner.user or "",
            env=tuple(inner.env or ()),
            entrypoint=_words(inner.entrypoint),
            cmd=_words(inner.cmd),
            working_dir=inner.working_dir or "",
            exposed_ports=tuple(sorted(inner.exposed_ports or ())),
            volumes=tuple(sorted(inner.volumes or ())),
            labels=dict(inner.labels or {}),
            stop_signal=inner.stop_signal or "",
            healthcheck=_health(inner.healthcheck),
            shell=_words(inner.shell),
            args_escaped=bool(inner.args_escaped),
            diff_ids=tuple(document.rootfs.diff_ids or ()),
            created=document.created or "",
            history=tuple(
                History(row.created or "", row.created_by or "", row.comment or "", bool(row.empty_layer))
                for row in document.history or ()
            ),
        )


# Every field may be null as well as missing: Go writes what it has not.
class _Health(msgspec.Struct, rename="pascal"):
    test: tuple[str, ...] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


class _Inner(msgspec.Struct, rename="pascal"):
    user: str | None = None
    env: tuple[str, ...] | None = None
    # Docker's oldest images hold a text here.
    entrypoint: tuple[str, ...] | str | None = None
    cmd: tuple[str, ...] | str | None = None
    working_dir: str | None = None
    exposed_ports: dict[str, Any] | None = None
    volumes: dict[str, Any] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    healthcheck: _Health | None = None
    shell: tuple[str, ...] | None = None
    args_escaped: bool | None = None


class _Row(msgspec.Struct):
    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _RootFs(msgspec.Struct):
    diff_ids: tuple[str, ...] | None = None


class _Document(msgspec.Struct):
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    created: str | None = None
    config: _Inner | None = None
    rootfs: _RootFs = msgspec.field(default_factory=_RootFs)
    history: tuple[_Row, ...] | None = None


def _words(value: tuple[str, ...] | str | None) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return ("/bin/sh", "-c", value)
    return value


def _health(found: _Health | None) -> HealthCheck | None:
    if found is None:
        return None
    return HealthCheck(
        test=tuple(found.test or ()),
        interval_s=(found.interval or 0) / _NANO,
        timeout_s=(found.timeout or 0) / _NANO,
        start_period_s=(found.start_period or 0) / _NANO,
        start_interval_s=(found.start_interval or 0) / _NANO,
        retries=found.retries or 0,
    )
