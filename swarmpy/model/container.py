"""A container that a user started on one node: what was asked for, and what has become of it."""

from __future__ import annotations

import enum

from swarmpy.model.base import Model
from swarmpy.model.endpoints import Transport
from swarmpy.model.spec import Mount, TaskSpec


class ContainerStatus(enum.IntEnum):
    """Docker's words for what a container does. RESTARTING: it has ended and waits for its next run."""

    CREATED = 0
    RUNNING = 1
    PAUSED = 2
    RESTARTING = 3
    REMOVING = 4
    EXITED = 5


class HealthState(enum.IntEnum):
    """What the health check says; NONE where there is none, or nothing runs."""

    NONE = 0
    STARTING = 1
    HEALTHY = 2
    UNHEALTHY = 3


class RestartKind(enum.IntEnum):
    """When a container that has ended runs again."""

    NO = 0
    ON_FAILURE = 1
    ALWAYS = 2
    UNLESS_STOPPED = 3


class RestartRule(Model, frozen=True):
    """`most` is the number of restarts in a row after failures, 0 for no limit; it means something for ON_FAILURE."""

    kind: RestartKind = RestartKind.NO
    most: int = 0


class PortBinding(Model, frozen=True):
    """A port of this machine that leads to a container's port.

    `address` empty is every address of the machine; `port` 0 is a free one of the node's choice.
    """

    target: int
    port: int = 0
    transport: Transport = Transport.TCP
    address: str = ""


class ContainerConfig(Model, frozen=True):
    """What the user asked for. `publish_all` binds each port that the image exposes to a free one.

    `open_stdin` keeps a standard input for who attaches; with `stdin_once` it ends with the first who did.
    """

    task: TaskSpec
    ports: tuple[PortBinding, ...] = ()
    publish_all: bool = False
    restart: RestartRule = RestartRule()
    auto_remove: bool = False
    open_stdin: bool = False
    stdin_once: bool = False


class ContainerState(Model, frozen=True):
    """What a container does. Times are wall seconds, 0 before they are known.

    `exit_code` is 128 + n after signal n; None until it has ended once.
    """

    status: ContainerStatus = ContainerStatus.CREATED
    pid: int = 0
    exit_code: int | None = None
    error: str = ""
    oom_killed: bool = False
    started_at: float = 0.0
    finished_at: float = 0.0
    health: HealthState = HealthState.NONE
    health_output: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing runs, and nothing will by itself."""
        return self.status in (ContainerStatus.CREATED, ContainerStatus.EXITED)


class Container(Model, frozen=True):
    """A container of a node. `service_id` and `service` are those of a service's task, empty for one of a user.

    `image_id` is the digest of the image's configuration. `command` is what runs, the image's defaults filled in;
    `ports` are the bindings in force; `address` is where the node reaches it. `written_bytes` is None unless it was
    asked for.
    """

    id: str
    name: str
    config: ContainerConfig
    created_at: float = 0.0
    image_id: str = ""
    command: tuple[str, ...] = ()
    state: ContainerState = ContainerState()
    restart_count: int = 0
    ports: tuple[PortBinding, ...] = ()
    address: str = ""
    mounts: tuple[Mount, ...] = ()
    log_path: str = ""
    service_id: str = ""
    service: str = ""
    written_bytes: int | None = None
