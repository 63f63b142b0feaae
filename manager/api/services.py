"""Use cases of services: create, update, roll back, remove, list."""

from __future__ import annotations

import msgspec

from manager.api.attachments import with_network_ids
from manager.api.credentials import check_credentials, inherited
from manager.api.paging import Rows, has_labels, has_prefix, read_page
from manager.api.ports import check_ports, target_ports
from manager.api.resolve import find_service
from manager.api.sequence import check_in_sequence
from manager.api.warnings import service_warnings
from manager.store.store import Store
from manager.store.tables import SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.clock import Clock
from swarmpy.errors import Code, InvalidSpecError, SwarmError, invalid, precondition
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model.service import RegistryAuth, Service, ServiceVersion, UpdateStatus, version_id
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.states import ModeKind, TaskState
from swarmpy.model.validate import validate_service


class Services:
    """What a user may do with services."""

    def __init__(self, store: Store, clock: Clock, random_bytes: RandomBytes) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    async def create(
        self, spec: ServiceSpec, request_id: str, auth: RegistryAuth | None = None
    ) -> tuple[Service, list[str]]:
        """Store a new service; return it with what the user should know.

        Args:
            auth: whom its tasks pull the image as.

        Raises:
            SwarmError: INVALID_ARGUMENT with every fault of the spec, ALREADY_EXISTS for its name or a port.
        """
        _check(spec)
        now_s = self._clock.now()
        service_id = new_id(self._random_bytes)

        def change(tx: Transaction) -> Service:
            _check_name(tx, spec)
            check_ports(tx, spec, service_id)
            check_credentials(tx, spec, auth)
            wanted = with_network_ids(tx, spec)
            tx.create(SERVICE_VERSIONS, _version(service_id, 1, wanted, auth, now_s))
            return tx.create(
                SERVICES,
                Service(id=service_id, spec=wanted, created_at=now_s, updated_at=now_s, spec_revision=tx.revision),
            )

        service = await self._store.update(change, request_id=request_id)
        return service, service_warnings(self._store.view(), spec)

    async def update(
        self,
        service_id: str,
        version: int,
        spec: ServiceSpec | None,
        request_id: str,
        auth: RegistryAuth | None = None,
    ) -> tuple[Service, list[str]]:
        """Replace a service's spec; None puts the previous one back.

        Args:
            version: that of the service that the change was built on.
            auth: whom its tasks pull the image as; None keeps what was given before for the image's registry. Alone it
                changes nothing for tasks that are there.
        Raises:
            SwarmError: OUT_OF_SEQUENCE where the spec changed since, INVALID_ARGUMENT, NOT_FOUND.
        """
        if spec is not None:
            _check(spec)
        now_s = self._clock.now()

        def change(tx: Transaction) -> Service:
            service = find_service(tx, service_id)
            check_in_sequence(f"service {service.name}", version, service.spec_revision)
            wanted = spec if spec is not None else _previous(service)
            check_credentials(tx, wanted, auth)
            return _replace_spec(tx, service, with_network_ids(tx, wanted), auth, now_s)

        service = await self._store.update(change, request_id=request_id)
        return service, service_warnings(self._store.view(), service.spec)

    async def remove(self, ref: str, request_id: str) -> str:
        """Remove a service; its tasks are stopped. Returns its id. NOT_FOUND: there is none."""

        def change(tx: Transaction) -> str:
            service = find_service(tx, ref)
            tx.delete(SERVICES, service.id)
            return service.id

        return await self._store.update(change, request_id=request_id)

    def get(self, ref: str) -> Service:
        return find_service(self._store.view(), ref)

    def list(self, wanted: pb.ServiceFilter, page: pb.Page) -> Rows[Service]:
        """Return one page of the services that pass the filter."""
        ids, names, modes = tuple(wanted.ids), tuple(wanted.names), set(wanted.modes)
        labels = dict(wanted.labels)

        def is_wanted(service: Service) -> bool:
            return (
                has_prefix(service.id, ids)
                and has_prefix(service.name, names)
                and has_labels(service.spec.labels, labels)
                and (not modes or int(service.spec.mode.kind) in modes)
            )

        return read_page(self._store.view(), SERVICES, page, is_wanted)

    def status(self, service: Service) -> pb.ServiceStatus:
        """Count the service's tasks."""
        running = ready = 0
        for task in self._store.view().find(TASKS, "service_id", service.id):
            # Members of an enumeration are one object each: to compare them as numbers takes twice as long.
            if task.desired_state is TaskState.RUNNING and task.state is TaskState.RUNNING:
                running += 1
                ready += task.ready
        mode = service.spec.mode
        desired = mode.replicas if mode.kind is ModeKind.REPLICATED else running
        return pb.ServiceStatus(desired=desired, running=running, ready=ready)


def _check(spec: ServiceSpec) -> None:
    problems = validate_service(spec)
    if problems:
        raise InvalidSpecError(problems)


def _check_name(tx: Transaction, spec: ServiceSpec) -> None:
    taken = tx.find(SERVICES, "name", spec.name)
    for other in taken:
        raise SwarmError(
            Code.ALREADY_EXISTS, f"service {other.name} exists already: choose another name, or update that service"
        )


def _previous(service: Service) -> ServiceSpec:
    if service.previous_spec is None:
        raise precondition(f"service {service.name} has no previous spec: there is nothing to roll back to")
    return service.previous_spec


def _replace_spec(
    tx: Transaction, service: Service, spec: ServiceSpec, auth: RegistryAuth | None, now_s: float
) -> Service:
    if spec.name != service.name:
        raise invalid(f"service {service.name} cannot be renamed to {spec.name!r}: create a new service instead")
    if spec.mode.kind is not service.spec.mode.kind:
        raise invalid(f"the mode of service {service.name} cannot be changed: create a new service instead")
    check_ports(tx, spec, service.id)
    changed = msgspec.structs.replace(
        service, spec=spec, previous_spec=service.spec, updated_at=now_s, spec_revision=tx.revision
    )
    if template(spec) != template(service.spec):
        number = service.spec_version + 1
        pull_auth = auth or inherited(tx, service.id, spec)
        tx.create(SERVICE_VERSIONS, _version(service.id, number, spec, pull_auth, now_s))
        # What was said of the update before does not hold for this one.
        changed = msgspec.structs.replace(changed, spec_version=number, update_status=UpdateStatus())
    elif auth is not None:
        current = tx.get(SERVICE_VERSIONS, version_id(service.id, service.spec_version))
        if current is not None and current.pull_auth != auth:
            tx.update(SERVICE_VERSIONS, msgspec.structs.replace(current, pull_auth=auth))
    return tx.update(SERVICES, changed)


def template(spec: ServiceSpec) -> tuple[object, ...]:
    """Return what a task is made from: two specs with equal templates have interchangeable tasks."""
    return (spec.task, target_ports(spec))


def _version(
    service_id: str, number: int, spec: ServiceSpec, pull_auth: RegistryAuth | None, now_s: float
) -> ServiceVersion:
    return ServiceVersion(
        id=version_id(service_id, number),
        service_id=service_id,
        number=number,
        name=spec.name,
        labels=spec.labels,
        task=spec.task,
        ports=target_ports(spec),
        created_at=now_s,
        pull_auth=pull_auth,
    )
