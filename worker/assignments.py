"""What the manager wants this node to hold, and what a batch of assignments changes in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from swarmpy.errors import Code, SwarmError
from swarmpy.model.base import Model
from swarmpy.model.container import PortBinding
from swarmpy.model.network import NetworkAddress, NetworkRow
from swarmpy.model.service import ServiceVersion, version_id
from swarmpy.model.states import TaskState


class OnNetwork(Model, frozen=True):
    """A network that a task is on, and its address there."""

    row: NetworkRow
    address: str


class Assignment(Model, frozen=True):
    """One task as this node is to run it, with the template that it is made from.

    `row_state` is the state that the manager knew when it sent the task. `withdrawn_at` is the endpoints revision
    that every data plane must have applied before the stop signal; it means something for a `desired_state`
    above RUNNING only.

    A `local` task is a container that a user started on this node: no manager knows of it. It may run again after it
    has stopped, with the files that it wrote; `run` counts that. Its ports are the `bindings`, one host port each, and
    with `stdin` it has a standard input.
    """

    id: str
    service_id: str
    slot: int
    version: ServiceVersion
    desired_state: TaskState = TaskState.RUNNING
    desired_reason: str = ""
    withdrawn_at: int = 0
    row_state: TaskState = TaskState.ASSIGNED
    networks: tuple[OnNetwork, ...] = ()
    local: bool = False
    run: int = 0
    bindings: tuple[PortBinding, ...] = ()
    stdin: bool = False

    @property
    def name(self) -> str:
        """The task's full name: `<service>.<slot>.<task id>`; a local one has the name that its user gave it."""
        if self.local:
            return self.version.name
        return f"{self.version.name}.{self.slot}.{self.id}"

    @property
    def must_stop(self) -> bool:
        """Whether the task is to end. A job's desired COMPLETE lets it run to its own end."""
        return self.desired_state >= TaskState.SHUTDOWN


@dataclass(frozen=True, slots=True)
class AssignedRow:
    """One task of a batch, before its service version is looked up."""

    id: str
    service_id: str
    spec_version: int
    slot: int
    desired_state: TaskState
    desired_reason: str = ""
    withdrawn_at: int = 0
    state: TaskState = TaskState.ASSIGNED
    networks: tuple[NetworkAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """One message of assignments. `complete` replaces everything known; otherwise only what is named changes."""

    complete: bool = False
    tasks: tuple[AssignedRow, ...] = ()
    removed_tasks: tuple[str, ...] = ()
    versions: tuple[ServiceVersion, ...] = ()
    removed_versions: tuple[str, ...] = ()
    networks: tuple[NetworkRow, ...] = ()
    removed_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What the manager has told that tasks refer to by id."""

    versions: Mapping[str, ServiceVersion] = field(default_factory=dict)
    networks: Mapping[str, NetworkRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """What the runner is to do: hold `put` (new or changed), let `removed` end and be forgotten."""

    put: tuple[Assignment, ...] = ()
    removed: tuple[str, ...] = ()


def resolve(batch: Batch, known: Known) -> tuple[tuple[Assignment, ...], Known]:
    """Return the batch's tasks with what they refer to, and what is known after the batch.

    Raises:
        SwarmError: CORRUPT, a task names a version or a network that was never sent; only a new session, which begins
            with a complete set, mends that.
    """
    versions = {} if batch.complete else dict(known.versions)
    versions.update((v.id, v) for v in batch.versions)
    networks = {} if batch.complete else dict(known.networks)
    networks.update((n.id, n) for n in batch.networks)
    tasks = tuple(_assignment(row, Known(versions, networks)) for row in batch.tasks)
    for removed in batch.removed_versions:
        versions.pop(removed, None)
    for removed in batch.removed_networks:
        networks.pop(removed, None)
    return tasks, Known(versions, networks)


def _assignment(row: AssignedRow, known: Known) -> Assignment:
    wanted = version_id(row.service_id, row.spec_version)
    version = known.versions.get(wanted)
    if version is None:
        raise _missing(row, f"service version {wanted}")
    joined = []
    for place in row.networks:
        network = known.networks.get(place.network_id)
        if network is None:
            raise _missing(row, f"network {place.network_id}")
        joined.append(OnNetwork(network, place.address))
    return Assignment(
        id=row.id,
        service_id=row.service_id,
        slot=row.slot,
        version=version,
        desired_state=row.desired_state,
        desired_reason=row.desired_reason,
        withdrawn_at=row.withdrawn_at,
        row_state=row.state,
        networks=tuple(joined),
    )


def _missing(row: AssignedRow, what: str) -> SwarmError:
    return SwarmError(Code.CORRUPT, f"the manager assigned task {row.id} without its {what}; asking for a complete set")


def diff(held: Mapping[str, Assignment], batch: Batch, tasks: tuple[Assignment, ...]) -> Changes:
    """Return what `batch`, resolved to `tasks`, changes in what is held; nothing if they agree already.

    A desired state never moves back: a batch of a manager that knows less than its predecessor changes nothing.
    """
    put = tuple(new for t in tasks if (new := _merged(held.get(t.id), t)) is not None)
    if batch.complete:
        named = {t.id for t in tasks}
        removed = tuple(i for i in held if i not in named)
    else:
        removed = tuple(i for i in batch.removed_tasks if i in held)
    return Changes(put, removed)


def _merged(old: Assignment | None, new: Assignment) -> Assignment | None:
    if old is None:
        return new
    if new.desired_state < old.desired_state:
        return None
    # The template of a task is immutable, and the manager's view of its state is ours by now. A task was withdrawn
    # when its desired state changed; later batches name later revisions.
    withdrawn_at = old.withdrawn_at if old.must_stop and old.withdrawn_at else new.withdrawn_at
    kept = msgspec.structs.replace(
        old,
        desired_state=new.desired_state,
        desired_reason=new.desired_reason,
        withdrawn_at=withdrawn_at,
    )
    return None if kept == old else kept
