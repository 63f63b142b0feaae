"""Which objects a list is to hold. An empty field selects everything; several fields must all agree."""

from __future__ import annotations

import msgspec

from swarmpy.model.base import Model
from swarmpy.model.states import Availability, ModeKind, NetworkDriver, NodeRole, TaskState


class ServiceFilter(Model, frozen=True):
    """`ids` and `names` are prefixes; a label with an empty value only has to exist."""

    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    modes: tuple[ModeKind, ...] = ()


class NodeFilter(Model, frozen=True):
    """`ids` and `names` are prefixes; a label with an empty value only has to exist."""

    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    roles: tuple[NodeRole, ...] = ()
    availabilities: tuple[Availability, ...] = ()


class ConfigFilter(Model, frozen=True):
    """`ids` and `names` are prefixes; a label with an empty value only has to exist."""

    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class NetworkFilter(Model, frozen=True):
    """`ids` and `names` are prefixes; a label with an empty value only has to exist."""

    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    drivers: tuple[NetworkDriver, ...] = ()


class TaskFilter(Model, frozen=True):
    """`ids` are prefixes, `service_ids` and `node_ids` full ids."""

    ids: tuple[str, ...] = ()
    service_ids: tuple[str, ...] = ()
    node_ids: tuple[str, ...] = ()
    desired_states: tuple[TaskState, ...] = ()
    slots: tuple[int, ...] = ()
