"""What a user asks for: the spec of a service, in the shape of the Docker Engine API's ServiceSpec."""

from __future__ import annotations

from typing import Final

from swarmpy.model.base import Model
from swarmpy.model.endpoints import ServicePort
from swarmpy.model.states import (
    EndpointMode,
    FailureAction,
    ModeKind,
    MountType,
    RestartCondition,
    Runtime,
    UpdateOrder,
)

STACK_LABEL: Final = "com.docker.stack.namespace"


class Healthcheck(Model, frozen=True):
    """How a task is asked whether it is well.

    `test` is `("NONE",)`, `("CMD", argv...)`, `("CMD-SHELL", line)`, `("HTTP", ":<target port>/<path>")` or
    `("TCP", ":<target port>")`; empty takes the default. HTTP is healthy from 200 to 399. A probe passes in
    `timeout_s`; `retries` failures in a row after `start_period_s` make the task unhealthy.
    """

    test: tuple[str, ...] = ()
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = 3
    start_period_s: float = 0.0
    start_interval_s: float = 5.0


class Mount(Model, frozen=True):
    type: MountType = MountType.BIND
    source: str = ""
    target: str = ""
    read_only: bool = False
    options: dict[str, str] = {}


class FileReference(Model, frozen=True):
    """A secret or config that a task sees as a file."""

    source: str
    target: str = ""
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444


class Ulimit(Model, frozen=True):
    """A resource limit of the task's processes; -1 is unlimited."""

    name: str
    soft: int
    hard: int


class ContainerSpec(Model, frozen=True):
    """What runs, for containers and plain processes alike.

    A process takes its argv from `command` + `args`; with a container `command` replaces the image's entrypoint
    and `args` its arguments. `env` holds `KEY=value`: a process gets exactly that and what swarmpy adds.
    """

    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    labels: dict[str, str] = {}
    tty: bool = False
    init: bool = False
    read_only: bool = False
    stop_signal: str = ""
    stop_grace_period_s: float = 10.0
    drain_timeout_s: float = 5.0
    healthcheck: Healthcheck | None = None
    readiness: Healthcheck | None = None
    hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[FileReference, ...] = ()
    configs: tuple[FileReference, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    sysctls: dict[str, str] = {}
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int = 0


class Resources(Model, frozen=True):
    """Amounts of one node's resources; 0 is none. 10**9 nano-CPUs are one core."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    pids: int = 0
    generic: dict[str, int] = {}


NO_RESOURCES: Final = Resources()


class RestartPolicy(Model, frozen=True):
    """When a stopped task is replaced. `delay_s` None backs off from 0 to 30 s; a given delay is kept, 0 too.

    `max_attempts` 0 is no limit; attempts are counted over `window_s`, 0 over the service version's life.
    """

    condition: RestartCondition = RestartCondition.ANY
    delay_s: float | None = None
    max_attempts: int = 0
    window_s: float = 0.0


class Placement(Model, frozen=True):
    """Where tasks may go: constraints (`node.labels.zone==a`), spread preferences, a cap per node (0: none)."""

    constraints: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    max_replicas: int = 0
    platforms: tuple[str, ...] = ()


class LogDriver(Model, frozen=True):
    name: str = ""
    options: dict[str, str] = {}


class NetworkAttachment(Model, frozen=True):
    """A network that tasks join. `target` is its id once stored, or a predefined name (`host`, `none`, `bridge`).

    `aliases` are further names of the service on this network.
    """

    target: str
    aliases: tuple[str, ...] = ()


class TaskSpec(Model, frozen=True):
    """The template that every task of a service version is made from."""

    runtime: Runtime = Runtime.CONTAINER
    container: ContainerSpec = ContainerSpec()
    limits: Resources = NO_RESOURCES
    reservations: Resources = NO_RESOURCES
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    networks: tuple[NetworkAttachment, ...] = ()
    log_driver: LogDriver = LogDriver()
    force_update: int = 0


class ServiceMode(Model, frozen=True):
    """How many tasks there are. `replicas` serves replicated mode; the other two the job modes."""

    kind: ModeKind = ModeKind.REPLICATED
    replicas: int = 1
    max_concurrent: int = 0
    total_completions: int = 0


class UpdateConfig(Model, frozen=True):
    """How a change is rolled out. `parallelism` 0 is all at once; `max_failure_ratio` is 0..1."""

    parallelism: int = 1
    delay_s: float = 0.0
    failure_action: FailureAction = FailureAction.PAUSE
    monitor_s: float = 5.0
    max_failure_ratio: float = 0.0
    order: UpdateOrder = UpdateOrder.STOP_FIRST


class EndpointSpec(Model, frozen=True):
    """How the service is reached. A port's `published` 0 is picked from 30000-32767 by the allocator."""

    mode: EndpointMode = EndpointMode.VIP
    ports: tuple[PortSpec, ...] = ()


class PortSpec(ServicePort, frozen=True):
    """A port as asked for. `publish` False makes it reachable through the service's name only."""

    publish: bool = True


class ServiceSpec(Model, frozen=True):
    """The whole desired state of a service; the unit that create, update and rollback replace."""

    name: str = ""
    labels: dict[str, str] = {}
    task: TaskSpec = TaskSpec()
    mode: ServiceMode = ServiceMode()
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()
    endpoint: EndpointSpec = EndpointSpec()
