"""Which networks services join: names become ids when a spec is stored, and ids keep a network from being removed."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from manager.api.cluster import the_cluster
from manager.api.resolve import find_network
from manager.store.tables import SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.view import View
from swarmpy.errors import invalid, precondition
from swarmpy.model import features
from swarmpy.model.network import PREDEFINED
from swarmpy.model.spec import NetworkAttachment, ServiceSpec
from swarmpy.model.states import TaskState


def with_network_ids(view: View, spec: ServiceSpec) -> ServiceSpec:
    """Return the spec with ids in place of the names of networks.

    Raises:
        SwarmError: NOT_FOUND or INVALID_ARGUMENT for a name; FAILED_PRECONDITION while a manager's release is too old.
    """
    if not spec.task.networks:
        return spec
    check_level(view, "services that join networks")
    joined = tuple(_resolved(view, one) for one in spec.task.networks)
    targets = [one.target for one in joined]
    for one, given in zip(joined, spec.task.networks, strict=True):
        if targets.count(one.target) > 1:
            raise invalid(f"network {given.target} is joined twice, by different names: drop one")
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, networks=joined))


def check_level(view: View, what: str, needed: int = features.NETWORKS) -> None:
    """Raise FAILED_PRECONDITION if a manager could not read what is about to be stored."""
    level = the_cluster(view).feature_level
    if level < needed:
        raise precondition(
            f"a manager of this cluster cannot store {what} yet (feature level {level}, "
            f"{needed} is needed): upgrade all managers first"
        )


def users_of(view: View, network_id: str) -> list[str]:
    """Return the names of the services that join a network, or still have tasks of an older version on it."""
    names = {s.name for s in view.all(SERVICES) if joins(s.spec.task.networks, network_id)}
    for version in view.all(SERVICE_VERSIONS):
        service = view.get(SERVICES, version.service_id)
        if service is None or service.name in names or not joins(version.task.networks, network_id):
            continue
        tasks = view.find(TASKS, "service_id", service.id)
        # Tasks that are on their way out need the network no more: what they have of it they keep until they stop.
        if any(
            t.spec_version == version.number and t.desired_state <= TaskState.RUNNING and not t.state.is_stopped
            for t in tasks
        ):
            names.add(service.name)
    return sorted(names)


def joins(networks: Iterable[NetworkAttachment], network_id: str) -> bool:
    return any(one.target == network_id for one in networks)


def _resolved(view: View, one: NetworkAttachment) -> NetworkAttachment:
    if one.target in PREDEFINED:
        return one
    return msgspec.structs.replace(one, target=find_network(view, one.target).id)
