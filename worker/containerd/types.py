"""What goes in and out of the client. Times are wall seconds, 0.0 where there is none; digests are "sha256:<hex>"."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

RUNC: Final = "io.containerd.runc.v2"
"""The runtime of all containers: its shim, which outlives containerd."""
LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Version:
    """Which containerd answered."""

    version: str
    revision: str


@dataclass(frozen=True, slots=True)
class Plugin:
    """A part of containerd; `error` says why it does not work, empty if it does."""

    type: str
    id: str
    error: str
    exports: Mapping[str, str]
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mount:
    """Arguments of mount(2), without the place."""

    type: str
    source: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names a blob as OCI manifests do."""

    media_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuncOptions:
    """How the shim uses runc. `root` is where runc keeps its state, empty for its default; so with the rest."""

    root: str = ""
    binary_name: str = ""
    systemd_cgroup: bool = False
    shim_cgroup: str = ""
    no_pivot_root: bool = False
    no_new_keyring: bool = False
    io_uid: int = 0
    io_gid: int = 0


@dataclass(frozen=True, slots=True)
class Container:
    """The record of a container. `spec` is an OCI runtime spec, ready for JSON."""

    id: str
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, object] = field(default_factory=dict)
    snapshotter: str = ""
    snapshot_key: str = ""
    runtime: str = RUNC
    runc: RuncOptions = field(default_factory=RuncOptions)
    created_at_s: float = 0.0
    updated_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Exited:
    """How a process ended: its exit status, 128 + n if signal n killed it."""

    status: int
    at_s: float


class ProcessStatus(enum.StrEnum):
    """What the runtime says of a process."""

    UNKNOWN = "unknown"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    PAUSING = "pausing"


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a container; `exec_id` is empty for its first one. `exited` is set of a stopped one."""

    container_id: str
    exec_id: str
    pid: int
    status: ProcessStatus
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    exited: Exited | None


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """Figures of a container's control group. Counters run since its start; 0 where the kernel does not say.

    A limit of 0 means none. `memory_bytes` holds `memory_cache_bytes`: files that can be dropped at once.
    """

    container_id: str
    at_s: float
    cpu_ns: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    memory_cache_bytes: int = 0
    pids: int = 0
    pids_limit: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """A committed blob."""

    digest: str
    size_bytes: int
    created_at_s: float
    updated_at_s: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ingest:
    """A write that is not committed; `offset` bytes of it are there. `total` is 0 where it is not known."""

    ref: str
    offset: int
    total: int
    expected: str
    started_at_s: float
    updated_at_s: float


class SnapshotKind(enum.StrEnum):
    """Whether a snapshot can be written to or built upon."""

    UNKNOWN = "unknown"
    VIEW = "view"
    ACTIVE = "active"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshotter says of one snapshot; `parent` is empty for the lowest."""

    name: str
    parent: str
    kind: SnapshotKind
    created_at_s: float
    updated_at_s: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a snapshot itself takes, without its parents."""

    size_bytes: int
    inodes: int


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A name for an image; `target` is its manifest or index."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at_s: float = 0.0
    updated_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Keeps its resources from being collected."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LeaseResource:
    """What a lease can hold; made by the functions below."""

    type: str
    id: str


def snapshot_resource(driver: str, key: str) -> LeaseResource:
    """Return a snapshot as a lease names it."""
    return LeaseResource(f"snapshots/{driver}", key)


def content_resource(digest: str) -> LeaseResource:
    """Return a blob as a lease names it."""
    return LeaseResource("content", digest)


def ingest_resource(ref: str) -> LeaseResource:
    """Return a write under way as a lease names it."""
    return LeaseResource("ingests", ref)


@dataclass(frozen=True, slots=True)
class TaskStart:
    """A container's first process runs its program."""

    container_id: str
    pid: int
    at_s: float


@dataclass(frozen=True, slots=True)
class TaskExit:
    """A process has ended; `exec_id` is empty for a container's first one. `status` as in `Exited`."""

    container_id: str
    exec_id: str
    pid: int
    status: int
    at_s: float


@dataclass(frozen=True, slots=True)
class TaskOOM:
    """The kernel killed a process of the container because its memory was used up."""

    container_id: str
    at_s: float


@dataclass(frozen=True, slots=True)
class TaskDelete:
    """A task, or one of its further processes, has been deleted."""

    container_id: str
    exec_id: str
    pid: int
    status: int
    at_s: float


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """Something else happened; `topic` such as "/images/create"."""

    topic: str
    at_s: float


Event = TaskStart | TaskExit | TaskOOM | TaskDelete | OtherEvent
