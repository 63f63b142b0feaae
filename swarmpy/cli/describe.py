"""How services and tasks are named and summed up in tables."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmpy.cli.table import shorten
from swarmpy.model.endpoints import PublishMode
from swarmpy.model.service import Service
from swarmpy.model.spec import TaskSpec
from swarmpy.model.states import Runtime, TaskState, word
from swarmpy.model.task import Task
from swarmpy.notation.images import without_digest
from swarmpy.notation.ports import shown as shown_port

if TYPE_CHECKING:
    from swarmpy.client.results import ServiceStatus

COMMAND_WIDTH = 40


def what_runs(task: TaskSpec, *, no_trunc: bool = False) -> str:
    """Return the image, or of plain processes the command line."""
    if task.runtime is Runtime.CONTAINER:
        image = task.container.image
        return image if no_trunc else without_digest(image)
    line = shlex.join((*task.container.command, *task.container.args))
    return line if no_trunc else shorten(line, COMMAND_WIDTH)


def what_runs_header(templates: Iterable[TaskSpec]) -> str:
    """Return the header above what runs: it depends on what there is."""
    runtimes = {task.runtime for task in templates}
    if runtimes == {Runtime.PROCESS}:
        return "COMMAND"
    return "IMAGE/COMMAND" if Runtime.PROCESS in runtimes else "IMAGE"


def replicas(service: Service, status: ServiceStatus) -> str:
    """Return how many tasks run of how many: `2/3`, with what holds it back."""
    text = f"{status.running}/{status.desired}"
    notes = []
    if status.ready < status.running:
        notes.append(f"{status.ready} ready")
    if service.spec.task.placement.max_replicas:
        notes.append(f"max {service.spec.task.placement.max_replicas} per node")
    return f"{text} ({', '.join(notes)})" if notes else text


def published_ports(service: Service) -> str:
    """Return the ports published through the balancer: `*:8080->8000/tcp`."""
    shown = [p for p in service.endpoint.ports if p.published and p.mode is PublishMode.INGRESS]
    return ", ".join(map(shown_port, shown))


def host_ports(task: Task) -> str:
    """Return where a running task listens on its node."""
    if task.state is not TaskState.RUNNING:
        return ""
    return ", ".join(f"{p.address or '*'}:{p.port}->{p.target}/{word(p.transport)}" for p in task.host_ports)


def why(task: Task) -> str:
    """Return the reason that a person looks for: of a failure, of waiting, of not being ready, of being stopped."""
    if task.error:
        return task.error
    if task.state <= TaskState.PENDING and task.pending_reason:
        return task.pending_reason
    if task.state is TaskState.RUNNING and not task.ready and task.desired_state is TaskState.RUNNING:
        return task.not_ready_reason
    return task.desired_reason if task.desired_state > TaskState.RUNNING else ""


def title(text: str) -> str:
    """Return a state as tables show it: `Running`."""
    return text[:1].upper() + text[1:]
