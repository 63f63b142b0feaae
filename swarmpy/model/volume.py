"""A volume that a node has, as its users see it."""

from __future__ import annotations

from swarmpy.model.base import Model


class LocalVolume(Model, frozen=True):
    """A directory that outlives containers.

    `task_id` is the task or container that an anonymous one belongs to and goes with. `used_by` are the ids of the
    containers that mount it, running or not.
    """

    name: str
    labels: dict[str, str] = {}
    created_at: float = 0.0
    mountpoint: str = ""
    task_id: str = ""
    used_by: tuple[str, ...] = ()
