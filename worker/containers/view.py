"""Containers as they are shown: a user's from its record, a service's from its task. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from swarmpy.errors import SwarmError, invalid, not_found
from swarmpy.model.container import (
    Container,
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    HealthState,
    PortBinding,
)
from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from worker.assignments import Assignment
from worker.containers.record import Record


@dataclass(frozen=True, slots=True)
class Seen:
    """What is asked of the node where it is wanted: the container's address, the path of its log."""

    address: str = ""
    log_path: str = ""


def of_user(record: Record, status: TaskStatus | None, seen: Seen) -> Container:
    """Return a user's container.

    Args:
        status: what the runner says of its present run.
    """
    config = record.config
    health, output = health_of(status, has_check=record.has_check) if record.is_running else (HealthState.NONE, "")
    return Container(
        id=record.id,
        name=record.name,
        config=config,
        created_at=record.created_at,
        image_id=record.image_id,
        command=record.command,
        state=ContainerState(
            status=status_of(record),
            pid=record.pid,
            exit_code=record.exit_code,
            error=record.error,
            oom_killed=record.oom_killed,
            started_at=record.started_at,
            finished_at=record.finished_at,
            health=health,
            health_output=output,
        ),
        restart_count=record.restarts,
        ports=record.ports,
        address=seen.address if record.is_running else "",
        mounts=config.task.container.mounts,
        log_path=seen.log_path,
    )


def status_of(record: Record) -> ContainerStatus:
    """Return Docker's word for what a container does."""
    if record.removing:
        return ContainerStatus.REMOVING
    if record.is_running:
        return ContainerStatus.PAUSED if record.paused else ContainerStatus.RUNNING
    if record.next_run_at or (record.is_live and record.restarts):
        return ContainerStatus.RESTARTING
    return ContainerStatus.EXITED if record.started_run else ContainerStatus.CREATED


def health_of(status: TaskStatus | None, *, has_check: bool) -> tuple[HealthState, str]:
    """Return what the health check of a running container says, and its last words if it fails."""
    if status is None or not has_check:
        return HealthState.NONE, ""
    if status.state is TaskState.RUNNING and status.ready:
        return HealthState.HEALTHY, ""
    if status.not_ready_reason.startswith("unhealthy"):
        return HealthState.UNHEALTHY, status.not_ready_reason.partition(": ")[2]
    return HealthState.STARTING, ""


def of_service(task: Assignment, status: TaskStatus, seen: Seen) -> Container:
    """Return the container of a service's task."""
    ended = status.state.is_stopped
    running = not ended and bool(status.pid)
    mode = ContainerStatus.RUNNING if running else ContainerStatus.EXITED if ended else ContainerStatus.CREATED
    spec = task.version.task
    return Container(
        id=task.id,
        name=task.name,
        config=ContainerConfig(task=spec),
        created_at=task.version.created_at or status.at,
        command=(*spec.container.command, *spec.container.args),
        state=ContainerState(
            status=mode,
            pid=status.pid if running else 0,
            exit_code=status.exit_code,
            error=status.error,
            started_at=(status.ready_since or status.at) if status.pid else 0.0,
            finished_at=status.at if ended else 0.0,
        ),
        ports=tuple(PortBinding(target=p.target, port=p.port, transport=p.transport) for p in status.host_ports)
        if running
        else (),
        address=seen.address if running else "",
        mounts=spec.container.mounts,
        log_path=seen.log_path,
        service_id=task.service_id,
        service=task.version.name,
    )


def resolve(ref: str, names: Mapping[str, str]) -> str:
    """Return the id that a reference stands for: an id, a name, or a unique prefix of an id.

    Args:
        names: name of each container by id.

    Raises:
        SwarmError: NOT_FOUND; INVALID_ARGUMENT, several ids begin with it.
    """
    if ref in names:
        return ref
    wanted = ref.removeprefix("/")
    tests: tuple[Callable[[str, str], bool], ...] = (
        lambda _, name: name == wanted,
        lambda container_id, _: bool(ref) and container_id.startswith(ref),
    )
    for test in tests:
        found = [container_id for container_id, name in names.items() if test(container_id, name)]
        if len(found) > 1:
            raise invalid(f"{ref!r} stands for {len(found)} containers: write more of the id")
        if found:
            return found[0]
    raise no_such(ref)


def no_such(ref: str) -> SwarmError:
    return not_found(f"No such container: {ref}")
