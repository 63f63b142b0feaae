"""Assignments of containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from swarmpy.model.endpoints import ServicePort
from swarmpy.model.service import ServiceVersion
from swarmpy.model.spec import NO_RESOURCES, ContainerSpec, NetworkAttachment, Resources, TaskSpec
from swarmpy.model.states import Runtime
from worker.assignments import Assignment

IMAGE: Final = "web:1"


def task(
    task_id: str,
    command: Sequence[str] = (),
    *,
    ports: Sequence[int | ServicePort] = (),
    limits: Resources = NO_RESOURCES,
    network: str = "",
    **container: Any,
) -> Assignment:
    """Return the assignment of a container task; `container` are fields of its ContainerSpec."""
    spec = ContainerSpec(**{"image": IMAGE, "command": tuple(command), "stop_grace_period_s": 1.0, **container})
    attachments = (NetworkAttachment(target=network),) if network else ()
    version = ServiceVersion(
        id="s1/1",
        service_id="s1",
        number=1,
        name="web",
        task=TaskSpec(runtime=Runtime.CONTAINER, container=spec, limits=limits, networks=attachments),
        ports=tuple(ServicePort(target=port) if isinstance(port, int) else port for port in ports),
    )
    return Assignment(id=task_id, service_id="s1", slot=1, version=version)
