"""Whom the tasks of a service pull their image as: given with a change of the service, kept with each version."""

from __future__ import annotations

from manager.api.attachments import check_level
from manager.store.tables import SERVICE_VERSIONS
from manager.store.view import View
from swarmpy.errors import invalid
from swarmpy.model import features
from swarmpy.model.service import RegistryAuth
from swarmpy.model.spec import ServiceSpec
from swarmpy.registry.reference import parse_reference


def check_credentials(view: View, spec: ServiceSpec, auth: RegistryAuth | None) -> None:
    """Refuse credentials that a manager cannot store, or that would be shown to another registry than their own.

    Raises:
        SwarmError: FAILED_PRECONDITION or INVALID_ARGUMENT.
    """
    if auth is None:
        return
    check_level(view, "credentials for the registries of services", features.CREDENTIALS)
    wanted = _registry_of(spec)
    if not wanted:
        raise invalid(f"service {spec.name} has no image: it needs no credentials for a registry")
    if auth.registry != wanted:
        raise invalid(f"the image of service {spec.name} is in {wanted}, and the credentials are for {auth.registry}")


def inherited(view: View, service_id: str, spec: ServiceSpec) -> RegistryAuth | None:
    """Return what the service was last given for the registry of its image: a change without credentials keeps them."""
    wanted = _registry_of(spec)
    versions = view.find(SERVICE_VERSIONS, "service_id", service_id)
    for version in sorted(versions, key=lambda v: v.number, reverse=True):
        if version.pull_auth is not None and version.pull_auth.registry == wanted:
            return version.pull_auth
    return None


def _registry_of(spec: ServiceSpec) -> str:
    """Return the registry of the image; plain processes have none."""
    image = spec.task.container.image
    return parse_reference(image).domain if image else ""
