"""What a deploy has to do: pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from swarmpy.errors import invalid
from swarmpy.model.service import Service
from swarmpy.model.spec import ServiceSpec
from swarmpy.stack.convert import StackService


class Action(enum.Enum):
    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    REMOVE = "remove"


@dataclass(frozen=True)
class Step:
    """One thing to do; `service` is the present one, `spec` the one to come."""

    action: Action
    name: str
    service: Service | None = None
    spec: ServiceSpec | None = None


def plan(desired: Sequence[StackService], present: Sequence[Service], *, prune: bool) -> list[Step]:
    """Return the steps from the stack's present services to the desired ones: removals, then in order of dependency.

    Raises:
        SwarmError: INVALID_ARGUMENT, services depend on each other in a circle.
    """
    by_name = {service.name: service for service in present}
    wanted = {service.spec.name for service in desired}
    removals = [
        Step(Action.REMOVE, name, service) for name, service in sorted(by_name.items()) if prune and name not in wanted
    ]
    return [*removals, *(_step(service.spec, by_name) for service in in_order(desired))]


def _step(spec: ServiceSpec, present: Mapping[str, Service]) -> Step:
    service = present.get(spec.name)
    if service is None:
        return Step(Action.CREATE, spec.name, spec=spec)
    # A forced update of before is not undone by a deploy that changes nothing.
    task = msgspec.structs.replace(spec.task, force_update=service.spec.task.force_update)
    spec = msgspec.structs.replace(spec, task=task)
    action = Action.KEEP if spec == service.spec else Action.UPDATE
    return Step(action, spec.name, service, spec)


def in_order(services: Sequence[StackService]) -> list[StackService]:
    """Return services after those that they depend on, otherwise in the order of the file."""
    ordered: list[StackService] = []
    waiting = list(services)
    while waiting:
        placed = {service.short for service in ordered}
        ready = next((service for service in waiting if placed.issuperset(service.after)), None)
        if ready is None:
            circle = ", ".join(service.short for service in waiting)
            raise invalid(f"depends_on: these services wait for each other: {circle}")
        ordered.append(ready)
        waiting.remove(ready)
    return ordered
